"""Agents whose surroundings fail: numbers that are not finite, no answer, no memory, no disk."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from hesrl.runs.checkpoint import load_checkpoint
from tests.agents.faulty import FAULTY
from tests.agents.processes import SMALL, finish, only_run, start, start_small, wait_for
from tests.torture.faults import Fault

PLACES = ("reset", "observation", "reward", "huge", "raise", "shape", "memory")
SAVED_EVERY = 128


def environments(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Let an environment fail at a random step: one line, and the last checkpoint can go on."""
    for number in range(count):
        cwd = folder / str(number)
        cwd.mkdir()
        agent, place = rng.choice([*SMALL]), PLACES[number % len(PLACES)]
        at = rng.randint(SAVED_EVERY + 72, 700)
        process = start_small(
            agent, f"--env-id={FAULTY}", cwd=cwd, steps=768, FAULT=f"{place} {at}"
        )
        status, _, err = finish(process)
        yield Fault(_goes_on(agent, cwd, status, err, f"{agent}, {place} at {at}"))
        shutil.rmtree(cwd)


def _goes_on(agent: str, cwd: Path, status: int, err: str, what: str) -> str:
    """Return what is wrong with a run that has failed, after having resumed it."""
    run = only_run(cwd)
    if status not in (1, 2) or not err.startswith("error: ") or err.count("\n") != 1:
        return f"{what}: status {status}, {err!r}"
    step = load_checkpoint(run / "checkpoint.pt")["global_step"]
    status, _, err = finish(start(agent, "--resume", str(run), cwd=cwd))
    if status or err:
        return f"{what}: resuming at {step} ended with status {status}, {err!r}"
    return ""


def hanging(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Let an environment never answer: SIGINT twice, or SIGTERM and SIGKILL, end it; it goes on."""
    for number in range(count):
        cwd = folder / str(number)
        cwd.mkdir()
        agent = rng.choice([*SMALL])
        process = start_small(agent, f"--env-id={FAULTY}", cwd=cwd, steps=768, FAULT="hang 300")
        run = wait_for(process, cwd, "checkpoint.pt")
        while load_checkpoint(run / "checkpoint.pt")["global_step"] < 256:
            time.sleep(0.05)
        time.sleep(rng.uniform(0.5, 1.0))
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        try:
            status, _, err = finish(process)
        except subprocess.TimeoutExpired:
            process.kill()
            yield Fault(f"{agent} does not end")
            continue
        lost = "" if status == 130 and "Traceback" not in err else f"status {status}: {err!r}"
        status, _, err = finish(start(agent, "--resume", str(run), cwd=cwd))
        yield Fault(lost or (f"resuming: status {status}, {err!r}" if status or err else ""))


def disks(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Fill the disk at a random moment of training: one line, and the last checkpoint goes on."""
    for number in range(count):
        agent, cwd = rng.choice([*SMALL]), folder / str(number)
        cwd.mkdir()
        process = start_small(agent, "--env-id=InvertedPendulum-v5", cwd=cwd, steps=100_000)
        run = wait_for(process, cwd, "checkpoint.pt")
        time.sleep(rng.uniform(0, 0.5))
        # No file of this process may grow; the files are as long as they are.
        kind = resource.RLIMIT_FSIZE
        resource.prlimit(process.pid, kind, (1, resource.prlimit(process.pid, kind)[1]))
        status, _, err = finish(process)
        if status != 2 or not err.startswith("error: cannot write ") or err.count("\n") != 1:
            yield Fault(f"{agent}: status {status}, {err!r}")
            continue
        step = load_checkpoint(run / "checkpoint.pt")["global_step"]
        resumed = start(agent, "--resume", str(run), cwd=cwd)
        while load_checkpoint(run / "checkpoint.pt")["global_step"] == step:
            if resumed.poll() is not None:
                break
            time.sleep(0.05)
        resumed.terminate()
        status, _, err = finish(resumed)
        yield Fault("" if status == 143 else f"{agent} resumed: status {status}, {err!r}")


def read_only(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Start in a folder that may not be written, as a user who is not root: one line, at once."""
    for number in range(count):
        agent, cwd = rng.choice([*SMALL]), folder / str(number)
        (cwd / "runs").mkdir(parents=True)
        if os.geteuid():
            (cwd / "runs").chmod(0o555)
        else:  # root may write anywhere but to another kind of file
            (cwd / "runs").rmdir()
            (cwd / "runs").write_text("")
        status, _, err = finish(start_small(agent, "--env-id=InvertedPendulum-v5", cwd=cwd))
        named = status == 2 and err.startswith("error: ") and err.count("\n") == 1
        yield Fault("" if named else f"status {status}, {err!r}")
