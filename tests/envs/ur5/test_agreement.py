"""The same actions do the same in simulation and, in real time, at the emulator.

On a busy machine actions are late, and commands are later. The simulation obeys an action when the
controller got it, and stops where the controller got nothing for too long.
"""

from __future__ import annotations

import json
from collections import deque

import numpy as np
import pytest

from hesrl.envs.ur5.arm import TICK
from hesrl.envs.ur5.kinematics import Command
from hesrl.envs.ur5.simulation import UR5ReacherSim
from hesrl.envs.ur5.urscript import parse
from tests.envs.ur5.emulated import reacher

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
        came: What came to the controller, in order: when (s), and an action's number or a command.
        guards: What guards the actions.
    """

    def __init__(self, observed, came, guards):
        super().__init__(cycle_jitter=1.0)
        ticks = lambda time: round((time - observed[0]) / TICK)  # noqa: E731
        self._came = deque((ticks(time), what) for time, what in came)
        self._ends, self._now, self._given = [ticks(end) for end in observed[1:]], 0, []
        self._obeyed = stopped(self.settings.acceleration)
        self._task.guards = guards

    def _ticks(self):
        return self._ends[len(self._given)] - self._now

    def _move(self, command, ticks):
        self._given.append(command)
        for _ in range(ticks):
            while self._came and self._came[0][0] <= self._now:
                what = self._came.popleft()[1]
                self._obeyed = what if isinstance(what, Command) else self._given[what]
            super()._move(self._obeyed, 1)
            self._now += 1


def stopped(a):
    """Return the command to stop with a deceleration (rad/s²)."""
    return Command(0.0, 0.0, a)


def what_came(served, chosen, told):
    """Return what `AtTimes` takes.

    Args:
        served: The controller.
        chosen: When the actions were chosen (s).
        told: What was to be sent: numbers of actions, and speeds of shoulder and elbow (rad/s).
    """
    came, end = [], np.inf
    numbers, speeds = np.array([number for number, _ in told]), [pair for _, pair in told]
    begins = np.array(chosen)[numbers]
    for time, line in json.loads(served.control("commands")):
        name, joints, options = parse(line)
        if time < chosen[0] or name == "movej":
            continue
        if time > end + TICK / 2:
            came.append((end, stopped(came[-1][2])))
        if name == "stopj":
            came.append((time, stopped(options["a"]), options["a"]))
            end = np.inf
            continue
        is_it = np.isclose(speeds, joints[1:3], rtol=0, atol=1e-8).all(axis=1) & (begins <= time)
        # Where the heartbeat stands still, the program asks for rest.
        what = numbers[is_it].max() if is_it.any() else stopped(options["a"])
        assert is_it.any() or not any(joints), line
        came.append((time, what, options["a"]))
        end = time + options["t"]
    return [(time, what) for time, what, *_ in came]


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_arm_does_what_the_simulation_does(serve, backend, name):
    served = serve(speed=2.0)
    env = reacher(served, backend)
    act, command, chosen, told, looked = env._act, env._task.command, [], [], []

    def acted(action):
        env._acted = env._link.state.time
        chosen.append(env._acted)
        act(action)
        if backend == "senseact":
            # After SenseAct's own guards.
            told[-1] = told[-1][0], tuple(env._link.reacher._speedj_packet[2:4])

    def commanded(*args):
        guarded = command(*args)
        looked.append(env._link.state.time)
        told.append((len(chosen) - 1, guarded[:2]))
        return guarded

    env._act, env._task.command = acted, commanded
    observations, rewards, guards, times = episode(env, SEQUENCES[name])
    simulation = AtTimes(times, what_came(served, chosen, told), env._task.guards)
    simulated, simulated_rewards, simulated_guards, _ = episode(simulation, SEQUENCES[name])
    assert guards == simulated_guards == ({None} if name == "free" else {None, "box"})
    places, (at_most, return_at_most) = [0, 1, 4, 5], TOLERANCES[name]
    # Guards act with the packets that reach them.
    late = max(0.0, np.diff(looked).max() - env.settings.dt) * env.settings.speed_limit
    at_most, return_at_most = at_most + late, return_at_most * (1 + late / at_most)
    np.testing.assert_allclose(observations[:, places], simulated[:, places], atol=at_most)
    np.testing.assert_array_equal(observations[:, 6:], simulated[:, 6:])
    assert rewards.sum() == pytest.approx(simulated_rewards.sum(), abs=return_at_most)
