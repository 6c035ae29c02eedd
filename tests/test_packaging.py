"""What an installation holds, and what ``make`` says when it cannot install."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "hesrl": "hesrl",
    "agents": "hesrl/agents",
    "envs": "hesrl/envs",
    "configs": "hesrl/configs",
}
METADATA = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from the source distribution of a clean copy."""
    source = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
    for name in METADATA:
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "build", "--no-isolation", str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (path,) = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_installs_hesrl_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    top_level = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"hesrl"}


def test_wheel_holds_every_source_file(wheel: zipfile.ZipFile) -> None:
    expected = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".yaml", ".typed", ".cpp", ".h"}
    }
    assert {name for name in wheel.namelist() if name.startswith("hesrl/")} == expected


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_wheel_declares_the_command(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "hesrl = hesrl.cli:main" in wheel.read(entry_points).decode()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile and what it reads, and a ``bin`` of tools without Python."""
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "cat", "cp", "echo", "mkdir", "rm", "sed"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or tool)
    return tmp_path


def add_python(checkout: Path, *, fails_at: str) -> None:
    """Write a ``python3`` that copies itself for ``-m venv`` and fails at a command with a word."""
    path = checkout / "bin" / "python3"
    path.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *{fails_at}*) exit 1 ;; esac\n'
        'case "$*" in "-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;; esac\n'
    )
    path.chmod(0o755)


def make(checkout: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("make") or "make", *args]
    environment = {"PATH": str(checkout / "bin")}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)


def errors(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on standard error, without make's own."""
    assert result.returncode != 0
    return [line for line in result.stderr.splitlines() if not line.startswith("make: ")]


def test_make_without_python_says_so_in_one_line(checkout: Path) -> None:
    (line,) = errors(make(checkout, "test"))
    assert line.startswith("error: no Python 3.10 or newer (tried: python3 python3.13")


def test_make_with_an_old_python_says_so_in_one_line(checkout: Path) -> None:
    add_python(checkout, fails_at="version_info")
    (line,) = errors(make(checkout, "test", "PYTHON=python3"))
    assert line.startswith("error: no Python 3.10 or newer (tried: python3);")


def test_make_with_a_python_without_venv_names_the_package(checkout: Path) -> None:
    add_python(checkout, fails_at="ensurepip")
    (line,) = errors(make(checkout, "train"))
    assert line.startswith("error: python3 has no venv or ensurepip module")
    assert "apt install python3-venv" in line


def test_make_leaves_no_stamp_after_a_failed_installation(checkout: Path) -> None:
    add_python(checkout, fails_at="dev")
    (line,) = errors(make(checkout, "lint"))
    assert line.startswith("error: the installation failed")
    assert (checkout / ".venv" / "bin" / "python").exists()
    assert not (checkout / ".venv" / ".installed").exists()


def test_make_installs_again_only_when_the_requirements_change(checkout: Path) -> None:
    add_python(checkout, fails_at="nothing")
    assert "Installing hesrl" in make(checkout, "test").stdout
    assert make(checkout, "test").stdout == ""
    (checkout / "constraints.txt").touch()
    assert "Installing hesrl" in make(checkout, "test").stdout


def test_make_installs_again_in_a_moved_checkout(checkout: Path) -> None:
    add_python(checkout, fails_at="nothing")
    make(checkout, "test")
    moved = checkout.rename(checkout.with_name("moved"))
    assert "Installing hesrl" in make(moved, "test").stdout


def test_make_test_torch_asks_for_a_release(checkout: Path) -> None:
    add_python(checkout, fails_at="nothing")
    (line,) = errors(make(checkout, "test-torch"))
    assert line == "error: name a release of PyTorch: make test-torch TORCH=2.12.1"
    assert not (checkout / "build").exists()


def test_another_pytorch_is_pinned_in_an_environment_of_its_own(checkout: Path) -> None:
    add_python(checkout, fails_at="nothing")
    result = make(checkout, "test-torch", "TORCH=2.12.1")
    assert result.returncode == 0, result.stderr
    assert "Installing hesrl and what it needs into build/torch-2.12.1;" in result.stdout
    pins = (checkout / "build" / "torch-2.12.1" / "constraints.txt").read_text().splitlines()
    before = (checkout / "constraints.txt").read_text().splitlines()
    changed = {line.partition("==")[0] for line in {*pins} ^ {*before}}
    assert changed == {"torch", "setuptools"} and "torch==2.12.1" in pins
    assert not (checkout / ".venv").exists()
    assert make(checkout, "test-torch", "TORCH=2.12.1").stdout == ""


def test_make_test_runs_on_all_cores_unless_it_is_told_what_to_run(checkout: Path) -> None:
    add_python(checkout, fails_at="nothing")
    make(checkout, "test")
    every, some = (make(checkout, "--dry-run", "test", *args) for args in ((), ("ARGS=-k ppo",)))
    assert every.stdout.endswith(" -m pytest -n auto --maxprocesses 8 --dist loadgroup\n")
    assert some.stdout.endswith(" -m pytest -k ppo\n")
