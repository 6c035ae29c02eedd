"""``hesrl ur5 verify`` at the emulator, sound and with faults."""

from __future__ import annotations

import re
import signal

import pytest

from hesrl.cli import run_command
from hesrl.envs.ur5 import start
from hesrl.envs.ur5.commands import verify, verify_motions
from hesrl.envs.ur5.commands.check import Reception
from hesrl.envs.ur5.driver import Driver
from hesrl.envs.ur5.kinematics import UR5E
from hesrl.envs.ur5.obedience import Watch
from hesrl.errors import EnvironmentFault
from tests.envs.ur5.emulated import commands, emulate, eventually, ports_of, rests, send_when

ALL = ["connection", *verify.LISTENING]


@pytest.fixture(params=["driver", "rtde"])
def backend(request):
    """What talks to the controller."""
    return request.param


@pytest.fixture
def e_series():
    """Whether the emulator is an e-Series controller."""
    return False


@pytest.fixture
def emulator(monkeypatch, e_series):
    """An emulator in real time; a busy machine may be late, and halts are long beside that."""
    monkeypatch.setattr(verify, "_LONGEST_GAP", 60.0)
    monkeypatch.setattr(verify, "_RATE_OFF", 0.9)
    monkeypatch.setattr(verify_motions, "LATEST", 0.5)
    monkeypatch.setattr(verify_motions, "_HALT", 6.0)
    for module in (start, verify_motions):
        monkeypatch.setattr(module, "PATIENCE", 60.0)
    for look in ("_clock", "clock_fault"):
        monkeypatch.setattr(Watch, look, lambda *arguments: None)
    obedience = Watch._obedience
    # Commands that leave a busy machine late look like disobedience; none does while the arm rests.
    monkeypatch.setattr(
        Watch,
        "_obedience",
        lambda watch, *arguments: (
            None if any(sent.qd.any() for sent in watch._sent) else obedience(watch, *arguments)
        ),
    )
    for name, value in (("stale_after", 60.0), ("t_min", 0.1), ("timeout", 60.0)):
        monkeypatch.setitem(Driver.__init__.__kwdefaults__, name, value)
    with emulate(speed=1.0, e_series=e_series) as serving:
        yield serving


@pytest.fixture
def run(emulator, backend, capsys):
    """Runs the command and returns its status and the state of each check, by name."""

    def run(*options):
        at = ["--host", "127.0.0.1", "--backend", backend, "--seconds", "1"]
        for name, port in ports_of(emulator, backend).items():
            at += [f"--{name.replace('_', '-')}", str(port)]
        status = run_command(verify.Args, verify.main, [*at, *options])
        printed = capsys.readouterr()
        rows = re.findall(r"^(passed|failed|not run) +(.{22}) (.*)$", printed.out, re.MULTILINE)
        table = {name.strip(): (state, detail) for state, name, detail in rows}
        return status, table, printed.out + printed.err

    return run


def failed(table):
    """Return the names of what has failed."""
    return [name for name, (state, _) in table.items() if state == "failed"]


def test_a_controller_that_is_sound_passes_all_checks(run, emulator, backend):
    status, table, printed = run("--yes")
    assert status == 0 and not failed(table), printed
    recipe = ["recipe and registers"] * (backend == "rtde")
    assert list(table) == [*ALL, *recipe, *verify_motions.MOTIONS]
    assert "moving the elbow by a few degrees" in printed and "all checks passed" in printed
    assert re.search(r"moves it|was ended", table["second client"][1])
    assert emulator.controller.max_speed <= 0.1 + 1e-9
    assert eventually(lambda: not emulator.controller.arm.is_moving)


@pytest.mark.parametrize("e_series", [True])
def test_an_e_series_arm_passes_the_frame_check_with_its_option(run, emulator):
    _, table, printed = run("--yes")
    assert "frame" in failed(table) and "give arm_model=ur5e" in table["frame"][1], printed
    assert not emulator.controller.commands
    _, table, printed = run("--yes", "--arm-model", "ur5e")
    assert table["frame"][0] == "passed", printed


def test_all_checks_pass_with_a_ur5e(run, emulator):
    emulator.controller.model = UR5E
    status, _, printed = run("--yes", "--arm-model", "ur5e")
    assert status == 0, printed


def test_a_signal_stops_the_arm_and_nothing_follows(run, emulator):
    send_when(emulator, "speedj", signal.SIGINT)
    with pytest.raises(SystemExit) as end:
        run("--yes")
    assert end.value.code == 128 + signal.SIGINT
    assert eventually(lambda: emulator.state()["last_command"] == "stopj(a=3.000000000)")
    assert rests(emulator)


LISTENING = {
    "tool_offset 0.1": ("frame", "another arm, a tool"),
    "protective_stop": ("modes", "protective stop"),
    "robot_mode 3": ("modes", "robot mode 3, not running"),
    "speed_scaling 0.5": ("speed scaling", "50 %"),
    "clock_rate 0.02": ("clock", r"0\.0\d+ times as fast as ours"),
    "size 77": ("connection", "a packet of 77 bytes"),
    "refuses": ("connection", "closed|reset by peer"),
}


@pytest.mark.parametrize("line", LISTENING)
def test_what_is_wrong_is_found_before_anything_moves(run, emulator, line):
    emulator.control(line)
    status, table, printed = run("--yes")
    name, detail = LISTENING[line]
    assert status == 1 and name in failed(table) and re.search(detail, table[name][1]), printed
    assert all(table[motion][0] == "not run" for motion in verify_motions.MOTIONS)
    assert not emulator.controller.commands and not emulator.refused


MOVING = {
    "scale 0.5": ("speedj", "asks 0.050"),
    "ignored 2": ("speedj", "the elbow does not turn"),
    "dead_watchdog": ("watchdog", "went on by"),
}


@pytest.mark.parametrize("line", MOVING)
def test_what_is_wrong_with_motions_is_found(run, emulator, line):
    emulator.control(line)
    status, table, printed = run("--yes")
    name, detail = MOVING[line]
    assert status == 1 and failed(table) == [name] and detail in table[name][1], printed
    assert table["movej"][0] == "not run"
    assert eventually(lambda: not emulator.controller.arm.is_moving)


def test_another_client_that_nobody_notices_is_found(run, backend, monkeypatch):
    if backend == "rtde":
        pytest.skip("over RTDE another client ends our program, which is noticed, too")
    monkeypatch.setattr(Watch, "_obedience", lambda *arguments: None)
    status, table, printed = run("--yes")
    assert status == 1 and failed(table) == ["second client"], printed
    assert re.search(r"turned by 0\.0\d+ rad, and nobody noticed", table["second client"][1])


def test_a_controller_that_runs_no_programs_is_named(run, emulator, backend, monkeypatch):
    monkeypatch.setattr(verify_motions, "PATIENCE", 0.5)
    if backend == "driver":
        pytest.skip("the driver uploads no program")
    emulator.control("deaf")
    status, table, _ = run("--yes")
    assert status == 1 and "is it in remote control?" in table["near the start"][1]


def test_nothing_moves_without_the_confirmation(run, emulator, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda prompt: "yes")
    status, table, printed = run()
    assert status == 2 and "not confirmed; nothing has moved" in printed
    assert table["frame"][0] == "passed" and not commands(emulator, "")


def reception(**options):
    """What a sound controller sends."""
    sound = {"size": 1060, "state": None, "rate": 125.0, "clock_speed": 1.0, "cycle": 0.008}
    return Reception(**sound | {"jitter": 0.001, "longest": 0.02, "other_place": None} | options)


@pytest.mark.parametrize(
    ("look", "options"),
    [
        (verify._rate, {"rate": 100.0}),
        (verify._rate, {"rate": 500.0}),
        (verify._rate, {"cycle": 0.004}),
        (verify._gaps, {"longest": 0.06}),
        (verify._clock, {"clock_speed": 0.9}),
        (verify._clock, {"clock_speed": 1.1}),
    ],
)
def test_packets_that_are_late_or_of_another_clock_fail(look, options):
    assert look(reception())
    with pytest.raises(EnvironmentFault):
        look(reception(**options))


def test_an_e_series_controller_sends_five_hundred():
    assert verify._rate(reception(rate=499.0, cycle=0.002))
