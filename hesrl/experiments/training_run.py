"""One training run of an agent in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hesrl.errors import UserError
from hesrl.runs import RunDirectory


def train(agent: str, options: Sequence[str], runs_dir: Path, name: str) -> RunDirectory:
    """Run ``hesrl train <agent>`` and return the newest run of a folder.

    Args:
        agent: Name of the agent, such as ``ppo``.
        options: Options of the command line.
        runs_dir: Where the run directory goes.
        name: What an error calls the run.

    Raises:
        UserError: The run failed; the message has the last line of its error output.
    """
    command = [sys.executable, "-m", "hesrl.cli", "train", agent, *options]
    command += ["--runs-dir", str(runs_dir)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        raise UserError(f"{name}: {lines[-1].removeprefix('error: ')}")
    return RunDirectory.open(max(runs_dir.iterdir()), read_only=True)
