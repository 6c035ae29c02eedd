"""What the settings say about the environment: its arguments, and rollouts in real time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hesrl.agents import a2c, ppo
from hesrl.cli import run_command
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import UserError
from hesrl.rl.env_options import check_real_time, env_options

REAL = "hesrl/UR5ReacherReal-v0"


def test_options_are_literals_or_text():
    options = "speed_limit=0.1", "joint_low=(-3, -2.0)", "xml_file=a=b", "flag=True"
    assert env_options(options, "10.0.0.2") == {
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
    settings = {"env_id": REAL, "eval_interval": None, "capture_video": False, "yes": True}
    envs = NormalizedEnvs(REAL, 1, seed=1, gamma=0.9, env_options={"host": "x"})
    check_real_time(SimpleNamespace(**settings), envs, num_steps=200)
    option = "--" + setting.replace("_", "-")
    with pytest.raises(UserError, match=f"{option}: would interrupt {REAL}"):
        check_real_time(SimpleNamespace(**{**settings, setting: value}), envs)
