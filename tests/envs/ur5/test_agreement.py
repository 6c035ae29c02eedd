"""The same actions do the same in simulation and, in real time, at the emulator.

Where the agent is late, on a busy machine, the simulated action lasts as long as the real one.
"""

from __future__ import annotations

import numpy as np
import pytest

from hesrl.envs.ur5.simulation import UR5ReacherSim
from tests.envs.ur5.emulated import Served, reacher

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


def with_times(times):
    """Return the simulation in which each action lasts as long as it did between two times."""
    env = UR5ReacherSim(cycle_jitter=1.0)
    env._ticks = iter(np.rint(np.diff(times) / 0.008).astype(int).tolist()).__next__
    return env


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_arm_does_what_the_simulation_does(backend, name):
    served = Served(speed=2.0)
    env = reacher(served, backend)
    act = env._act

    def noted(action):
        env._acted = env._link.state.time
        act(action)

    env._act = noted
    observations, rewards, guards, times = episode(env, SEQUENCES[name])
    served.close()
    simulated, simulated_rewards, simulated_guards, _ = episode(with_times(times), SEQUENCES[name])
    assert guards == simulated_guards == ({None} if name == "free" else {None, "box"})
    places, (at_most, return_at_most) = [0, 1, 4, 5], TOLERANCES[name]
    np.testing.assert_allclose(observations[:, places], simulated[:, places], atol=at_most)
    np.testing.assert_array_equal(observations[:, 6:], simulated[:, 6:])
    assert rewards.sum() == pytest.approx(simulated_rewards.sum(), abs=return_at_most)
