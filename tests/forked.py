"""Programs in processes that start at once: a server that has imported hesrl forks them.

A program is a process as any other, with its own signals, pipes, working directory and environment.
Only the 5 s are saved in which it would import PyTorch.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "hesrl.agents.ppo",
        "hesrl.agents.a2c",
        "hesrl.agents.stream_ac",
        "hesrl.envs.ur5.commands.serve_emulator",
        "matplotlib.figure",
        "hesrl.runs.event_file",
        "torch._dynamo",
    ]
)


class Pipe:
    """The end of a pipe into which a program writes."""

    def __init__(self, end: int) -> None:
        self.end = end

    def __reduce__(self) -> tuple[Any, ...]:
        return Pipe.received, (DupFd(self.end),)

    @classmethod
    def received(cls, end: Any) -> Pipe:
        """Return the end that has come with a program."""
        return cls(end.detach())


def run(
    script: str, options: list[str], cwd: str, environment: dict[str, str], pipes: list[Pipe]
) -> None:
    """Be the program: what `python script options` does."""
    for number, pipe in enumerate(pipes, start=1):
        os.dup2(pipe.end, number)
        os.close(pipe.end)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = [script, *options]
    runpy.run_path(script, run_name="__main__")


class Program:
    """A script in a process of its own, with what tests use of `subprocess.Popen`.

    Args:
        script: Path of the script.
        *options: What follows on the command line.
        cwd: Working directory.
        environment: The whole environment.

    Attributes:
        pid: Number of the process.
    """

    def __init__(
        self, script: Path, *options: str, cwd: Path, environment: Mapping[str, str]
    ) -> None:
        reads, writes = zip(os.pipe(), os.pipe(), strict=True)
        given = str(script), [*options], str(cwd), dict(environment), [*map(Pipe, writes)]
        # Whoever leaves a test does not wait for a program that the test has left behind.
        self._process = SERVER.Process(target=run, args=given, daemon=True)
        self._process.start()
        self.pid: int = self._process.pid
        for end in writes:
            os.close(end)
        pool = ThreadPoolExecutor(2)
        self._read = [pool.submit(_read, end) for end in reads]
        pool.shutdown(wait=False)

    @property
    def returncode(self) -> int | None:
        """The exit status, −n after signal n, None before the end."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit status, None before the end."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit status."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self), timeout or 0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return output and errors."""
        self.wait(timeout)
        out, err = (read.result() for read in self._read)
        return out, err

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless the program has ended."""
        if self.returncode is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _read(end: int) -> str:
    with os.fdopen(end) as pipe:
        return pipe.read()
