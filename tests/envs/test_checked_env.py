"""An environment in a loop that is not hesrl's own: its mistakes are one line."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from hesrl.envs.checked_env import CheckedEnv
from hesrl.errors import EnvironmentFault

FINE = (np.zeros(2), 1.0, False, False, {})


class Given(gym.Env):
    """Gives what it was given."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, first, *steps):
        self.first, self.steps = first, iter(steps)

    def reset(self, *, seed=None, options=None):
        if isinstance(self.first, Exception):
            raise self.first
        return self.first, {}

    def step(self, action):
        step = next(self.steps)
        if isinstance(step, Exception):
            raise step
        return step


def play(first, *steps):
    env = CheckedEnv(Given(first, *steps), "Given-v0, environment 3")
    env.reset(seed=7)
    return [env.step(np.zeros(1)) for _ in steps]


def test_what_is_fine_passes():
    assert play(np.zeros(2), FINE, FINE) == [FINE, FINE]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (ValueError("joint\nlimit"), r"raised ValueError\('joint\\nlimit'\) \(test_checked_env.py"),
        ((np.zeros(3), *FINE[1:]), r"gave an observation of shape \(3,\) .* has shape \(2,\)$"),
        ((0.5, *FINE[1:]), r"gave an observation of shape \(\) .* has shape \(2,\)$"),
        (FINE[:4], "gave 4 values, instead of observation, reward, terminated, truncated, info$"),
        (None, "gave None, instead of observation, reward"),
        ((FINE[0], "one", *FINE[2:]), "gave the reward 'one', which is no number$"),
        ((*FINE[:4], None), "gave the info None, which is no dictionary$"),
        ((FINE[0], np.nan, *FINE[2:]), "gave the reward nan$"),
        ((np.array([0, np.inf]), *FINE[1:]), "gave an observation whose entry 1 is inf$"),
    ],
)
def test_a_step_that_is_none_is_named(bad, message):
    where = r"^Given-v0, environment 3 \(seed 7\), step 2 of its episode: "
    with pytest.raises(EnvironmentFault, match=where + message) as caught:
        play(np.zeros(2), FINE, bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "message"),
    [(OSError("no robot"), r"raised OSError\('no robot'\)"), (np.zeros(3), "gave an observation")],
)
def test_a_reset_is_checked_too(first, message):
    where = r"^Given-v0, environment 3 \(seed 7\), reset: "
    with pytest.raises(EnvironmentFault, match=where + message):
        play(first)
