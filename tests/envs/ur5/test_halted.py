"""Training that SIGSTOP halts and SIGCONT lets go on: the state of the arm is confirmed anew."""

from __future__ import annotations

import json
import re
import signal
import socket

import numpy as np
import pytest

from hesrl.envs.ur5 import urscript
from hesrl.envs.ur5.urscript import parse
from tests.agents.processes import finish, start, start_by_command
from tests.envs.ur5.emulated import SETTINGS, Served, eventually, pause, ports_of, rests


@pytest.fixture
def serving(backend):
    """An emulator in real time, in a process of its own.

    Twice as fast for SenseAct, whose two processes a busy machine delays into disobedience.
    """
    made = Served(speed=2.0 if backend == "senseact" else 1.0)
    yield made
    made.close()


def train(serving, backend, cwd):
    """Start training in episodes of 40 s."""
    # SenseAct's process needs a parent that may have children.
    begin = start_by_command if backend == "senseact" else start
    return begin(
        "stream_ac", "--env-id=hesrl/UR5ReacherReal-v0", "--robot-host=127.0.0.1", "--compile=off",
        "--yes", "--total-timesteps=20000", "--env-options",
        *(f"{name}={port}" for name, port in ports_of(serving, backend).items()),
        f"backend={backend}", f"emulator_speed={serving.speed}", "stale_after=0.2", "t_min=0.08",
        "episode_time=40", "reconnects=10", "reconnect_wait=0.1", cwd=cwd,
    )  # fmt: skip


def commands(serving, after=0.0):
    """Return the commands after a time (s), each with the time at which it came."""
    return [(at, line) for at, line in json.loads(serving.control("commands")) if at > after]


def is_rest(sent):
    """Whether a command asks for rest."""
    name, joints, _ = parse(sent[1])
    return name == "stopj" or (name == "speedj" and not any(joints))


def halt(serving, process):
    """Halt training while the arm moves, and return when the arm was at rest (s)."""

    def moves():
        assert process.poll() is None, process.communicate()
        state = serving.state()
        return state["is_moving"] and (state["last_command"] or "").startswith("speedj")

    # Until then the program has imported PyTorch.
    assert eventually(moves, 240.0)
    process.send_signal(signal.SIGSTOP)
    assert rests(serving)
    at = serving.state()["time"]
    pause(serving, 2.5)
    assert all(map(is_rest, commands(serving, at)))
    return serving.state()["time"]


def displace(serving):
    """Let somebody else move the shoulder by half a rad."""
    goal = np.add(SETTINGS.q_ref, [0, 0.5, 0, 0, 0, 0])
    with socket.create_connection(("127.0.0.1", serving.port)) as other:
        other.sendall(urscript.movej(goal, 1.0, 1.0, 1.0))
        assert eventually(lambda: np.abs(serving.state()["q_actual"] - goal).max() < 1e-3)


def test_nothing_moves_before_the_state_was_confirmed(serving, backend, tmp_path):
    process = train(serving, backend, tmp_path)
    halted = halt(serving, process)
    process.send_signal(signal.SIGCONT)
    moving = lambda: [at for at, line in commands(serving, halted) if "movej" in line]  # noqa: E731
    assert eventually(lambda: moving() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    (arrived, *_), sent = moving(), commands(serving, halted)
    assert all(is_rest(one) for one in sent if one[0] < arrived)
    assert arrived > halted + 0.25
    assert eventually(lambda: any("speedj" in line for _, line in commands(serving, halted)))
    process.terminate()
    status, _, err = finish(process)
    assert status == 143 and re.search(r"link fault 1, .* (halted|no new packet) for [\d.]+ s", err)


MEANWHILE = {
    "safety_mode 3": "protective stop; find the cause",
    "robot_mode 3": "robot mode 3, not running; find the cause",
    "tool_offset 0.1": "it has the tool at",
    "clock_rate 0.5": r"its clock (runs \d\.?\d* times as fast|is slow)",
    "displace": r"joint 1 is \d\.\d+ rad from the start",
}


@pytest.mark.parametrize("line", MEANWHILE)
def test_what_has_changed_meanwhile_is_noticed_before_anything_moves(
    serving, backend, tmp_path, line
):
    if (backend, line) == ("senseact", "displace"):
        pytest.skip("SenseAct's process stops the arm with every packet, so that nobody moves it")
    process = train(serving, backend, tmp_path)
    halt(serving, process)
    if line == "displace":
        displace(serving)
    else:
        serving.control(line)
    begin = serving.state()["time"]
    process.send_signal(signal.SIGCONT)
    status, _, err = finish(process)
    assert status == 1 and re.search(MEANWHILE[line], err)
    assert all(map(is_rest, commands(serving, begin)))
