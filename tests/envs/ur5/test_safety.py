"""What keeps the arm safe, whatever the agent does, also when it dies."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from hesrl.envs.ur5.kinematics import UR5
from hesrl.envs.ur5.urscript import parse
from tests.envs.ur5.emulated import (
    SETTINGS,
    before_cycles,
    commands,
    emulate,
    eventually,
    pause,
    reacher,
    rests,
)

AGENT = """
import os, sys, time
from hesrl.envs.ur5.real import UR5ReacherReal

env = UR5ReacherReal("127.0.0.1", int(sys.argv[1]), stale_after=5.0, emulator_speed=2.0)

def act(count):
    for t in range(count):
        if env.step([0.5, -0.5] if t % 50 < 25 else [-0.5, 0.5])[3]:
            env.reset()

env.reset(seed=0)
act(10)
print("moving", flush=True)
"""


def test_no_action_exceeds_the_limits(emulator, env):
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for size in 10.0 ** rng.uniform(-3, 30, 99):
        env.step(size * rng.standard_normal(2))
    motions = [parse(line) for line in commands(emulator, "speedj")]
    assert len(motions) >= 99
    assert max(np.abs(joints).max() for _, joints, _ in motions) == 0.3
    assert all(not any(joints[0:1] + joints[3:]) for _, joints, _ in motions)
    # The guard that returns into the box brakes harder.
    assert all(a == 1.4 or 2 <= a <= 5 for a in (options["a"] for _, _, options in motions))
    assert emulator.controller.max_speed <= 0.3 + 1e-12


@pytest.mark.parametrize(
    "action",
    [
        [np.nan, 0.0],
        [0.0, np.inf],
        [0.1],
        [0.1, 0.1, 0.1],
        [[0.1, 0.1]],
        0.1,
        ["up", "down"],
        [None, 0.1],
        [True, False],
    ],
)
def test_an_action_that_is_none_is_refused_before_anything_is_sent(linked, controller, action):
    linked.reset(seed=0)
    with pytest.raises(ValueError, match="two finite numbers"):
        linked.step(action)
    pause(controller, 0.1)
    state = controller.state()
    assert state["last_command"].startswith("movej") and not state["refused"]
    assert linked.step([0.5, 0.5])[3] is False


def play_into(guard, action, **options):
    """Step with one action until a guard has acted for some time, and return the joints' angles.

    A speed holds for little more than a cycle, so that the arm is slower on a busy machine.
    """
    with emulate(speed=4.0) as emulator:
        env = reacher(emulator, t_min=0.02, episode_time=40.0, **options)
        env.reset(seed=0)
        angles, acted = [], 0
        while acted < 40:
            obs, *_, info = env.step(action)
            acted += info["guard"] == guard
            angles.append(obs[:2])
            assert len(angles) < 1000
        env.close()
    return np.array(angles)


@pytest.mark.parametrize("action", [[1, 0], [-1, 0], [1, 1], [-1, 1], [1, -1]])
def test_the_tool_stays_in_the_box(action):
    angles = play_into("box", action)
    q = np.tile(SETTINGS.q_ref, (len(angles), 1))
    q[:, 1:3] = angles
    places = UR5.forward(q)
    low, high = [-0.2, *SETTINGS.box_low], [0.2, *SETTINGS.box_high]
    assert (places > np.array(low) - 0.05).all()
    assert (places < np.array(high) + 0.05).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_joints_stay_within_their_limits(sign):
    limits = {"joint_low": (-2.5, 1.4), "joint_high": (-2.3, 1.6)}
    angles = play_into("joint", [sign, sign], **limits)
    assert (angles > np.array(limits["joint_low"]) - 0.05).all()
    assert (angles < np.array(limits["joint_high"]) + 0.05).all()


def rests_for_good(emulator):
    """Whether the arm comes to rest and is left there."""
    assert rests(emulator)
    count = len(emulator.controller.commands)
    pause(emulator, 0.3)
    return len(emulator.controller.commands) == count and not emulator.controller.arm.is_moving


@contextmanager
def agent(emulator, ending, code=AGENT, *ports):
    """Run an agent in a process of its own, which moves the arm already."""
    command = [sys.executable, "-c", code + ending, *map(str, ports or [emulator.port])]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            assert process.stdout.readline() == "moving\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_the_arm_comes_to_rest_when_the_agent_is_killed_or_stopped(signum):
    with emulate(speed=2.0) as emulator, agent(emulator, "act(10**9)") as process:
        arm, moving = emulator.controller.arm, []
        record = lambda: moving.append(arm.time) if arm.is_moving else None  # noqa: E731
        before_cycles(emulator, *[record] * 10**5)
        assert eventually(lambda: arm.is_moving)
        process.send_signal(signum)
        assert rests_for_good(emulator)
        # Nobody could send a stop: the last speed has run out, and the arm has slowed down.
        last, line = emulator.controller.commands[-1]
        assert line.startswith("speedj") and moving[-1] - last < 0.5


def test_the_program_on_the_controller_stops_the_arm_when_the_agent_is_killed():
    over_rtde = "rtde_reacher import UR5ReacherRtde as Reacher\n"
    code = AGENT.replace("real import UR5ReacherReal", over_rtde)
    code = code.replace("UR5ReacherReal(", "Reacher(")
    code = code.replace("stale_after=5.0", "stale_after=2.0, script_port=int(sys.argv[2])")
    with (
        emulate(speed=2.0) as emulator,
        agent(emulator, "act(10**9)", code, emulator.rtde_port, emulator.script_port) as process,
    ):
        assert eventually(lambda: emulator.controller.arm.is_moving)
        process.send_signal(signal.SIGKILL)
        assert eventually(lambda: emulator.state()["last_command"] == "stopj(a=3.000000000)")
        assert rests_for_good(emulator)
        assert eventually(lambda: emulator.controller.report["runtime_state"] == 1)


ENDINGS = {
    "act(5)": "",
    "act(5); env.close()": "",
    "act(5); env = None; time.sleep(60)": None,
    "act(5); raise OSError('the learner broke')": "the learner broke",
    "act(5); env.step([float('nan'), 0])": "ValueError",
    "act(10**9)": "KeyboardInterrupt",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_arm_is_stopped_however_the_agent_ends(ending):
    expected = ENDINGS[ending]
    with emulate(speed=2.0) as emulator, agent(emulator, ending) as process:
        if expected == "KeyboardInterrupt":
            process.send_signal(signal.SIGINT)
        assert eventually(lambda: emulator.state()["last_command"] == "stopj(a=3.000000000)")
        assert rests_for_good(emulator)
        if expected is not None:
            assert expected in process.communicate(timeout=60)[1]


def test_the_arm_stops_half_a_second_after_the_agent_falls_silent():
    with emulate(speed=2.0) as emulator, agent(emulator, "time.sleep(60)"):
        assert eventually(lambda: emulator.state()["last_command"] == "stopj(a=3.000000000)")
        sent = [time for time, line in emulator.controller.commands if line.startswith("speedj")]
        stop, _ = emulator.controller.commands[-1]
        # It follows the last speed at once, but for what else this machine is busy with.
        assert 0 < stop - sent[-1] < 1
        assert rests_for_good(emulator)


def test_an_agent_that_pauses_goes_on_afterwards(emulator, env):
    env.reset(seed=0)
    env.step([0.5, 0.5])
    assert eventually(lambda: commands(emulator, "stopj(a=3"))
    assert rests(emulator)
    *_, truncated, info = env.step([0.5, 0.5])
    assert not truncated and "fault" not in info and info["late"]
