"""The way to the start: what a reset refuses before anything moves, and ``hesrl ur5 home``."""

from __future__ import annotations

import builtins
import re
import sys

import numpy as np
import pytest

from hesrl.agents import ppo, stream_ac
from hesrl.cli import run_command
from hesrl.envs.real_time import confirm_motion
from hesrl.envs.ur5.commands import home
from hesrl.envs.ur5.real import UR5ReacherReal
from hesrl.envs.ur5.simulation import UR5ReacherSim
from hesrl.envs.ur5.way import way_between
from hesrl.errors import EnvironmentFault, UserError
from hesrl.rl import evaluate_run
from tests.envs.ur5.emulated import SETTINGS, commands, eventually, pause, play, put, reacher

Q_REF = np.array(SETTINGS.q_ref)
SHOULDER, ELBOW = np.eye(6)[1:3]


def put_away(emulator, way):
    """Put the arm away from the start, by angles (6,)."""
    put(emulator, Q_REF + way)


@pytest.fixture
def answer(monkeypatch):
    """Sets what is typed at the terminal, which there is then."""

    def set_answer(text):
        monkeypatch.setattr(builtins, "input", lambda prompt: text)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)

    return set_answer


@pytest.fixture
def run_home(emulator, patient, capsys, tmp_path):
    """Runs the command at the emulator and returns its status and what it printed."""

    def run(*options):
        at = ("--host", "127.0.0.1", "--port", str(emulator.port))
        picture = ("--picture", str(tmp_path / "way.png"))
        status = run_command(home.Args, home.main, [*at, *picture, *options])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


FAR = {
    "shoulder 0.4": (0.4 * SHOULDER, r"joint 1 is 0\.40 rad from the start \(-2\.000, not -2\.400"),
    "one turn": (2 * np.pi * SHOULDER, r"joint 1 is 6\.28 rad from the start"),
    "elbow at -2.5": (-4 * ELBOW, r"joint 2 is 4\.00 rad from the start"),
    "wrist 0.6": (0.6 * np.eye(6)[4], r"joint 4 is 0\.60 rad from the start"),
}


@pytest.mark.parametrize("name", FAR)
def test_a_first_reset_moves_no_joint_far(linked, controller, backend, name):
    if backend != "driver":
        pytest.skip("an arm in another process cannot be put there")
    way, message = FAR[name]
    put_away(controller, way)
    with pytest.raises(EnvironmentFault, match=message + ".*hesrl ur5 home --host 127.0.0.1"):
        linked.reset()
    assert not commands(controller, "movej") and not commands(controller, "speedj")


def test_a_first_reset_from_nearby_is_slow(emulator):
    put_away(emulator, 0.28 * SHOULDER)
    env = reacher(emulator, speed_limit=0.1, reset_speed=0.08)
    env.reset(seed=0)
    np.testing.assert_allclose(emulator.controller.arm.q_actual, Q_REF, atol=0.01)
    assert 0.05 < emulator.controller.max_speed <= 0.08
    env.close()


def test_no_reset_is_faster_than_the_speed_limit(emulator):
    env = reacher(emulator, speed_limit=0.2)
    env.reset(seed=0)
    play_outward(env)
    emulator.control("clear")
    env.reset()
    assert 0.1 < emulator.controller.max_speed <= 0.2
    env.close()


def play_outward(env):
    """Step until the arm is further from the start than a first reset allows."""
    while np.abs(env._link.state.q_actual - Q_REF).max() < 0.45:
        assert not env.step([1.0, -0.2])[3]


def test_the_task_returns_from_wherever_it_went(emulator):
    env = reacher(emulator)
    env.reset(seed=0)
    play_outward(env)
    env.reset()
    np.testing.assert_allclose(emulator.controller.arm.q_actual, Q_REF, atol=0.01)
    env.close()


def test_an_arm_that_was_moved_between_two_episodes_is_found_out(emulator):
    env = reacher(emulator)
    env.reset(seed=0)
    play(env, 5)
    put_away(emulator, 0.5 * SHOULDER)
    with pytest.raises(EnvironmentFault, match=r"joint 1 is 0\.(49|5[0-2]) rad from the start"):
        env.reset()
    assert len(commands(emulator, "movej")) == 1
    env.close()


@pytest.mark.parametrize(
    ("angles", "message"),
    [
        ((-2.0, 0.0), r"the tool would come 0\.08 m outside the box, more than 0\.05 m"),
        ((-1.1, 2.2), r"the tool would come to z = -0\.00 m, below 0\.08 m; bring the arm nearer"),
    ],
)
def test_the_way_is_checked_at_every_reset(emulator, angles, message):
    env = reacher(emulator)
    env.reset(seed=0)
    play(env, 2)
    env._link.stop()
    arm = emulator.controller.arm
    assert eventually(lambda: not arm.qd_target.any())
    q = Q_REF.copy()
    q[1:3] = angles
    env._homing.left = q
    put(emulator, q)
    with pytest.raises(EnvironmentFault, match=message):
        env.reset()
    assert len(commands(emulator, "movej")) == 1
    env.close()


def test_ways_within_the_box_stay_in_or_near_it():
    rng = np.random.default_rng(0)
    seen = []
    while len(seen) < 300:
        q = Q_REF.copy()
        q[1:3] = rng.uniform(SETTINGS.joint_low, SETTINGS.joint_high)
        way = way_between(q, Q_REF, SETTINGS)
        tool = way.places[0, 2, 1:]
        if (np.less(SETTINGS.box_low, tool) & np.less(tool, SETTINGS.box_high)).all():
            seen.append(way.outside)
            assert way.too_low is None
    assert 0.01 < max(seen) < 0.035


def test_home_shows_the_way_and_goes_it_slowly(run_home, emulator, answer, tmp_path):
    put_away(emulator, [0.1, 0.5, -0.4, 0, 0.2, 0])
    answer("move")
    status, printed = run_home("--speed-limit", "0.2")
    assert status == 0
    for text in (
        "joints now   1.6872, -1.9000, 1.1000",
        "way          -0.1000, -0.5000, +0.4000, +0.0000, -0.2000, +0.0000 rad",
        "lowest       elbow z ",
        "duration     5.0 s, no joint faster than 0.2 rad/s",
        "arrived",
    ):
        assert text in printed
    np.testing.assert_allclose(emulator.controller.arm.q_actual, Q_REF, atol=0.01)
    assert 0.1 < emulator.controller.max_speed <= 0.2
    assert (tmp_path / "way.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("way", "message"),
    [
        (2 * np.pi * SHOULDER, r"the tool would come to z = -0.\d+ m, below 0.08 m"),
        (-4 * ELBOW, "m, below 0.08 m; bring the arm nearer to the start at the pendant"),
    ],
)
def test_home_refuses_a_way_near_the_floor(run_home, emulator, answer, way, message):
    put_away(emulator, way)
    answer("move")
    status, printed = run_home()
    assert status == 1 and "way " in printed
    assert re.search(message, printed)
    assert not commands(emulator, "movej")


def test_home_moves_nothing_without_the_confirmation(run_home, emulator, answer):
    put_away(emulator, 0.5 * SHOULDER)
    answer("yes")
    status, printed = run_home()
    assert status == 2 and "not confirmed; nothing has moved" in printed
    assert run_home("--speed-limit", "0.5")[0] == 2
    assert not commands(emulator, "movej")


def test_home_does_not_go_where_the_arm_was_moved_meanwhile(run_home, emulator, monkeypatch):
    put_away(emulator, 0.5 * SHOULDER)

    def moved_meanwhile(prompt):
        put_away(emulator, 0.6 * SHOULDER)
        pause(emulator, 0.2)
        return "move"

    monkeypatch.setattr(builtins, "input", moved_meanwhile)
    status, printed = run_home()
    assert status == 1 and "moved by 0.1 rad since its way was checked" in printed
    assert not commands(emulator, "movej")


REAL = ("--env-id=hesrl/UR5ReacherReal-v0", "--robot-host=127.0.0.1")


@pytest.mark.parametrize("agent", [ppo, stream_ac])
def test_training_an_arm_without_a_terminal_or_yes_is_refused(tmp_path, capsys, emulator, agent):
    steps = ["--num-steps=100", "--num-minibatches=4"] if agent is ppo else []
    port = ["--env-options", f"port={emulator.port}"]
    argv = [*REAL, *steps, f"--runs-dir={tmp_path}/runs", *port]
    assert run_command(agent.Args, agent.main, argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "give --yes in a script" in err
    # In the base frame of Universal Robots, where y has the other sign.
    assert "x -0.2 … 0.2, y -0.4 … 0.3, z 0.5 … 1 m" in err and "0.3 rad/s" in err
    assert not (tmp_path / "runs").exists() and not emulator.controller.commands


def test_evaluate_asks_too():
    assert "yes" in vars(evaluate_run.Args(run="x"))


def test_at_a_terminal_it_is_asked_for_once(answer, capsys):
    env = UR5ReacherReal("127.0.0.1")
    answer("move")
    confirm_motion(env, yes=False)
    assert capsys.readouterr().out.startswith("The arm will move shoulder and elbow")
    answer("no")
    with pytest.raises(UserError, match="not confirmed"):
        confirm_motion(env, yes=False)
    confirm_motion(env, yes=True)
    confirm_motion(UR5ReacherSim(), yes=False)
