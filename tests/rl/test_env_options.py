"""What the settings say about the environment: its arguments, and rollouts in real time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hesrl.agents import a2c, ppo
from hesrl.cli import run_command
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import UserError
from hesrl.rl.actor_critic import Agent
from hesrl.rl.env_options import check_real_time, env_options
from hesrl.rl.numpy_forward import Acting
from hesrl.rl.rollout import make_batch, rollout
from tests.envs.test_real_time import clocks, register  # noqa: F401

REAL = "hesrl/UR5ReacherReal-v0"


def test_options_are_literals_or_text():
    args = SimpleNamespace(
        env_options=("speed_limit=0.1", "joint_low=(-3, -2.0)", "xml_file=a=b", "flag=True"),
        robot_host="10.0.0.2",
    )
    assert env_options(args) == {
        "speed_limit": 0.1, "joint_low": (-3, -2.0), "xml_file": "a=b", "flag": True,
        "host": "10.0.0.2",
    }  # fmt: skip


def test_they_reach_the_environment():
    options = {"speed_limit": 0.1, "max_episode_steps": 7}
    envs = NormalizedEnvs("hesrl/UR5Reacher-v0", 2, seed=1, gamma=0.9, env_options=options)
    assert envs.lend().unwrapped.settings.speed_limit == 0.1
    assert envs.lend().spec.max_episode_steps == 7


@pytest.mark.parametrize("agent", [ppo, a2c])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--robot-host", "10.0.0.2"], "--robot-host: environment HalfCheetah-v5 takes no host"),
        (["--env-options", "sped=1"], "--env-options sped=…: environment HalfCheetah-v5 takes no"),
        (["--env-options", "speed"], "--env-options speed: write name=value"),
        (["--env-options", "a=1", "a=2"], "--env-options a=2: write name=value, and each name on"),
        (["--robot-host", "x", "--env-options", "host=y"], "--robot-host is the host of --env-op"),
        (["--env-id", REAL], "no address of a UR controller"),
        (["--env-id", REAL, "--robot-host", "x", "--num-steps", "2048"],
         "--num-steps 2048: hesrl/UR5ReacherReal-v0 runs in real time, so that learning has to "
         "wait for the end of an episode of 100 steps: give 2000, or another multiple"),
        (["--env-id", REAL, "--robot-host", "x", "--num-steps", "64"], "give 100, or another"),
        (["--env-id", REAL, "--robot-host", "x", "--num-envs", "2"], "--num-envs 2: hesrl/UR5Rea"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(tmp_path, capsys, monkeypatch, agent, options, message):
    monkeypatch.delenv("HESRL_UR5_HOST", raising=False)
    status = run_command(agent.Args, agent.main, [*options, "--runs-dir", str(tmp_path / "runs")])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1) and message in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("setting", "value"), [("eval_interval", 100), ("capture_video", True)])
def test_nothing_may_interrupt_what_runs_in_real_time(setting, value):
    settings = {"env_id": REAL, "num_steps": 200, "eval_interval": None, "capture_video": False}
    envs = NormalizedEnvs(REAL, 1, seed=1, gamma=0.9, env_options={"host": "x"})
    check_real_time(SimpleNamespace(**settings), envs)
    option = "--" + setting.replace("_", "-")
    with pytest.raises(UserError, match=f"{option}: would interrupt {REAL}"):
        check_real_time(SimpleNamespace(**{**settings, setting: value}), envs)


def test_a_rollout_cuts_off_the_episode_that_it_ends_in(register):  # noqa: F811
    register()
    torch.manual_seed(0)
    envs = clocks()
    envs.reset()
    acting = Acting(Agent(envs.observation_space, envs.action_space, hidden_sizes=(4,)))
    storage = rollout(envs, acting, 6, np.random.default_rng(0))
    assert storage.truncations[:, 0].tolist() == [False, False, False, True, False, True]
    assert storage.final_obs[5] == 202 and storage.next_obs == 300
    assert len(storage.episodes) == 1
    batch = make_batch(storage, acting, 0.9, 1.0)
    # No more than its reward and the value of what it led to.
    last = storage.rewards[5, 0] + 0.9 * acting.value(storage.final_obs[5])[0]
    torch.testing.assert_close(batch.returns[5].item(), float(last))
