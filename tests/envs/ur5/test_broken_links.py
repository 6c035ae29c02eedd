"""The guards when the link breaks, in virtual time: with each backend the arm stays in the box."""

from __future__ import annotations

from collections import deque
from functools import partial

import pytest

from hesrl.envs.ur5 import senseact
from hesrl.envs.ur5.arm import TICK
from hesrl.envs.ur5.controller import Controller
from hesrl.envs.ur5.kinematics import UR5
from hesrl.envs.ur5.motion import law_for
from hesrl.envs.ur5.protocol import unpack
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.rtde_program import (
    ACCELERATION,
    BEAT,
    COMMAND,
    JOINTS,
    NUMBER,
    SPEEDS,
    program,
)
from hesrl.envs.ur5.task import Task
from hesrl.envs.ur5.urscript import speedj, stopj


class Lines:
    """A controller that gets lines of URScript."""

    def __init__(self, settings):
        self.controller, self.t_min = Controller(settings.q_ref), settings.t_min

    every, guards = 1, None

    def send(self, qd, a):
        self.controller.obey(speedj(qd, a, self.t_min).decode())

    def packet(self, is_broken):
        """A packet has come."""


class SentAgain(Lines):
    """As SenseAct does it: an action is sent with the next packets, until it is too old.

    It is first sent with the packet after the one that it answers.
    """

    every, late, clock_speed = 5, 1, 1.0

    def __init__(self, settings):
        super().__init__(settings)
        self.sent_again = senseact.ending(settings, self.clock_speed)
        self.guards = senseact.guards(settings, self.clock_speed)
        self.last, self.packets, self.written = None, 0, deque([None] * self.late)

    def send(self, qd, a):
        self.written[-1] = qd, a

    def packet(self, is_broken):
        self.written.append(None)
        if (action := self.written.popleft()) is not None:
            self.last, self.packets = action, 0
        if self.last is not None and self.packets * TICK <= self.sent_again.hold:
            super().send(*self.last)
        elif self.last is not None:
            self.controller.obey(stopj(self.sent_again.brake).decode())
        self.packets += 1


class SentAgainLong(SentAgain):
    """The same at an emulator with a faster clock, where an action is sent for half a second."""

    clock_speed = 10.0


class SentLater(SentAgain):
    """Through busy processes, two cycles later than usual: as late as is obedience."""

    late = 3


class CutOff(SentAgain):
    """The same, and it is the cable that breaks, or SenseAct's process dies."""

    def packet(self, is_broken):
        if not is_broken:
            super().packet(is_broken)


class Registers(Lines):
    """A controller with our program, which holds speeds for another cycle."""

    def __init__(self, settings):
        super().__init__(settings)
        self.controller.obey(program(1, self.t_min + TICK, 0.5).decode())
        self.controller.inputs |= {COMMAND: SPEEDS, NUMBER: 1, BEAT: 1}
        self.controller.cycle()

    def send(self, qd, a):
        self.controller.inputs |= dict(zip(JOINTS, qd, strict=True)) | {ACCELERATION: a}
        self.controller.inputs[BEAT] += 1


def broken_off(cell, settings, action, packets):
    """Go with an action until the link breaks; return when a guard acted, and how far outside."""
    task, acted, outside = Task(settings), None, []
    task.guards = cell.guards or task.guards
    law = law_for(settings.joints, partial(task.command, action))
    for number in range(packets + 150):
        state = unpack(cell.controller.cycle())
        cell.packet(is_broken=number >= packets)
        if number < packets and number % cell.every == 0:
            cell.send(*law(state))
            acted = number if acted is None and task.guards.active else acted
        place = UR5.forward(state.q_actual)[1:]
        outside.append(max(*(settings.box_low - place), *(place - settings.box_high)))
    return acted, max(outside)


@pytest.mark.parametrize("cell", [Lines, Registers, SentAgain, SentAgainLong, SentLater, CutOff])
@pytest.mark.parametrize("action", [(1.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize("limits", [(0.3, 1.4, 0.008), (0.3, 1.4, 0.1), (1.0, 2.0, 0.1)])
def test_a_link_that_breaks_leaves_the_arm_in_the_box(cell, action, limits):
    """No command follows: the arm goes on as long as the backend has it, and brakes."""
    speed_limit, acceleration, t_min = limits
    fast = ReacherSettings(speed_limit=speed_limit, acceleration=acceleration, t_min=t_min)
    acted, outside = broken_off(cell(fast), fast, action, 300)
    assert outside < 0.003
    for packets in range(acted - 1, acted + 12, 3):
        assert broken_off(cell(fast), fast, action, packets)[1] < 0.003
