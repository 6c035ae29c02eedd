"""Training that SIGSTOP halts and SIGCONT lets go on: the state of the arm is confirmed anew."""

from __future__ import annotations

import json
import re
import signal
import socket

import numpy as np
import pytest

from hesrl.envs.ur5 import urscript
from tests.agents.processes import finish, start
from tests.envs.ur5.emulated import SETTINGS, Served, eventually, pause, rests


@pytest.fixture
def serving():
    """An emulator in real time, in a process of its own."""
    made = Served(speed=1.0)
    yield made
    made.close()


def train(serving, backend, cwd):
    """Start training in episodes of 40 s."""
    return start(
        "stream_ac", "--env-id=hesrl/UR5ReacherReal-v0", "--robot-host=127.0.0.1", "--compile=off",
        "--yes", "--total-timesteps=20000", "--env-options", f"port={serving.port}",
        f"backend={backend}", "stale_after=0.2", "t_min=0.08", "episode_time=40", "reconnects=10",
        "reconnect_wait=0.1", cwd=cwd,
    )  # fmt: skip


def commands(serving, after=0.0):
    """Return the commands after a time (s), each with the time at which it came."""
    return [(at, line) for at, line in json.loads(serving.control("commands")) if at > after]


def halt(serving, process):
    """Halt training while the arm moves, and return when the arm was at rest (s)."""

    def moves():
        assert process.poll() is None, process.communicate()
        state = serving.state()
        return state["is_moving"] and (state["last_command"] or "").startswith("speedj")

    assert eventually(moves)
    process.send_signal(signal.SIGSTOP)
    assert rests(serving)
    at = serving.state()["time"]
    pause(serving, 2.5)
    assert all(line.startswith("stopj") for _, line in commands(serving, at))
    return serving.state()["time"]


def displace(serving):
    """Let somebody else move the shoulder by half a rad."""
    goal = np.add(SETTINGS.q_ref, [0, 0.5, 0, 0, 0, 0])
    with socket.create_connection(("127.0.0.1", serving.port)) as other:
        other.sendall(urscript.movej(goal, 1.0, 1.0, 1.0))
        assert eventually(lambda: np.abs(serving.state()["q_actual"] - goal).max() < 1e-3)


def test_nothing_moves_before_the_state_was_confirmed(serving, tmp_path):
    process = train(serving, "driver", tmp_path)
    halted = halt(serving, process)
    process.send_signal(signal.SIGCONT)
    moving = lambda: [at for at, line in commands(serving, halted) if "movej" in line]  # noqa: E731
    assert eventually(moving)
    (arrived, *_), sent = moving(), commands(serving, halted)
    assert all(line.startswith("stopj") for at, line in sent if at < arrived)
    assert arrived > halted + 0.25
    assert eventually(lambda: any("speedj" in line for _, line in commands(serving, halted)))
    process.terminate()
    status, _, err = finish(process)
    assert status == 143 and re.search(r"link fault 1, .* (halted|no new packet) for [\d.]+ s", err)


MEANWHILE = {
    "safety_mode 3": "protective stop; find the cause",
    "robot_mode 3": "robot mode 3, not running; find the cause",
    "tool_offset 0.1": "it has the tool at",
    "clock_rate 0.5": r"its clock (runs 0\.\d+ times as fast|is slow)",
    "displace": r"joint 1 is \d\.\d+ rad from the start",
}


@pytest.mark.parametrize("line", MEANWHILE)
def test_what_has_changed_meanwhile_is_noticed_before_anything_moves(serving, tmp_path, line):
    process = train(serving, "driver", tmp_path)
    halt(serving, process)
    if line == "displace":
        displace(serving)
    else:
        serving.control(line)
    begin = serving.state()["time"]
    process.send_signal(signal.SIGCONT)
    status, _, err = finish(process)
    assert status == 1 and re.search(MEANWHILE[line], err)
    assert all(sent.startswith("stopj") for _, sent in commands(serving, begin))
