"""The emulated controller: packets, commands, stops, the control port and the command line."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from hesrl.envs.ur5 import urscript
from hesrl.envs.ur5.dashboard import ask
from hesrl.envs.ur5.line_server import LineServer
from hesrl.envs.ur5.protocol import Frames, unpack
from hesrl.errors import UserError
from tests.envs.ur5.emulated import SETTINGS, ask_line, emulate, eventually

SPEED = (0.0, 0.2, -0.1, 0.0, 0.0, 0.0)


@pytest.fixture
def connection(emulator):
    with socket.create_connection(("127.0.0.1", emulator.port), 60) as made:
        yield made


def packets(connection, count):
    frames, received = Frames(), []
    while len(received) < count:
        received += frames.feed(connection.recv(4096))
    return [unpack(packet) for packet in received]


def test_every_cycle_of_8_ms_has_its_packet(connection):
    states = packets(connection, 20)
    np.testing.assert_allclose(np.diff([state.time for state in states]), 0.008, rtol=1e-9)
    assert all(np.array_equal(state.q_actual, SETTINGS.q_ref) for state in states)
    assert {(state.robot_mode, state.safety_mode) for state in states} == {(7, 1)}


def test_the_clock_is_not_faster_than_real_time_unless_asked():
    begin = time.monotonic()
    with (
        emulate(speed=1.0) as emulator,
        socket.create_connection(("127.0.0.1", emulator.port), 60) as made,
    ):
        assert packets(made, 30)[-1].time <= time.monotonic() - begin + 0.25


def test_the_arm_goes_where_it_is_told(emulator, connection):
    goal = np.array(SETTINGS.q_ref) + 0.1
    connection.sendall(urscript.movej(goal, 1.4, 1.0, 0.5))
    assert eventually(lambda: np.abs(emulator.controller.arm.q_actual - goal).max() < 1e-6)


def test_a_speed_holds_only_while_it_is_sent_again(emulator, connection):
    for _ in range(5):
        connection.sendall(urscript.speedj(SPEED, 1.4, 0.5))
    assert eventually(lambda: np.allclose(emulator.controller.arm.qd_actual, SPEED))
    assert eventually(lambda: not emulator.controller.arm.is_moving)


def test_stopj_stops(emulator, connection):
    connection.sendall(urscript.speedj(SPEED, 1.4, 60))
    assert eventually(lambda: emulator.controller.arm.is_moving)
    connection.sendall(urscript.stopj(2.0))
    assert eventually(lambda: not emulator.controller.arm.is_moving)


def test_a_line_that_is_no_command_is_counted_and_does_nothing(emulator, connection):
    connection.sendall(b"speedj([nan, 0, 0, 0, 0, 0], 1, 1)\nformat c:\n")
    assert eventually(lambda: emulator.refused == 2)
    assert not emulator.controller.arm.is_moving and not emulator.controller.commands


def test_a_command_in_pieces_is_one_command(emulator, connection):
    for byte in urscript.stopj(2.0):
        connection.sendall(bytes([byte]))
    assert eventually(
        lambda: [line for _, line in emulator.controller.commands] == ["stopj(a=2.000000000)"]
    )


def test_a_protective_stop_ends_no_earlier_than_after_five_seconds():
    emulator, speed = emulate(), urscript.speedj(SPEED, 1.4, 60).decode()

    def cycles(count):
        for _ in range(count):
            emulator._cycle()

    emulator._obey(speed)
    cycles(50)
    assert emulator.controller.arm.qd_actual == pytest.approx(SPEED)
    emulator.control("protective_stop")
    emulator._obey(speed)
    cycles(620)
    assert not emulator.controller.arm.is_moving
    assert emulator.controller.dashboard("unlock protective stop").startswith("Cannot unlock")
    cycles(10)
    assert emulator.controller.dashboard("unlock protective stop") == "Protective stop releasing"
    assert emulator.state()["safety_mode"] == 3
    cycles(60)
    assert emulator.state()["safety_mode"] == 1 and not emulator.controller.arm.is_moving
    emulator.close()


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("unlock protective stop", "No protective stop to unlock"),
        ("sing", "could not understand: sing"),
    ],
)
def test_the_dashboard_answers_each_line(emulator, line, answer):
    assert ask("127.0.0.1", line, port=emulator.dashboard_port) == answer


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("melt", "no fault 'melt'; there are clock_ahead, clock_rate, dashboard_silent, dead_"),
        ("delay soon", "delay 'soon': must be a number"),
        ("silent maybe", "must be on or off"),
        ("size 1e3", "must be a whole number"),
        ("safety_mode 12", "must be 1 to 9"),
    ],
)
def test_the_control_port_says_what_is_wrong(emulator, line, message):
    assert message in ask_line(emulator.control_port, line)


def test_the_control_port_sets_and_shows_faults(emulator):
    assert ask_line(emulator.control_port, "delay 0.25") == "ok"
    assert ask_line(emulator.control_port, "silent") == "ok"
    state = json.loads(ask_line(emulator.control_port, "state"))
    assert state["faults"]["delay"] == 0.25 and state["faults"]["silent"] is True
    assert ask_line(emulator.control_port, "clear") == "ok"
    assert not emulator.controller.faults.silent and emulator.controller.faults.delay == 0


def test_a_port_in_use_is_named(emulator):
    with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{emulator.port}"):
        emulate(port=emulator.port)


def test_a_client_that_reads_nothing_is_dropped():
    server = LineServer()
    port = server.listen("127.0.0.1", 0, lambda line: None)
    with socket.create_connection(("127.0.0.1", port)):
        server.serve(server.wait(5))
        (client,) = server.clients(port)
        for _ in range(64):
            server.send(client, bytes(1 << 20))
        assert server.clients(port) == []
    server.close()


def test_the_command_serves_this_machine_until_it_is_interrupted():
    ports = ["--port", "0", "--dashboard-port", "0"]
    code = "import sys; from hesrl.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "ur5", "emulator", *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("emulated UR controller at 127.0.0.1: real-time port ")
        port = int(line.split("real-time port ")[1].split(",")[0])
        with socket.create_connection(("127.0.0.1", port), 60) as made:
            assert len(packets(made, 3)) >= 3
        process.send_signal(signal.SIGINT)
        assert "ended after" in process.communicate(timeout=60)[0]
    assert process.returncode == 0
