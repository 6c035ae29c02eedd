"""Whole runs of the agents by subprocess, as a user starts, stops and resumes them."""

import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hesrl.runs import load_checkpoint

FOLDER = Path(__file__).parents[2] / "agents"
SMALL = {
    "ppo": ("--num-steps", "256", "--num-minibatches", "4", "--update-epochs", "2"),
    "a2c": ("--num-steps", "4", "--log-interval", "8", "--checkpoint-interval", "256"),
}
each_agent = pytest.mark.parametrize("agent", SMALL)


def start(*options: str, cwd: Path, steps: int = 1024, agent: str = "ppo") -> subprocess.Popen[str]:
    command = [sys.executable, str(FOLDER / f"{agent}.py")]
    if "--resume" not in options:
        command += [*SMALL[agent], "--total-timesteps", str(steps), "--eval-episodes", "1"]
    command += options
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def only_run(folder: Path) -> Path:
    (run,) = (folder / "runs").iterdir()
    return run


def numbers(run: Path) -> list[str]:
    """Return the rows of metrics.csv without wall time and speed, which no two runs share."""
    rows = [row.split(",") for row in (run / "metrics.csv").read_text().splitlines()]
    return [",".join((step, key, value)) for step, _, key, value in rows if key != "charts/SPS"]


def assert_same(a: object, b: object, where: str = "checkpoint") -> None:
    if isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys(), where
        for key in a:
            if key != "seconds":
                assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


@pytest.mark.parametrize(
    ("agent", "optimizer"),
    [("ppo", "adam"), ("ppo", "adahesscale"), ("a2c", "sgd"), ("a2c", "scaled-adahesscalegn")],
)
def test_run_leaves_everything_a_user_needs(tmp_path, agent, optimizer):
    options = ("--optimizer", optimizer, "--env-id", "Hopper-v5")
    status, out, err = finish(start(*options, cwd=tmp_path, agent=agent))
    assert (status, err) == (0, "")
    run = only_run(tmp_path)
    assert re.fullmatch(rf"Hopper-v5__{agent}__{optimizer}__1__\d{{8}}-\d{{6}}", run.name)
    assert "tensorboard --logdir runs" in out and "evaluation episodes" in out
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["settings"]["optimizer"] == optimizer
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 1024 and math.isfinite(summary["return of 1 evaluation episodes"])
    assert (run / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(run)).Reload()
    keys = events.Tags()["scalars"]
    assert {"charts/episodic_return", "losses/value_loss", "charts/SPS"} <= set(keys)
    assert ("curvature/norm" in keys) == ("hesscale" in optimizer)


@pytest.mark.parametrize(
    ("agent", "options", "signum"),
    [
        ("ppo", ("--env-id", "Hopper-v5", "--optimizer", "scaled-adam"), signal.SIGTERM),
        ("ppo", ("--env-id", "Ant-v5"), signal.SIGINT),
        ("a2c", ("--env-id", "Hopper-v5", "--paper"), signal.SIGTERM),
        ("a2c", ("--env-id", "HalfCheetah-v5", "--num-envs", "2"), signal.SIGINT),
    ],
)
def test_interrupted_and_resumed_run_equals_an_uninterrupted_one(tmp_path, agent, options, signum):
    folders = tmp_path / "whole", tmp_path / "parts"
    for folder in folders:
        folder.mkdir()
    whole = start(*options, cwd=folders[0], steps=8192, agent=agent)
    parts = start(*options, cwd=folders[1], steps=8192, agent=agent)
    while not list(folders[1].glob("runs/*/metrics.csv")):
        assert parts.poll() is None, parts.communicate()
        time.sleep(0.05)
    time.sleep(0.3)
    parts.send_signal(signum)
    status, out, err = finish(parts)
    assert status == 128 + signum, (out, err)
    assert "stopping after this update" in err
    path = re.search(r"--resume (\S+)", out)[1]

    status, out, err = finish(start("--resume", path, cwd=folders[1], agent=agent))
    assert (status, err) == (0, "")
    assert finish(whole)[0] == 0
    run, resumed = only_run(folders[0]), only_run(folders[1])
    assert_same(load_checkpoint(run / "checkpoint.pt"), load_checkpoint(resumed / "checkpoint.pt"))
    assert numbers(run) == numbers(resumed)


@each_agent
def test_killed_run_goes_on_from_its_last_checkpoint(tmp_path, agent):
    interval = {"ppo": "1", "a2c": "8"}[agent]
    process = start("--checkpoint-interval", interval, cwd=tmp_path, steps=16_384, agent=agent)
    while not list(tmp_path.glob("runs/*/checkpoint.pt")):
        time.sleep(0.05)
    process.kill()
    process.communicate()
    run = only_run(tmp_path)
    before = load_checkpoint(run / "checkpoint.pt")["global_step"]
    assert 0 < before < 16_384
    status, _, err = finish(start("--resume", str(run), cwd=tmp_path, agent=agent))
    assert (status, err) == (0, "")
    steps = [int(row.split(",")[0]) for row in numbers(run)[1:]]
    assert steps == sorted(steps) and steps[-1] == 16_384


def test_resume_of_an_environment_whose_state_cannot_be_saved_says_so(tmp_path):
    options = ("--env-id", "Pendulum-v1", "--checkpoint-interval", "1")
    process = start(*options, cwd=tmp_path, steps=9216)
    while not list(tmp_path.glob("runs/*/checkpoint.pt")):
        time.sleep(0.05)
    process.terminate()
    assert finish(process)[0] == 143
    status, out, _ = finish(start("--resume", str(only_run(tmp_path)), cwd=tmp_path))
    assert status == 0
    assert "cannot be saved: it starts a new episode" in out


@pytest.mark.parametrize(
    ("agent", "options", "message"),
    [
        ("ppo", ("--env-id", "HalfCheeta-v5"), "did you mean HalfCheetah-v5"),
        ("ppo", ("--env-id", "CartPole-v1"), "CartPole-v1 has actions Discrete(2)"),
        ("ppo", ("--optimizer", "adamw"), "choose one of sgd, adam, adahesscale"),
        (
            "ppo",
            ("--lerning-rate", "1"),
            "--lerning-rate: did you mean --learning-rate?",
        ),
        ("ppo", ("--num-minibatches", "7"), "does not divide the rollout of 256 steps"),
        ("a2c", ("--env-id", "CartPole-v1"), "CartPole-v1 has actions Discrete(2)"),
        ("a2c", ("--optimizer", "adahessian"), "do not compute its curvature, hutchinson"),
        ("a2c", ("--checkpoint-interval", "7"), "must be a multiple of --log-interval 8"),
        ("a2c", ("--paper", "--total-timesteps", "3"), "is less than one rollout of 4 steps"),
        ("ppo", ("--runs-dir", "/dev/null/runs"), "choose a writable folder"),
        ("ppo", ("--resume", "nowhere"), "no run directory nowhere"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, agent, options, message):
    status, out, err = finish(start(*options, cwd=tmp_path, agent=agent))
    assert status == 2
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert out == "" and list(tmp_path.iterdir()) == []


def test_resume_refuses_other_settings_and_a_corrupt_checkpoint(tmp_path):
    assert finish(start(cwd=tmp_path))[0] == 0
    run = only_run(tmp_path)
    status, _, err = finish(start("--resume", str(run), "--seed", "2", cwd=tmp_path))
    assert status == 2 and "--seed does not go with --resume" in err
    (run / "checkpoint.pt").write_bytes(b"PK\x03\x04 nonsense")
    status, _, err = finish(start("--resume", str(run), cwd=tmp_path))
    assert status == 2 and err.count("\n") == 1 and "checkpoint.pt" in err


@each_agent
def test_number_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(tmp_path, agent):
    options = ("--learning-rate", "1e30", "--checkpoint-interval", {"ppo": "1", "a2c": "8"}[agent])
    status, _, err = finish(start(*options, cwd=tmp_path, steps=4096, agent=agent))
    assert status == 1
    assert err.startswith("error: ") and err.count("\n") == 1
    # A2C looks once per log interval; its policy may act on NaN before.
    assert "is not finite at step" in err or (agent == "a2c" and "an action is NaN" in err)
    assert "try a smaller --learning-rate or a larger --eps" in err
