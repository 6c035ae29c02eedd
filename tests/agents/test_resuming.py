"""Runs that were stopped, killed or finished, each a process, and how they go on."""

import json
import re
import signal
from pathlib import Path

import pytest

from hesrl.runs.checkpoint import load_checkpoint
from tests.agents.processes import (
    each_agent,
    finish,
    only_run,
    resume,
    rows,
    run_small,
    start_small,
    wait_for,
)
from tests.compiler import COMPILER
from tests.rl.comparison import assert_same

COMPILING = r"(compiling the training step .*\n)?"
REACH = "tests.rl.toy_spaces:ToyReach-v0"
"""Observes a Dict, takes MultiDiscrete or MultiBinary, and has a state that can be saved."""


@pytest.mark.parametrize(
    ("agent", "options", "signum"),
    [
        ("ppo", ("--env-id=Ant-v5", "--paper", "--eval-interval=4"), signal.SIGINT),
        ("a2c", ("--env-id=Hopper-v5", "--paper"), signal.SIGTERM),
        ("ppo", (f"--env-id={REACH}", "--num-envs=2"), signal.SIGTERM),
        ("a2c", (f"--env-id={REACH}", "--env-options", "actions=bits"), signal.SIGINT),
        ("stream_ac", (f"--env-id={REACH}",), signal.SIGINT),
        ("ppo", ("--env-id=Hopper-v5", "--paper", "--optimizer=kfac"), signal.SIGTERM),
        ("ppo", ("--env-id=Hopper-v5", "--desired-kl=0.01"), signal.SIGTERM),
        ("a2c", ("--env-id=Hopper-v5", "--num-envs=2", "--optimizer=scaled-adam"), signal.SIGINT),
        pytest.param("ppo", ("--env-id=Hopper-v5", "--compile=on"), signal.SIGTERM, marks=COMPILER),
        pytest.param(
            "stream_ac", ("--env-id=Hopper-v5", "--compile=on"), signal.SIGTERM, marks=COMPILER
        ),
    ],
)
def test_interrupted_and_resumed_run_equals_an_uninterrupted_one(tmp_path, agent, options, signum):
    folders, cache = (tmp_path / "whole", tmp_path / "parts"), str(tmp_path / "cache")
    for folder in folders:
        folder.mkdir()
    steps = 1024 if agent == "stream_ac" and "--compile=on" not in options else 4096
    settings = {"steps": steps, "HESRL_CACHE": cache}
    whole = start_small(agent, *options, cwd=folders[0], **settings)
    if "--compile=on" in options:
        whole.wait()  # it leaves what it has compiled to the others
    parts = start_small(agent, *options, cwd=folders[1], **settings)
    wait_for(parts, folders[1], "checkpoint.pt")
    parts.send_signal(signum)
    status, out, err = finish(parts)
    assert status == 128 + signum, (out, err)
    assert "stopping after this update" in err
    path = re.search(r"--resume (\S+)", out)[1]
    assert 0 < load_checkpoint(folders[1] / path / "checkpoint.pt")["global_step"] < steps

    status, out, err = resume(agent, path, cwd=folders[1], HESRL_CACHE=cache)
    assert (status, err) == (0, "")
    status, _, err = finish(whole)
    assert status == 0 and re.fullmatch(COMPILING, err), err
    run, resumed = only_run(folders[0]), only_run(folders[1])
    assert_same(load_checkpoint(run / "checkpoint.pt"), load_checkpoint(resumed / "checkpoint.pt"))
    assert rows(run) == rows(resumed)
    assert any(Path(cache).glob("step-*.so")) == ("--compile=on" in options)


@each_agent
def test_a_finished_run_is_left_alone_or_extended(tmp_path, agent):
    """Extended, it is the run that was as long from the beginning."""
    constant = () if agent == "stream_ac" else ("--no-anneal-lr",)
    folders = [tmp_path / name for name in ("whole", "extended")]
    runs = []
    for folder, steps in zip(folders, (512, 256), strict=True):
        folder.mkdir()
        runs.append(run_small(agent, "--env-id=Hopper-v5", *constant, cwd=folder, steps=steps))
    whole, extended = runs
    before = {file: file.read_bytes() for file in extended.iterdir()}
    status, out, err = resume(agent, extended, cwd=folders[1])
    assert (status, err) == (0, "")
    assert out == f"{extended} is finished after 256 steps; a larger --total-timesteps extends it\n"
    assert {file: file.read_bytes() for file in extended.iterdir()} == before
    status, out, err = resume(agent, extended, "--total-timesteps=512", cwd=folders[1])
    assert (status, err) == (0, "") and f"resuming {extended}" in out
    states = [load_checkpoint(run / "checkpoint.pt") for run in (whole, extended)]
    assert_same(*states)
    assert [row for row in rows(extended) if row[:2] != (256, "eval/episodic_return")] == rows(
        whole
    )
    assert json.loads((extended / "summary.json").read_text())["steps"] == 512


@each_agent
def test_killed_run_goes_on_from_its_last_checkpoint(tmp_path, agent):
    process = start_small(agent, "--env-id=InvertedPendulum-v5", cwd=tmp_path, steps=2048)
    run = wait_for(process, tmp_path, "checkpoint.pt")
    process.kill()
    process.communicate()
    before = load_checkpoint(run / "checkpoint.pt")["global_step"]
    assert 0 < before < 2048
    status, _, err = resume(agent, run, cwd=tmp_path)
    assert (status, err) == (0, "")
    steps = [step for step, *_ in rows(run)]
    assert steps == sorted(steps) and steps[-1] == 2048


@each_agent
def test_a_run_that_is_killed_in_its_last_evaluation_has_one_in_the_end(tmp_path, agent):
    run = run_small(agent, "--env-id=InvertedPendulum-v5", cwd=tmp_path, steps=256)
    whole = rows(run)
    (run / "summary.json").unlink()  # the last file but the picture
    assert resume(agent, run, cwd=tmp_path)[::2] == (0, "")
    assert rows(run) == whole and (run / "summary.json").exists()


def test_resume_of_an_environment_whose_state_cannot_be_saved_says_so(tmp_path):
    process = start_small("ppo", "--env-id=Pendulum-v1", cwd=tmp_path, steps=4096)
    run = wait_for(process, tmp_path, "checkpoint.pt")
    process.terminate()
    assert finish(process)[0] == 143
    status, out, _ = resume("ppo", run, cwd=tmp_path)
    assert status == 0
    assert "cannot be saved: it starts a new episode" in out
