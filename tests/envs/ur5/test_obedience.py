"""Controllers that do not do what they are told, or tell of it too late: in virtual time."""

from __future__ import annotations

import re
from collections import deque
from functools import partial

import numpy as np
import pytest

from hesrl.envs.ur5 import make_real
from hesrl.envs.ur5.commands.guard_check import random_actions
from hesrl.envs.ur5.controller import Controller
from hesrl.envs.ur5.emulated_faults import set_fault
from hesrl.envs.ur5.link import PersonNeeded
from hesrl.envs.ur5.motion import law_for
from hesrl.envs.ur5.obedience import Watch
from hesrl.envs.ur5.protocol import unpack
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.task import Task
from hesrl.envs.ur5.urscript import movej, speedj
from hesrl.errors import EnvironmentFault
from tests.envs.ur5.emulated import commands, emulate, eventually, reacher, rests

SLOW, FAST = ReacherSettings(), ReacherSettings(speed_limit=1.0, acceleration=2.0)
each_limit = pytest.mark.parametrize("settings", [SLOW, FAST], ids=["0.3", "1.0"])


class Cell:
    """A controller, what watches it, and the time of both; packets and commands may be late."""

    def __init__(self, settings, delay=0.0, jitter=None):
        self.settings, self.task = settings, Task(settings)
        self.controller = Controller(settings.q_ref)
        self.watch = Watch(settings.speed_limit)
        self.now, self.fault, self.fault_at = 0.0, None, None
        self.packets, self.commands = deque(), deque()
        self.delay, self.jitter = delay, jitter

    def cycle(self, law=None):
        """Let a cycle pass, and answer the newest packet that has come."""
        if self.fault is not None:
            return
        packet = self.controller.cycle()
        self.now += 0.008
        late = 0.0 if self.jitter is None else self.jitter.exponential(0.004)
        self.packets.append((self.now + self.delay + min(late, 0.03), packet))
        newest = None
        while self.packets and self.packets[0][0] <= self.now:
            newest = self.packets.popleft()[1]
        if newest is not None:
            state = unpack(newest)
            self.fault = self.watch.fault(state, self.now)
            if law is not None:
                motion = law(state)
                self.watch.sent_speeds(motion.qd, motion.a, 0.008, self.now)
                self.commands.append(speedj(*motion, 0.008).decode())
        while self.commands:
            self.controller.obey(self.commands.popleft())

    def rest(self, seconds):
        """Send nothing."""
        for _ in range(round(seconds / 0.008)):
            self.cycle()

    def play(self, actions):
        """Send actions until a fault, and return how long it took (s), or None."""
        begin = self.now
        for action in actions:
            for _ in range(5):
                self.cycle(law_for(self.settings.joints, partial(self.task.command, action)))
        return None if self.fault is None else self.now - begin

    def begin(self, seed=0):
        """Rest at the start, and begin an episode."""
        self.watch.sent_stop(2.0, self.now)
        self.rest(0.5)
        self.task.reset(np.random.default_rng(seed))


@each_limit
@pytest.mark.parametrize("busy", [False, True])
def test_a_controller_that_obeys_is_never_at_fault(settings, busy):
    rng = np.random.default_rng(5)
    cell = Cell(settings, jitter=rng if busy else None)
    for episode in range(6):
        cell.begin(episode)
        actions = rng.uniform(-1, 1, (100, 2)) if episode % 2 else random_actions(rng, 100)
        cell.play(actions)
        assert cell.fault is None
        cell.watch.sent_stop(2.0, cell.now)
        cell.controller.obey("stopj(a=2.0)")
        cell.rest(0.8)
        assert cell.fault is None
        q, start = cell.controller.arm.q_target, settings.q_ref
        cell.watch.sent_way(q, start)
        cell.controller.obey(movej(start, 1.0, 0.3, 5.0).decode())
        cell.rest(5.5)
        assert cell.fault is None


FAULTS = {
    "scale 0.5": "it does not do what was sent",
    "scale -1": "it does not do what was sent",
    "scale 0": "it does not do what was sent",
    "scale 2": "it does not do what was sent|turns at",
    "ignored 1": r"it does not do what was sent within .* of joint 1",
    "ignored 2": r"it does not do what was sent within .* of joint 2",
    "speed_scaling 0.5": "speed_scaling is 0.5: set the speed at the pendant to 100 %",
    "clock_rate 0.5": r"its packets come 0\.1\d* s late, or its clock is slow",
    "clock_rate 2": r"its clock has gained 0\.0[56]\d* s on ours",
    "clock_ahead 10": r"its clock has gained (9\.9|10\.0)\d s on ours",
    "clock_ahead -10": "its clock went back from ",
    "turns 1e6": "joint . is at 1e[+]06 rad, where no joint can be",
}


@each_limit
@pytest.mark.parametrize("line", FAULTS)
def test_a_fault_is_named_within_two_seconds(settings, line):
    rng = np.random.default_rng(1)
    cell = Cell(settings)
    cell.begin()
    assert cell.play(random_actions(rng, 20)) is None
    set_fault(cell.controller.faults, *line.split())
    # What a policy does in the beginning, back and forth.
    seconds = cell.play(rng.uniform(-1, 1, (50, 2)) + np.sign(np.sin(np.arange(50) / 4))[:, None])
    assert re.search(FAULTS[line], cell.fault or "none")
    assert seconds < 2.0


@each_limit
@pytest.mark.parametrize("delay", [0.1, 0.3, 1.0])
def test_a_constant_delay_is_found_by_what_is_obeyed(settings, delay):
    cell = Cell(settings, delay)
    cell.begin()
    cell.rest(2 * delay)
    begin = np.array(cell.controller.arm.q_actual)
    seconds = cell.play([[1.0, 1.0]] * 5 + [[-1.0, -1.0]] * 5 + [[1.0, 1.0]] * 40)
    assert cell.fault is not None and seconds < delay + 1.0
    turned = np.abs(cell.controller.arm.q_actual - begin).max()
    assert turned < 0.15 * settings.speed_limit / 0.3


def second(cell, qd):
    """Let another client send speeds in every cycle, before ours."""
    obey = cell.controller.obey

    def both(line):
        obey(speedj(qd, 1.4, 0.008).decode())
        obey(line)
        obey(speedj(qd, 1.4, 0.008).decode())

    cell.controller.obey = both


def test_another_client_is_noticed_while_we_move_the_arm():
    cell = Cell(SLOW)
    cell.begin()
    cell.play([[0.5, 0.5]] * 10)
    second(cell, (0, -0.1, 0, 0, 0, 0))
    assert cell.play([[0.5, 0.5]] * 40) < 1.0
    assert "it does not do what was sent" in cell.fault


@pytest.mark.parametrize("joint", range(6))
def test_another_client_is_noticed_while_the_arm_should_rest(joint):
    cell = Cell(SLOW)
    cell.begin()
    for _ in range(60):
        cell.controller.obey(speedj(0.1 * np.eye(6)[joint], 1.4, 0.008).decode())
        cell.cycle()
    assert f"somebody else moves it: joint {joint} at 0.1 rad/s, and nothing was sent" in cell.fault


def test_a_pendant_that_slows_the_way_to_the_start_is_noticed_while_the_arm_moves():
    cell = Cell(SLOW)
    cell.begin()
    q = cell.controller.arm.q_target
    cell.rest(1.0)
    set_fault(cell.controller.faults, "speed_scaling", "0.5")
    cell.rest(0.5)
    assert cell.fault is None
    goal = tuple(np.add(q, [0, 0.1, 0, 0, 0, 0]))
    cell.watch.sent_way(q, goal)
    cell.controller.obey(movej(goal, 1.0, 0.3, 2.0).decode())
    cell.rest(0.5)
    assert "speed_scaling is 0.5" in cell.fault


def test_another_client_is_noticed_on_the_way_to_the_start():
    cell = Cell(SLOW)
    cell.begin()
    q = cell.controller.arm.q_target
    goal = tuple(q + 0.2)
    cell.watch.sent_way(q, goal)
    cell.controller.obey(movej(goal, 1.0, 0.3, 2.0).decode())
    cell.rest(1.0)
    assert cell.fault is None
    cell.controller.obey(movej(np.add(q, [0.4, 0, 0, 0, 0, 0]), 1.0, 0.3, 1.0).decode())
    cell.rest(1.0)
    assert "it is not on its way: joint " in cell.fault


@pytest.mark.parametrize(("speed", "is_fine"), [(10, True), (4, True), (2.5, False)])
def test_a_busy_machine_may_slow_an_emulator_down_a_little(speed, is_fine):
    watch, controller, now = Watch(0.3, clock_speed=10), Controller(SLOW.q_ref), 0.0
    faults = set()
    for cycle in range(4000):
        now += 0.008 / (10 if cycle < 1000 else speed)
        faults.add(watch.fault(unpack(controller.cycle()), now))
    assert (faults == {None}) == is_fine


def test_the_speed_of_a_joint_is_limited_as_it_is_measured():
    cell = Cell(SLOW)
    cell.begin()
    cell.controller.obey(movej(np.add(SLOW.q_ref, 1.0), 9, 9, 1.0).decode())
    cell.watch.sent_way(cell.controller.arm.q_target, tuple(np.add(SLOW.q_ref, 1.0)))
    cell.rest(0.5)
    assert re.search(r"joint \d turns at 0\.4\d* rad/s; the limit is 0\.3", cell.fault)


AT_THE_EMULATOR = ["scale 0.5", "scale -1", "ignored 2", "clock_rate 0.5", "clock_ahead 10"]


@pytest.mark.parametrize("line", AT_THE_EMULATOR)
def test_the_environment_truncates_stops_the_arm_and_names_the_fault(serve, backend, line):
    serving = serve(speed=1.0)
    env = reacher(serving, backend, stale_after=0.2)
    env.reset(seed=0)
    for _ in range(5):
        env.step([0.5, 0.5])
    serving.control(line)
    steps = [env.step([1.0, 1.0] if t % 20 < 10 else [-1.0, -1.0]) for t in range(1)]
    while not steps[-1][3]:
        steps.append(env.step([1.0, 1.0] if len(steps) % 20 < 10 else [-1.0, -1.0]))
    info = steps[-1][4]
    found = info.get("fault", "none")
    # Over RTDE the program on the controller stops the arm, a cycle later.
    stopped = eventually(lambda: serving.state()["last_command"] == "stopj(a=3.000000000)")
    serving.control("clear")
    rested = rests(serving)
    refused = ""
    try:
        env.reset()
    except PersonNeeded as error:
        refused = str(error)
    env.close()
    assert refused.startswith(found) and not info["broken"]
    assert re.search(FAULTS[line].replace("0\\.1", "0\\.2").replace("0\\.0[56]", "0\\.1"), found)
    assert stopped and rested and len(steps) < 60


def test_another_clock_is_refused_before_anything_moves():
    with emulate(speed=4.0) as emulator:
        env = make_real("127.0.0.1", port=emulator.port, stale_after=0.2)
        with pytest.raises(EnvironmentFault, match=r"its clock (has gained|runs \d\.?\d* times)"):
            env.reset()
        assert not commands(emulator, "movej")
    with emulate(speed=1.0) as emulator:
        env = make_real("127.0.0.1", port=emulator.port, emulator_speed=10, stale_after=10)
        with pytest.raises(EnvironmentFault, match="times as fast as ours, not 10 times"):
            env.reset()
        assert not commands(emulator, "movej")
