"""Fixtures shared by the tests of run directories."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hesrl.runs.directory import RunDirectory

CONFIG = {"optimizer": "adahesscale", "learning_rate": 1e-3, "hidden": (64, 64), "note": None}


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[Callable[..., RunDirectory]]:
    """Makes runs below ``tmp_path`` and unlocks them in the end."""
    made = []

    def make(env_id: str = "HalfCheetah-v5", config: object = CONFIG) -> RunDirectory:
        given = {"env_id": env_id, "agent": "ppo", "optimizer": "adahesscale", "seed": 3}
        made.append(RunDirectory.create(tmp_path / "runs", config=config, **given))
        return made[-1]

    yield make
    for run in made:
        run.close()


@pytest.fixture
def run(make_run: Callable[..., RunDirectory]) -> RunDirectory:
    """One fresh run."""
    return make_run()


@pytest.fixture
def start() -> Callable[..., object]:
    """Starts Python on some code, with pipes, and kills it at the end of the ``with`` block."""

    @contextmanager
    def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        with subprocess.Popen(command, text=True, **pipes) as started:
            try:
                yield started
            finally:
                started.kill()

    return process
