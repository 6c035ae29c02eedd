"""``hesrl ur5 verify`` at the emulator, sound and with faults."""

from __future__ import annotations

import re

import pytest

from hesrl.cli import run_command
from hesrl.envs.ur5.commands import verify, verify_motions
from hesrl.envs.ur5.driver import Driver
from hesrl.envs.ur5.obedience import Watch
from tests.envs.ur5.emulated import commands, emulate, eventually, ports_of

ALL = ["connection", *verify.LISTENING]


@pytest.fixture(params=["driver", "rtde"])
def backend(request):
    """What talks to the controller."""
    return request.param


@pytest.fixture
def emulator(monkeypatch):
    """An emulator in real time; a busy machine may be late, and halts are long beside that."""
    monkeypatch.setattr(verify, "_LONGEST_GAP", 5.0)
    monkeypatch.setattr(verify, "_RATE_OFF", 0.3)
    monkeypatch.setattr(verify_motions, "LATEST", 0.5)
    monkeypatch.setattr(verify_motions, "_HALT", 2.5)
    monkeypatch.setattr(Watch, "_obedience", lambda *arguments: None)
    for name, value in (("stale_after", 5.0), ("t_min", 0.1)):
        monkeypatch.setitem(Driver.__init__.__kwdefaults__, name, value)
    with emulate(speed=1.0) as serving:
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
    assert emulator.controller.max_speed <= 0.1 + 1e-9
    assert eventually(lambda: not emulator.controller.arm.is_moving)


LISTENING = {
    "tool_offset 0.1": ("frame", "another arm, a tool"),
    "protective_stop": ("modes", "protective stop"),
    "robot_mode 3": ("modes", "robot mode 3, not running"),
    "speed_scaling 0.5": ("speed scaling", "50 %"),
    "clock_rate 0.5": ("clock", r"0\.\d+ times as fast as ours"),
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


def test_a_controller_that_runs_no_programs_is_named(run, emulator, backend):
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
