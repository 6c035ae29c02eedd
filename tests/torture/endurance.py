"""A long run: neither memory nor the number of open files grows."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.agents.processes import SMALL, finish, small, start
from tests.torture.faults import Fault

SAMPLES = 20
LONGEST_ROLLOUT = 128
"""Steps of the longest rollout, by which a run may be shorter than it was asked to be."""
MAX_GROWTH = 16 << 20
"""How much more memory the second half of a run may take at most (bytes)."""


def _used(pid: int) -> tuple[int, int]:
    """Return the memory (bytes) and the number of open files of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))


def _step(cwd: Path) -> int:
    """Return the step of the last row of metrics of the run in a folder."""
    for path in cwd.glob("runs/*/metrics.csv"):
        with path.open("rb") as file:
            file.seek(-min(path.stat().st_size, 200), os.SEEK_END)
            rows = re.findall(rb"^(\d+),.*\n", file.read(), flags=re.MULTILINE)
            return int(rows[-1]) if rows else 0
    return 0


def long_runs(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Train ``count`` steps in all, shared by the agents."""
    for agent in SMALL:
        steps = count // len(SMALL)
        cwd = folder / agent
        cwd.mkdir()
        options = small(agent, "--env-id=InvertedPendulum-v5", "--seed", str(rng.randrange(1000)))
        # A run of this length is compiled, as it is for users.
        left_out = ("--total-timesteps", "--compile")
        options = [option for option in options if not option.startswith(left_out)]
        process = start(agent, *options, f"--total-timesteps={steps}", cwd=cwd)
        seen = []
        # What follows training, evaluation and picture, takes memory of its own.
        while process.poll() is None and _step(cwd) <= steps - LONGEST_ROLLOUT:
            try:
                seen.append(_used(process.pid))
            except OSError:
                break  # it has just ended
            time.sleep(0.2)
        status, _, err = finish(process)
        err = re.sub(r"compiling the training step .*\n", "", err)
        lost = f"{agent}: status {status}, {err!r}" if status or err else ""
        if not lost and len(seen) > 4 * SAMPLES:
            training = seen[len(seen) // 4 :]
            half = len(training) // 2
            early, late = (max(part) for part in (training[:half], training[half:]))
            # A checkpoint that is being written is a file more.
            files = [median(n for _, n in part) for part in (training[:half], training[half:])]
            if late[0] - early[0] > MAX_GROWTH or files[1] > files[0]:
                lost = f"{agent}: {early[0]:,} to {late[0]:,} bytes, {files} files"
        yield from (Fault(lost) for _ in range(steps))
