"""The environment through SenseAct, at the emulator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from gymnasium.error import ResetNeeded

from hesrl.envs.mujoco import make_env
from hesrl.envs.ur5 import senseact
from hesrl.envs.ur5.real import HOST_VARIABLE
from hesrl.errors import UserError
from tests.envs.ur5.emulated import eventually, reacher

pytest.importorskip("senseact.devices", reason=f"needs SenseAct: {senseact.INSTALL}")
pytestmark = pytest.mark.senseact


def test_the_guards_of_senseact_are_reported(env):
    env.reset(seed=0)
    guards = [env.step([1, 1])[4]["guard"] for _ in range(60)]
    assert guards[0] is None and "box" in guards
    assert env.reset()[1]["guard"] is None


def test_the_settings_reach_senseact(served):
    start, limits = (1.6, -2.4, 1.5, -0.7, 1.6, 1.0), {"joint_low": (-2.5, 1.4)}
    limits |= {"joint_high": (-2.3, 1.6), "speed_limit": 0.1, "acceleration": 1.0}
    env = reacher(served, "senseact", q_ref=start, **limits)
    obs, _ = env.reset(seed=0)
    assert obs[:2] == pytest.approx(start[1:3], abs=0.01)
    served.control("clear")
    steps = [env.step([1, -1]) for _ in range(40)]
    state = served.state()
    env.close()
    assert max(step[0][2] for step in steps) == pytest.approx(1, abs=0.05)
    assert "joint" in {step[4]["guard"] for step in steps}
    assert state["max_speed"] == pytest.approx(0.1)
    assert state["max_acceleration"] == pytest.approx(1.0)


@pytest.mark.parametrize("options", [{"dt": 0.0431}, {"host": None}])
def test_impossible_arguments_are_refused(monkeypatch, options):
    monkeypatch.delenv(HOST_VARIABLE, raising=False)
    with pytest.raises(UserError):
        make_env("hesrl/UR5ReacherReal-v0", **{"host": "::1", "backend": "senseact", **options})


def test_gym_is_not_left_behind(env):
    before = {name for name in sys.modules if name.partition(".")[0] == "gym"}
    env.reset(seed=0)
    assert before == {name for name in sys.modules if name.partition(".")[0] == "gym"}


def test_closing_and_halting_stop_the_arm_and_end_the_process(env, served):
    for way_out in (env.halt, env.close):
        env.reset(seed=0)
        env.step([1, 1])
        pid = env._link.reacher.communicator.pid
        way_out()
        assert served.state()["last_command"] == "stopj(a=3.000000000)"
        assert eventually(lambda: served.state()["connections"] == 0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(ResetNeeded):
            env.step([0, 0])


def test_a_command_written_between_two_looks_is_not_lost():
    senseact.load_link()
    from hesrl.envs.ur5.senseact_communicator import Buffer

    buffer = Buffer(1, "d", "d")
    buffer.write([1.0])
    assert buffer.updated() and buffer.read_update()[0][0] == 1
    assert not buffer.updated()
    buffer.write([2.0])
    buffer.read_update()
    assert buffer.updated()


AGENT = """
import sys, time
from hesrl.envs.ur5 import make_real

options = {"stale_after": 5.0, "emulator_speed": 2.0}
env = make_real("127.0.0.1", int(sys.argv[1]), backend="senseact", **options)
env.reset(seed=0)
t = 0

def act(count):
    global t
    for _ in range(count):
        t += 1
        if env.step([0.5, -0.5] if t % 50 < 25 else [-0.5, 0.5])[3]:
            env.reset()

act(10)
print("moving", flush=True)
"""

ENDINGS = {
    "act(10**9)": signal.SIGKILL,
    "act(10**9) ": signal.SIGINT,
    "act(5)": None,
    "act(5); env = None; time.sleep(60)": None,
    "time.sleep(60)": None,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_arm_is_stopped_however_the_agent_ends(serve, ending):
    serving = serve(speed=2.0)
    command = [sys.executable, "-c", AGENT + ending, str(serving.port)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as agent:
        assert any(line == "moving\n" for line in agent.stdout)
        if (signum := ENDINGS[ending]) is not None:
            agent.send_signal(signum)
        assert eventually(lambda: serving.state()["last_command"].startswith("stopj(a=3.0"))
        assert eventually(lambda: not serving.state()["is_moving"])
        time.sleep(1.5)  # the communicator looks for its agent once per second
        assert not serving.state()["is_moving"]
        left = serving.state()["connections"]
        assert left == ("sleep" in ending and "None" not in ending)
        agent.kill()
