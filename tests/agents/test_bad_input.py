"""Mistakes in the input of the agents: one line, and nothing is left behind."""

import os
import signal
import sys

import pytest
import torch

from hesrl.cli import main
from tests.agents.processes import (
    IMAGES,
    each_agent,
    each_agent_of_rollouts,
    finish,
    run_small,
    start_by_command,
)

PPO, A2C, STREAM = ("train", "ppo"), ("train", "a2c"), ("train", "stream-ac")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in; what `main` sets in torch is as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    torch.set_flush_denormal(False)


def refused(capsys, *command):
    """Run a command that is refused, in this process; return its one line."""
    assert main([*map(str, command)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (PPO, ("--env-id", "HalfCheeta-v5"), "did you mean HalfCheetah-v5"),
        (PPO, ("--optimizer", "adamw"), "choose one of sgd, adam, adahes"),
        (PPO, ("--optimizer", "adaggnmc"), "samples from a likelihood, which a policy loss is not"),
        (PPO, ("--lerning-rate", "1"), "--lerning-rate: did you mean --learning-rate?"),
        (PPO, ("--num-minibatches", "7"), "does not divide the rollout of 2048 steps"),
        (PPO, ("--env-id", "CartPole-v1", "--paper"), "discrete actions have no variance"),
        (PPO, ("--runs-dir", "/dev/null/runs"), "choose a writable folder"),
        (PPO, ("--resume", "nowhere"), "no run directory nowhere"),
        (PPO, ("--paper", "--resume", "nowhere"), "--paper does not go with --resume"),
        (A2C, ("--env-id", "CartPole-v1", "--variance-network"), "have no variance"),
        (A2C, ("--checkpoint-interval", "150"), "must be a multiple of --log-interval 100"),
        (A2C, ("--paper", "--total-timesteps", "3"), "is less than one rollout of 5 steps"),
        (A2C, ("--hidden-sizes", "64", "0"), "--hidden-sizes (64, 0): must be greater than zero"),
        (STREAM, ("--env-id", IMAGES), f"--env-id {IMAGES}: observes images, which stream-ac does"),
        (STREAM, ("--num-envs", "4"), "unknown option --num-envs: a trace belongs to one env"),
        (STREAM, ("--learning-rate", "1"), "steps have the sizes --eta-policy and --eta-value"),
        (STREAM, ("--lambda", "1"), "unknown option --lambda: did you mean --lamda?"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(here, capsys, command, options, message):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert message in refused(capsys, *command, *options)
    assert os.listdir(here) == []
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


@each_agent
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_named(here, capsys, agent):
    err = refused(capsys, "train", agent.replace("_", "-"), "--device", "cuda")
    assert err.startswith("error: --device cuda: cannot be used: ") and os.listdir(here) == []


@each_agent_of_rollouts
def test_a_video_that_cannot_be_made_is_refused_before_the_run(here, capsys, monkeypatch, agent):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    err = refused(capsys, "train", agent, "--env-id", IMAGES, "--capture-video")
    assert "--capture-video needs imageio-ffmpeg" in err and os.listdir(here) == []


def test_resume_refuses_other_settings_and_agents_and_a_corrupt_checkpoint(here, capsys):
    run = run_small("ppo", "--env-id=CartPole-v1", cwd=here, steps=256)
    resume = "--resume", run
    assert "--seed does not go with --resume" in refused(capsys, *PPO, *resume, "--seed", "2")
    assert "is of another agent or version" in refused(capsys, *A2C, *resume)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("gamma: 0.99", "gamma: hello"))
    err = refused(capsys, *PPO, *resume)
    assert err == f"error: {run}/config.yaml: gamma: 'hello' is not a number\n"
    (run / "config.yaml").write_text(config)
    (run / "summary.json").unlink()  # as of a run that has not ended
    (run / "checkpoint.pt").write_bytes(b"PK\x03\x04 nonsense")
    assert "checkpoint.pt" in refused(capsys, *PPO, *resume)
    (run / "checkpoint.pt").unlink()
    assert "has no checkpoint yet: start the run anew" in refused(capsys, *PPO, *resume)


@each_agent
def test_a_mistake_is_the_exit_status_of_the_script(tmp_path, agent):
    status, out, err = finish(start_by_command(agent, "--env-id", "HalfCheeta-v5", cwd=tmp_path))
    assert (status, out, os.listdir(tmp_path)) == (2, "", [])
    assert err == "error: no environment 'HalfCheeta-v5': did you mean HalfCheetah-v5?\n"
