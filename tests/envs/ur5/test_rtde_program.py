"""Our program on the controller, as the emulator runs it, in virtual time."""

from __future__ import annotations

import numpy as np
import pytest

from hesrl.envs.ur5.arm import TICK
from hesrl.envs.ur5.controller import E_SERIES_TICK, Controller
from hesrl.envs.ur5.emulated_program import Program, ProgramText
from hesrl.envs.ur5.rtde_program import (
    ACCELERATION,
    BEAT,
    COMMAND,
    END,
    JOINTS,
    NUMBER,
    RUNNING,
    SPEEDS,
    STOP,
    TIME,
    WAY,
    program,
)
from tests.envs.ur5.emulated import SETTINGS

SPEED = (0.0, 0.2, -0.1, 0.0, 0.0, 0.0)
HOLD, LOST = 0.016, 0.1


class Cell:
    """A controller with our program, and what writes its registers."""

    def __init__(self, tick=TICK):
        self.controller, self.number = Controller(SETTINGS.q_ref, tick), 0
        self.controller.obey(program(77, HOLD, LOST).decode())
        self.command(STOP, (0.0,) * 6, 2.0)

    @property
    def arm(self):
        return self.controller.arm

    @property
    def runs(self):
        return self.controller.outputs.get(RUNNING) == 77

    def command(self, what, joints, a, t=0.0):
        """Write a command, as a package does."""
        self.number += 1
        values = {COMMAND: what, NUMBER: self.number, ACCELERATION: a, TIME: t}
        self.controller.inputs.update(values | dict(zip(JOINTS, joints, strict=True)))
        self.beat()

    def beat(self):
        """Write another heartbeat."""
        inputs = self.controller.inputs
        inputs[BEAT] = inputs.get(BEAT, 0) + 1

    def cycles(self, seconds, beat=True):
        """Let time pass, with or without heartbeats."""
        for _ in range(round(seconds / self.controller.tick)):
            if beat:
                self.beat()
            self.controller.cycle()


@pytest.fixture(params=[TICK, E_SERIES_TICK], ids=["CB3", "e-Series"])
def cell(request):
    """A controller of either series with our program, at rest."""
    made = Cell(request.param)
    made.cycles(0.1)
    assert made.runs and not made.arm.is_moving
    return made


def test_speeds_are_followed_while_the_heart_beats(cell):
    cell.command(SPEEDS, SPEED, 1.4)
    cell.cycles(1.0)
    assert cell.arm.qd_target == pytest.approx(SPEED)
    cell.controller.inputs[JOINTS[1]] = -0.05
    cell.cycles(0.5)
    assert cell.arm.qd_target[1] == pytest.approx(-0.05)


def test_without_a_heartbeat_the_arm_comes_to_rest_and_the_program_ends(cell):
    cell.command(SPEEDS, SPEED, 1.4)
    cell.cycles(1.0)
    place = cell.arm.q_target
    cell.cycles(HOLD + 0.2 / 1.4 + 0.05, beat=False)
    assert not cell.arm.qd_target.any()
    assert np.abs(cell.arm.q_target - place).max() < 0.2 * (HOLD + 0.03) + 0.2**2 / 2.8
    assert not cell.runs and cell.controller.commands[-1][1] == "stopj(a=3.000000000)"
    cell.cycles(0.5)
    assert not cell.arm.is_moving and cell.controller.report["runtime_state"] == 1


def test_a_heartbeat_that_comes_again_in_time_goes_on(cell):
    cell.command(SPEEDS, SPEED, 1.4)
    cell.cycles(1.0)
    cell.cycles(0.08, beat=False)
    assert 0 < cell.arm.qd_target[1] < 0.2
    cell.cycles(0.5)
    assert cell.arm.qd_target == pytest.approx(SPEED) and cell.runs


def test_a_way_is_gone_to_its_end(cell):
    goal = np.add(SETTINGS.q_ref, 0.1)
    cell.command(WAY, goal, 1.0, 1.0)
    cell.cycles(1.2)
    assert cell.arm.q_target == pytest.approx(goal) and cell.runs
    cell.command(SPEEDS, SPEED, 1.4)
    cell.cycles(0.5)
    assert cell.arm.qd_target == pytest.approx(SPEED)


@pytest.mark.parametrize("how", ["lost", "stop", "end"])
def test_a_way_is_left_at_a_stop_and_without_a_heartbeat(cell, how):
    cell.command(WAY, np.add(SETTINGS.q_ref, 0.3), 1.0, 4.0)
    cell.cycles(2.0)
    assert cell.arm.is_moving
    if how != "lost":
        cell.command({"stop": STOP, "end": END}[how], (0.0,) * 6, 2.0)
    cell.cycles(1.0, beat=how == "stop")
    assert not cell.arm.is_moving and cell.runs == (how == "stop")
    a = {"lost": 3, "stop": 2, "end": 3}[how]
    assert cell.controller.commands[-1][1] == f"stopj(a={a}.000000000)"


def test_a_stop_of_the_controller_ends_the_program(cell):
    cell.command(SPEEDS, SPEED, 1.4)
    cell.cycles(0.3)
    cell.controller.enter(3)
    cell.cycles(0.3)
    cell.controller.enter(1)
    cell.cycles(1.0)
    assert not cell.arm.is_moving and cell.controller.report["runtime_state"] == 1


@pytest.mark.parametrize(
    "body",
    [
        "x = open(1)",
        "import os",
        "x = y",
        "x = ().__class__",
        "for i in x:\nsync()\nend",
        "x = 'a'",
    ],
)
def test_what_the_emulator_does_not_know_is_refused(body):
    run = lambda: Program(f"def p():\n{body}\nend", {"sync": iter}).cycle()  # noqa: E731
    with pytest.raises(ValueError, match=r"not known here|no program"):
        run()


def test_a_program_that_never_waits_is_ended():
    with pytest.raises(ValueError, match="without waiting for the next cycle"):
        Program("def p():\nwhile True:\nx = 1\nend\nend", {}).cycle()


def test_lines_become_programs():
    text = ProgramText()
    assert text.take(" stopj(2) ") == "stopj(2)"
    lines = ["def p():", "  if x:", "y = 1", "else:", "y = 2", "end"]
    assert [text.take(line) for line in lines] == [None] * 6
    assert text.take("end") == "def p():\nif x:\ny = 1\nelse:\ny = 2\nend\nend"
    assert text.take("stopj(2)") == "stopj(2)"
