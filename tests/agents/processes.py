"""The agents in processes of their own; shared by the tests of whole runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.forked import Program

ROOT = Path(__file__).parents[2]
IMAGES = "tests.rl.tiny_images:TinyImages-v0"
SMALL = {
    "ppo": (
        "--num-steps=128", "--num-minibatches=2", "--update-epochs=2", "--checkpoint-interval=1",
    ),
    "a2c": ("--num-steps=4", "--log-interval=8", "--checkpoint-interval=32"),
    "stream_ac": ("--log-interval=32", "--checkpoint-interval=128"),
}  # fmt: skip
each_agent = pytest.mark.parametrize("agent", SMALL)
each_agent_of_rollouts = pytest.mark.parametrize("agent", ["ppo", "a2c"])


def start(agent: str, *options: str, cwd: Path, **environment: str) -> Program:
    """Start an agent; modules of environments are found in ``cwd`` and in the checkout."""
    path = os.pathsep.join((str(cwd), str(ROOT), os.environ.get("PYTHONPATH", "")))
    return Program(
        ROOT / "agents" / f"{agent}.py",
        *options,
        cwd=cwd,
        environment={**os.environ, "PYTHONPATH": path, **environment},
    )


def start_by_command(agent: str, *options: str, cwd: Path) -> subprocess.Popen[str]:
    """Start an agent as a user does."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "agents" / f"{agent}.py"), *options],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def small(agent: str, *options: str, steps: int = 512) -> tuple[str, ...]:
    """Return the options of a run of short rollouts, if any, that saves every 128 steps.

    It compiles nothing and evaluates by one episode, unless the options say otherwise.
    """
    lengths = "--eval-episodes=1", f"--total-timesteps={steps}"
    return *SMALL[agent], "--compile=off", *lengths, *options


def start_small(
    agent: str, *options: str, cwd: Path, steps: int = 512, **environment: str
) -> Program:
    """Start a run with the options of `small`."""
    return start(agent, *small(agent, *options, steps=steps), cwd=cwd, **environment)


def finish(process: Program | subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end; return exit status, output and errors."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def run_small(agent: str, *options: str, cwd: Path, steps: int = 512, **environment: str) -> Path:
    """Train to the end without a word on standard error; return the directory of the run."""
    status, _, err = finish(start_small(agent, *options, cwd=cwd, steps=steps, **environment))
    assert (status, err) == (0, "")
    return only_run(cwd)


def resume(agent: str, run: Path, *options: str, cwd: Path, **environment: str):
    """Resume a run; return exit status, output and errors."""
    return finish(start(agent, "--resume", str(run), *options, cwd=cwd, **environment))


def only_run(folder: Path) -> Path:
    """Return the directory of the one run there is."""
    (run,) = (folder / "runs").iterdir()
    return run


def wait_for(process: Program, folder: Path, name: str) -> Path:
    """Wait for a file of the one run that a process makes; return the directory of the run."""
    while not (found := list(folder.glob(f"runs/*/{name}"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return found[0].parent


def rows(run: Path) -> list[tuple[int, str, str]]:
    """Return step, key and value of the rows of metrics.csv, without the times.

    Times are what no two runs share.
    """
    times = "charts/SPS", "charts/seconds"
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    return [(int(step), key, value) for step, _, key, value in lines if key not in times]
