"""The same actions do the same in simulation and, in real time, at the emulator."""

from __future__ import annotations

import numpy as np
import pytest

from hesrl.envs.ur5 import senseact
from hesrl.envs.ur5.simulation import UR5ReacherSim
from tests.envs.ur5.served import Served, served_reacher

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
    """Play an episode, and return observations (100, 8), rewards (100,) and the guards that act."""
    env.reset(seed=3)
    steps = [env.step(action) for action in actions]
    assert [step[3] for step in steps] == [False] * 99 + [True]
    assert not any("fault" in step[4] for step in steps)
    env.close()
    observations, rewards = (np.array([step[i] for step in steps]) for i in (0, 1))
    return observations, rewards, {step[4]["guard"] for step in steps}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize(
    "backend", ["driver", pytest.param("senseact", marks=pytest.mark.senseact)]
)
def test_the_arm_does_what_the_simulation_does(backend, name):
    if backend == "senseact":
        pytest.importorskip("senseact.devices", reason=f"needs SenseAct: {senseact.INSTALL}")
    served = Served(speed=1.0)
    observations, rewards, guards = episode(served_reacher(served, backend), SEQUENCES[name])
    served.close()
    simulated, simulated_rewards, simulated_guards = episode(UR5ReacherSim(), SEQUENCES[name])
    assert guards == simulated_guards == ({None} if name == "free" else {None, "box"})
    places, (at_most, return_at_most) = [0, 1, 4, 5], TOLERANCES[name]
    np.testing.assert_allclose(observations[:, places], simulated[:, places], atol=at_most)
    np.testing.assert_array_equal(observations[:, 6:], simulated[:, 6:])
    assert rewards.sum() == pytest.approx(simulated_rewards.sum(), abs=return_at_most)
