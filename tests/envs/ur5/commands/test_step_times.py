"""``hesrl ur5 timing``, at the emulator."""

from __future__ import annotations

import builtins

import pytest

from hesrl.cli import run_command
from hesrl.envs.ur5.commands import step_times
from tests.envs.ur5.emulated import commands


@pytest.fixture
def run(emulator, patient, capsys, monkeypatch):
    """Runs the command at the emulator and returns its status and what it printed."""

    def run(*options, answer="move"):
        monkeypatch.setattr(builtins, "input", lambda prompt: answer)
        at = ("--host", "127.0.0.1", "--port", str(emulator.port))
        status = run_command(step_times.Args, step_times.main, [*at, *options])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def test_the_report_has_the_time_of_a_step(run, emulator):
    status, printed = run("--episodes", "1")
    assert status == 0 and "1, 99 steps timed" in printed
    for name in ("step ", "return ", "late_steps ", "longest_delay ", "lost_packets "):
        assert f"\n{name}" in printed
    assert commands(emulator, "speedj")


def test_a_fault_is_named_and_fails(run, emulator):
    emulator.control("safety_mode 5")
    status, printed = run("--episodes", "1")
    assert status == 1 and "safeguard stop" in printed


@pytest.mark.parametrize(
    ("options", "answer", "message"),
    [
        (["--episodes", "0"], "move", "--episodes 0: must be at least 1"),
        (["--speed-limit", "-1"], "move", "speed_limit is -1.0"),
        ([], "no", "not confirmed; nothing has moved"),
    ],
)
def test_nothing_moves_without_confirmation_and_possible_settings(
    run, emulator, options, answer, message
):
    status, printed = run(*options, answer=answer)
    assert status == 2 and message in printed
    assert not emulator.controller.commands
