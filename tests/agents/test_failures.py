"""The agents, each a process, where their surroundings fail: one line, and a checkpoint is kept."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import time
from pathlib import Path

import pytest

from hesrl.runs.checkpoint import load_checkpoint
from tests.agents.faulty import FAULTY
from tests.agents.processes import (
    each_agent,
    finish,
    only_run,
    resume,
    start,
    start_small,
    wait_for,
)

WHERE = (
    rf"error: {FAULTY}, environment 0 \(seed 5\), step 50 of its episode, "
    "step 300 of the run:"
)
FAR_OFF = 1_000_000


def fail(agent: str, tmp_path: Path, fault: str) -> tuple[str, str, Path]:
    """Train until the fault, which is after two checkpoints; return the output and the run."""
    options = f"--env-id={FAULTY}", "--seed=5"
    process = start_small(agent, *options, cwd=tmp_path, steps=384, FAULT=f"{fault} 300")
    status, out, err = finish(process)
    run = only_run(tmp_path)
    assert status == 1 and load_checkpoint(run / "checkpoint.pt")["global_step"] == 256
    return out, err, run


@each_agent
def test_an_environment_that_raises_is_named_and_the_run_can_go_on(tmp_path, agent):
    out, err, run = fail(agent, tmp_path, "raise")
    message = r"raised ValueError\('joint limit\\nof joint 3'\) \(faulty.py, line \d+\)"
    assert re.fullmatch(f"{WHERE} {message}\n", err), err
    assert f"--resume {run.relative_to(tmp_path)}" in out
    status, _, err = resume(agent, run, cwd=tmp_path)
    assert (status, err) == (0, "")


@pytest.mark.parametrize(
    ("agent", "fault", "message"),
    [
        ("ppo", "observation", "gave an observation whose entry 0 is inf"),
        ("a2c", "reward", "gave the reward nan"),
        ("stream_ac", "reward", "gave the reward nan"),
    ],
)
def test_a_number_that_is_not_finite_reaches_no_checkpoint(tmp_path, agent, fault, message):
    _, err, _ = fail(agent, tmp_path, fault)
    assert re.fullmatch(f"{WHERE} {message}\n", err), err


@pytest.fixture(params=["tmpfs", "limit"])
def disk(request, tmp_path):
    """A folder, and a function that leaves no space for a process in it, or gives it back.

    The limit takes space from that process alone, so that there is none to give back.
    """
    if request.param == "limit":
        files = resource.RLIMIT_FSIZE

        def fill(process, full=True):
            if full:
                resource.prlimit(process.pid, files, (1, resource.prlimit(process.pid, files)[1]))
            return False

        yield tmp_path, fill
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a file system; the other case needs none")
    filler = tmp_path / "filler"

    def fill(process, full=True):
        if not full:
            filler.unlink()
            return True
        with pytest.raises(OSError, match="No space left"), filler.open("wb", 0) as file:
            while True:
                file.write(bytes(1024))
        return True

    yield tmp_path, fill
    subprocess.run(["umount", str(tmp_path)], check=True)


@each_agent
def test_a_full_disk_is_one_line_and_the_run_can_go_on(disk, agent):
    folder, fill = disk
    # The end lies far off, so that the disk is full before it.
    process = start_small(agent, "--env-id=InvertedPendulum-v5", cwd=folder, steps=FAR_OFF)
    run = wait_for(process, folder, "checkpoint.pt")
    fill(process)
    status, out, err = finish(process)
    assert status == 2 and err.count("\n") == 1, err
    assert re.match(r"error: cannot write \S+: (No space left on device|File too large); ", err)
    step = load_checkpoint(run / "checkpoint.pt")["global_step"]
    assert step >= 128 and f"{step}, give" in out
    if not fill(process, full=False):
        return
    resumed = start(agent, "--resume", str(run), cwd=folder)
    while load_checkpoint(run / "checkpoint.pt")["global_step"] == step:
        assert resumed.poll() is None, resumed.communicate()
        time.sleep(0.05)
    resumed.terminate()
    assert finish(resumed)[0] == 143


@each_agent
def test_a_second_process_in_a_run_is_refused_and_does_not_disturb(tmp_path, agent):
    first = start_small(agent, "--env-id=InvertedPendulum-v5", cwd=tmp_path, steps=FAR_OFF)
    run = wait_for(first, tmp_path, "checkpoint.pt")
    status, out, err = resume(agent, run, cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err == f"error: {run} is in use by process {first.pid}: wait until it ends, or stop it\n"
    first.terminate()
    status, _, err = finish(first)
    assert status == 143 and "error" not in err
    load_checkpoint(run / "checkpoint.pt")
