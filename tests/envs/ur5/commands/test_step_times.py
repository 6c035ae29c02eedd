"""``hesrl ur5 timing``, at the emulator."""

from __future__ import annotations

import builtins
import csv
import re

import pytest

from hesrl.cli import run_command
from hesrl.envs.ur5.commands import step_times
from tests.envs.ur5.emulated import commands


@pytest.fixture
def run(emulator, patient, capsys, monkeypatch):
    """Runs the command at the emulator and returns its status and what it printed."""

    def run(*options, answer="move"):
        monkeypatch.setattr(builtins, "input", lambda prompt: answer)
        at = ["--host", "127.0.0.1", "--port", str(emulator.port)]
        at += ["--rtde-port", str(emulator.rtde_port), "--script-port", str(emulator.script_port)]
        status = run_command(step_times.Args, step_times.main, [*at, *options])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def test_the_report_has_the_time_of_a_step(run, emulator):
    status, printed = run("--episodes", "1")
    assert status == 0 and re.search(
        r"^step +\d+\.\d\d ms, standard deviation", printed, re.MULTILINE
    )
    for name in ("backend        driver", "episodes       1", "late steps ", "lost packets "):
        assert f"\n{name}" in printed
    assert commands(emulator, "speedj")


def test_backends_play_in_turns_and_the_numbers_go_into_a_file(
    run, emulator, tmp_path, monkeypatch
):
    turns, play = [], step_times.Player.play
    monkeypatch.setattr(
        step_times.Player, "play", lambda self: turns.append(self._backend) or play(self)
    )
    out = tmp_path / "new" / "times.csv"
    status, printed = run("--episodes", "2", "--backend", "driver", "rtde", "--out", str(out))
    assert status == 0 and turns == ["driver", "rtde"] * 2, printed
    with out.open(newline="") as lines:
        first, second = csv.DictReader(lines)
    assert (first["backend"], second["backend"], first["episodes"]) == ("driver", "rtde", "2")
    assert f"step           {first['mean_step']} ms" in printed and "cores" in first["machine"]
    assert len(commands(emulator, "movej")) >= 4 and not emulator.controller.arm.is_moving


def test_a_fault_is_named_and_fails(run, emulator):
    emulator.control("safety_mode 5")
    status, printed = run("--episodes", "1")
    assert status == 1 and "safeguard stop" in printed


@pytest.mark.parametrize(
    ("options", "answer", "message"),
    [
        (["--episodes", "0"], "move", "--episodes 0: must be at least 1"),
        (["--speed-limit", "-1"], "move", "speed_limit is -1.0"),
        (["--backend", "ros"], "move", "backend 'ros': must be"),
        ([], "no", "not confirmed; nothing has moved"),
    ],
)
def test_nothing_moves_without_confirmation_and_possible_settings(
    run, emulator, options, answer, message
):
    status, printed = run(*options, answer=answer)
    assert status == 2 and message in printed
    assert not emulator.controller.commands
