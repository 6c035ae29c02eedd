"""``hesrl ur5 check`` and ``jog``, at the emulator."""

from __future__ import annotations

import builtins
import socket

import numpy as np
import pytest

from hesrl.cli import run_command
from hesrl.envs.ur5.commands import check, jog, serve_emulator
from tests.envs.ur5.emulated import SETTINGS, commands, emulate, eventually, pause, put, rests


@pytest.fixture
def emulator():
    """An emulator whose clock is slow enough for `jog`, which gives up on that clock."""
    with emulate(speed=3.0) as serving:
        yield serving


@pytest.fixture
def run(emulator, patient, capsys):
    """Runs a command at the emulator and returns its status and what it printed."""

    def run(command, *options):
        at = ("--host", "127.0.0.1", "--port", str(emulator.port))
        status = run_command(command.Args, command.main, [*at, *options])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


@pytest.fixture
def answers(monkeypatch):
    """Sets what is typed when a command asks."""
    return lambda text: monkeypatch.setattr(builtins, "input", lambda prompt: text)


def test_check_prints_what_the_controller_sends_and_sends_nothing(run, emulator):
    status, printed = run(check, "--seconds", "0.2")
    assert status == 0
    for text in (
        "packets of 1060 bytes",
        "per second, cycle 8.0 ms",
        "1.5872, -2.4000, 1.5000, -0.7179, 1.6369, 1.0091 rad",
        "x 0.1041, y -0.0194, z 0.7700 m",
        "kinematics   as a UR5's, within 5 mm",
        "7 (running)",
        "1 (normal)",
        "would obey",
    ):
        assert text in printed
    assert not emulator.controller.commands and not emulator.refused


def test_check_fails_where_the_tool_is_elsewhere(run, emulator):
    emulator.control("tool_offset 0.1")
    pause(emulator, 0.1)
    status, printed = run(check, "--seconds", "0.1")
    assert status == 1 and "it has the tool at (0.1041, -0.0194, 0.8700) m" in printed


def test_places_are_in_the_base_frame_of_universal_robots(run, emulator, answers):
    answers("move")
    status, printed = run(jog, "--shoulder", "0.01", "--speed", "0.1")
    assert status == 0 and "tool x 0.10" in printed and "y -0.02" in printed
    status, printed = run(jog, "--shoulder", "1.5")
    assert status == 2 and "has to be from (-0.400, 0.500) to (0.300, 1.000)" in printed


def test_check_fails_where_the_arm_is_stopped(run, emulator):
    emulator.control("protective_stop")
    status, printed = run(check, "--seconds", "0.1")
    assert status == 1 and "would not obey: protective stop" in printed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("size 77", "a packet of 77 bytes"),
        ("refuses", "closed the connection"),
        ("silent", "timed out"),
    ],
)
def test_check_names_what_is_wrong_in_one_line(run, emulator, line, message):
    emulator.control(line)
    status, printed = run(check)
    assert status == 1 and printed.count("\n") == 1
    assert printed.startswith(f"error: UR controller at 127.0.0.1:{emulator.port}: ")
    assert message in printed


@pytest.mark.parametrize("host", ["x" * 300, "a\0b"])
def test_check_of_what_is_no_address_is_an_error(capsys, host):
    assert run_command(check.Args, check.main, ["--host", host]) == 1
    printed = capsys.readouterr().err
    assert "cannot be reached" in printed and printed.count("\n") == 1


def test_check_of_nobody_is_an_error(run, emulator):
    emulator.close()
    status, printed = run(check)
    assert status == 1 and "Connection refused; is it on" in printed


def test_jog_moves_two_joints_slowly(run, emulator, answers):
    answers("move")
    status, printed = run(jog, "--shoulder", "0.05", "--elbow", "-0.1", "--speed", "0.1")
    assert status == 0 and "joints 1.5872, -2.35" in printed
    way = emulator.controller.arm.q_actual - SETTINGS.q_ref
    np.testing.assert_allclose(way, [0, 0.05, -0.1, 0, 0, 0], atol=0.003)
    assert emulator.controller.max_speed <= 0.1
    assert eventually(lambda: emulator.state()["last_command"] == "stopj(a=3.000000000)")


@pytest.mark.parametrize("answer", ["", "yes", "MOVE"])
def test_jog_moves_nothing_without_the_confirmation(run, emulator, answers, answer):
    answers(answer)
    status, printed = run(jog, "--shoulder", "0.05")
    assert status == 2 and "error: not confirmed; nothing has moved" in printed
    assert not commands(emulator, "speedj") and not commands(emulator, "movej")


def test_jog_computes_its_goal_after_the_confirmation(run, emulator, monkeypatch):
    arm = emulator.controller.arm

    def moved_meanwhile(prompt):
        put(emulator, np.add(SETTINGS.q_ref, [0, 0, -0.2, 0, 0, 0]))
        pause(emulator, 0.2)
        return "move"

    monkeypatch.setattr(builtins, "input", moved_meanwhile)
    status, _ = run(jog, "--elbow", "0.05", "--speed", "0.1")
    way = arm.q_actual - SETTINGS.q_ref
    assert status == 0
    np.testing.assert_allclose(way, [0, 0, -0.15, 0, 0, 0], atol=0.003)


def test_jog_without_a_terminal_moves_nothing(run, emulator, monkeypatch):
    def closed(prompt):
        raise EOFError

    monkeypatch.setattr(builtins, "input", closed)
    assert run(jog, "--shoulder", "0.05")[0] == 2
    assert not commands(emulator, "speedj")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --shoulder or --elbow with an angle"),
        (["--elbow", "nan"], "must be from -4.363 to 4.363 rad"),
        (["--elbow", "0.1", "--speed", "0.2"], "--speed 0.2: must be from 0.01 to 0.1 rad/s"),
        (["--elbow", "0.1", "--speed", "1e-9"], "--speed 1e-09: must be from 0.01 to 0.1 rad/s"),
        (["--shoulder", "1.5"], "this would bring the tool to y, z"),
        (["--elbow", "3"], "this would bring"),
    ],
)
def test_jog_refuses_what_is_not_allowed(run, emulator, answers, options, message):
    answers("move")
    status, printed = run(jog, *options)
    assert status == 2 and message in printed
    assert not commands(emulator, "speedj") and not commands(emulator, "movej")


def test_jog_refuses_an_arm_in_another_plane(run, emulator, answers):
    emulator.controller.arm.movej(np.add(SETTINGS.q_ref, [0.1, 0, 0, 0, 0, 0]), 1.0, 1.0, 1.0)
    assert eventually(lambda: emulator.controller.arm.q_actual[0] > SETTINGS.q_ref[0] + 0.099)
    assert rests(emulator)
    answers("move")
    status, printed = run(jog, "--elbow", "0.1")
    assert status == 2 and "joint 0 is 0.1" in printed and "hesrl ur5 home first" in printed


def test_jog_ends_when_the_arm_is_stopped(run, emulator, monkeypatch):
    def stop_then_confirm(prompt):
        emulator.control("protective_stop")
        return "move"

    monkeypatch.setattr(builtins, "input", stop_then_confirm)
    status, printed = run(jog, "--elbow", "0.1")
    assert status == 1 and "protective stop; find the cause" in printed


def test_the_emulator_is_for_this_machine_only_unless_it_is_told_otherwise(capsys):
    assert serve_emulator.Args().host == "127.0.0.1" and serve_emulator.Args().control_port is None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run_command(serve_emulator.Args, serve_emulator.main, ["--port", port]) == 2
    assert f"error: cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
    assert run_command(serve_emulator.Args, serve_emulator.main, ["--speed", "0"]) == 2
