"""Where a run comes from: package versions, git commit, command line, time."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("hesrl", "torch", "numpy", "gymnasium", "mujoco")


def provenance() -> dict[str, Any]:
    """What is needed to repeat a run besides its settings.

    Returns:
        ``versions`` (package name to version, None where a package is not installed), ``commit``
        and ``dirty`` (see `git_state`), ``created`` (local time, ISO 8601 with the offset from
        UTC) and ``command`` (the command line, quoted for a shell).
    """
    commit, dirty = git_state(Path(__file__))
    return {
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        "commit": commit,
        "dirty": dirty,
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
    }


def git_state(file: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout that ``file`` belongs to, and whether tracked files differ from it.

    Args:
        file: A source file. It must be tracked by git: an installed copy that merely lies inside
            some other checkout (a virtual environment in a project) does not get that commit.

    Returns:
        ``(commit, dirty)``, or ``(None, None)`` outside a checkout or where git is not installed.
    """
    try:
        _git(file, "ls-files", "--error-unmatch", file.name)
        commit = _git(file, "rev-parse", "HEAD").strip()
        return commit, bool(_git(file, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(file: Path, *arguments: str) -> str:
    command = ["git", "-C", str(file.parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
