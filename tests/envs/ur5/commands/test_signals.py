"""Signals to the commands that move the arm: it is stopped first, wherever it was going."""

from __future__ import annotations

import builtins
import signal

import numpy as np
import pytest

from hesrl.cli import run_command
from hesrl.envs.ur5.commands import home, jog, step_times
from hesrl.runs.interrupts import HALT_MESSAGE
from tests.envs.ur5.emulated import SETTINGS, eventually, put, rests, send_when

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOVING = {
    "home": (home, ["--speed-limit=0.1"], "movej"),
    "jog": (jog, ["--elbow=0.3", "--speed=0.05"], "speedj"),
    "timing, on the way to the start": (step_times, ["--speed-limit=0.1"], "movej"),
    "timing, in an episode": (step_times, [], "speedj"),
}
"""Commands, their options, and what moves the arm."""


@pytest.fixture(params=SIGNALS, ids=[signum.name for signum in SIGNALS])
def signum(request):
    """A signal, which fails the test where nothing takes it."""

    def unexpected(*arguments):
        raise AssertionError("nothing takes the signal")

    before = signal.signal(request.param, unexpected)
    yield request.param
    signal.signal(request.param, before)


@pytest.mark.parametrize("name", MOVING)
def test_a_signal_stops_the_arm(emulator, patient, monkeypatch, capfd, tmp_path, name, signum):
    command, options, moves = MOVING[name]
    begin = np.add(SETTINGS.q_ref, [0, 0.2, -0.2, 0, 0, 0])
    put(emulator, begin)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(builtins, "input", lambda prompt: "move")
    send_when(emulator, moves, signum)
    at = ["--host=127.0.0.1", f"--port={emulator.port}"]
    with pytest.raises(SystemExit) as end:
        run_command(command.Args, command.main, [*at, *options])
    assert end.value.code == 128 + signum
    assert f"{HALT_MESSAGE}\n" in capfd.readouterr().err
    assert eventually(lambda: emulator.state()["last_command"] == "stopj(a=3.000000000)")
    assert rests(emulator)
    if moves == "movej":
        assert np.abs(emulator.controller.arm.q_actual - SETTINGS.q_ref).max() > 0.01
