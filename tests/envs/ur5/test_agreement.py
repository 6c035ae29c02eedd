"""The same actions do the same in simulation and, in real time, at the emulator.

Where the agent is late, on a busy machine, the simulated action lasts as long as the real one, and
where SenseAct's process sends it late, the one before lasts longer.
"""

from __future__ import annotations

import json
from collections import deque

import numpy as np
import pytest

from hesrl.envs.ur5.arm import TICK
from hesrl.envs.ur5.kinematics import Command
from hesrl.envs.ur5.link import STOP_ACCELERATION
from hesrl.envs.ur5.simulation import UR5ReacherSim
from hesrl.envs.ur5.urscript import parse
from tests.envs.ur5.emulated import Served, reacher

STOP = Command(0.0, 0.0, STOP_ACCELERATION)
T = np.arange(100)[:, None]
SEQUENCES = {
    "free": np.sin([0.1, 0.17] * T) + 0.3 * np.cos([0.45, 0.31] * T),
    "out of the box and back": np.where(T < [60, 40], 0.9, [-0.8, -1.0])
    + 0.2 * np.sin([0.7, 0.5] * T),
}
# Largest differences of an angle or place (rad, m) and of the return. Whether the guard acts with
# one action or with the next is 0.012 rad, which stay for the rest of the episode.
TOLERANCES = {"free": (0.01, 1.0), "out of the box and back": (0.03, 2.5)}


def episode(env, actions):
    """Play an episode.

    Returns:
        Observations (100, 8), rewards (100,), the guards that act, and the packets' times at the
        actions and after the last one (101,), which a simulation does not have.
    """
    env.reset(seed=3)
    steps, times = [], []
    for action in actions:
        steps.append(env.step(action))
        times.append(getattr(env, "_acted", 0.0))
    assert [step[3] for step in steps] == [False] * 99 + [True]
    assert not any("fault" in step[4] for step in steps)
    times.append(getattr(env, "_observed", 0.0))
    env.close()
    observations, rewards = (np.array([step[i] for step in steps]) for i in (0, 1))
    return observations, rewards, {step[4]["guard"] for step in steps}, times


class AtTimes(UR5ReacherSim):
    """The simulation in which each action is observed and obeyed when it was.

    Args:
        observed: When actions were chosen, and when the last one ended (101,), s.
        sent: What came to the controller, in order: when (s), and the number of an action, or −1
            for SenseAct's stop.
        guards: What guards the actions.
    """

    def __init__(self, observed, sent, guards):
        super().__init__(cycle_jitter=1.0)
        ticks = lambda time: round((time - observed[0]) / TICK)  # noqa: E731
        self._sent = deque((ticks(time), number) for time, number in sent)
        self._ends, self._now, self._given = [ticks(end) for end in observed[1:]], 0, []
        self._obeyed = Command(0.0, 0.0, self.settings.acceleration)
        self._task.guards = guards

    def _ticks(self):
        return self._ends[len(self._given)] - self._now

    def _move(self, command, ticks):
        self._given.append(command)
        for _ in range(ticks):
            while self._sent and self._sent[0][0] <= self._now:
                number = self._sent.popleft()[1]
                self._obeyed = self._given[number] if number >= 0 else STOP
            super()._move(self._obeyed, 1)
            self._now += 1


def what_came(served, chosen, speeds):
    """Return what `AtTimes` takes.

    Args:
        served: The controller.
        chosen: When the actions were chosen (s).
        speeds: What SenseAct sends to shoulder and elbow, for each of them (100, 2), rad/s.
    """
    came = []
    for time, line in json.loads(served.control("commands")):
        name, joints, _ = parse(line)
        if time >= chosen[0] and name == "stopj":
            came.append((time, -1))
        elif time >= chosen[0] and name == "speedj":
            is_it = np.isclose(speeds, joints[1:3], rtol=0, atol=1e-9).all(axis=1)
            came.append((time, np.flatnonzero(is_it & (np.array(chosen) <= time))[-1]))
    return came


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_arm_does_what_the_simulation_does(backend, name):
    served = Served(speed=2.0)
    env = reacher(served, backend)
    act, speeds = env._act, []

    def noted(action):
        env._acted = env._link.state.time
        act(action)
        if backend == "senseact":
            # Of shoulder and elbow, after SenseAct's own guards.
            speeds.append(env._link.reacher._speedj_packet[2:4].copy())

    env._act = noted
    observations, rewards, guards, times = episode(env, SEQUENCES[name])
    sent = (
        what_came(served, times[:-1], speeds)
        if speeds
        else zip(times[:-1], range(100), strict=True)
    )
    served.close()
    simulation = AtTimes(times, sent, env._task.guards)
    simulated, simulated_rewards, simulated_guards, _ = episode(simulation, SEQUENCES[name])
    assert guards == simulated_guards == ({None} if name == "free" else {None, "box"})
    places, (at_most, return_at_most) = [0, 1, 4, 5], TOLERANCES[name]
    np.testing.assert_allclose(observations[:, places], simulated[:, places], atol=at_most)
    np.testing.assert_array_equal(observations[:, 6:], simulated[:, 6:])
    assert rewards.sum() == pytest.approx(simulated_rewards.sum(), abs=return_at_most)
