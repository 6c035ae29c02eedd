"""Tests of a group run in one process of pytest-xdist."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFTEST = """
from tests.conftest import pytest_collection_modifyitems, pytest_xdist_make_scheduler
"""
TESTS = """
import os
import time
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(6))
def test_it(number):
    folder = Path(os.environ["WORKERS"])
    (folder / os.environ["PYTEST_XDIST_WORKER"]).touch()
    for _ in range(4000 if folder.name == "together" else 0):
        if len(list(folder.iterdir())) == 2:
            break
        time.sleep(0.05)
"""


def workers_of(place: Path, tests: Path, folder: Path) -> int:
    """Run tests in two processes, and return how many of them had some."""
    tests.parent.mkdir(parents=True)
    tests.write_text(TESTS)
    (place / "conftest.py").write_text(CONFTEST)
    folder.mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WORKERS": str(folder)}
    subprocess.run(
        [*command, "--import-mode=importlib", f"--rootdir={place}", "."],
        cwd=place,
        env=environment,
        check=True,
    )
    return len(list(folder.iterdir()))


def test_tests_of_a_group_are_in_one_process(tmp_path: Path) -> None:
    tests = tmp_path / "tests" / "envs" / "ur5" / "test_clock.py"
    assert workers_of(tmp_path, tests, tmp_path / "alone") == 1


def test_other_tests_are_shared_among_the_processes(tmp_path: Path) -> None:
    """Each waits until both processes have had one."""
    tests = tmp_path / "tests" / "envs" / "test_ur5.py"
    assert workers_of(tmp_path, tests, tmp_path / "together") == 2
