"""Stepping N environments: what goes wrong is named, and enters no statistics."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import EnvironmentFault, UserError

FINE = ([0.5, 1.0], 1.0, False, False)


def step(envs):
    return envs.step(np.zeros((len(envs.observations), 1), dtype=np.float32))


def statistics(envs):
    """All statistics, as text."""
    state = envs.state_dict()
    return str([state["observation_statistics"], state["reward_statistics"]])


@pytest.mark.parametrize("num_envs", [0, -1])
def test_too_few_environments_are_refused(num_envs):
    with pytest.raises(UserError, match=f"--num-envs {num_envs}: must be at least 1"):
        NormalizedEnvs("Hopper-v5", num_envs, seed=0, gamma=0.99)


@pytest.mark.filterwarnings("ignore:overflow encountered in dot")
@pytest.mark.parametrize(
    ("result", "message"),
    [
        (([0, np.nan], 1.0, False, False), "gave an observation whose entry 1 is nan"),
        (([-np.inf, 0], 1.0, True, False), "gave an observation whose entry 0 is -inf"),
        (([-np.inf, np.inf], 1.0, False, False), "gave an observation whose entry 0 is -inf"),
        (([1e200, 0], 1.0, False, False), r"gave an observation whose entry 0 is 1e\+200"),
        (([0, 0], np.nan, False, False), "gave the reward nan"),
        (([0, 0], np.inf, True, False), "gave the reward inf"),
        (([0, 0], -1e200, True, False), r"gave the reward -1e\+200"),
    ],
)
def test_a_number_that_is_not_finite_is_named_and_taken_nowhere(scripted, result, message):
    envs = scripted([FINE] * 3, [FINE, result], [FINE] * 3)
    envs.reset()
    step(envs)
    before = statistics(envs)
    where = r"Scripted-v0, environment 1 \(seed 8\), step 2 of its episode, step 6 of the run: "
    with pytest.raises(FloatingPointError, match=where + message):
        step(envs)
    assert statistics(envs) == before


def test_infinities_of_opposite_sign_do_not_cancel(scripted):
    envs = scripted([([0, 0], np.inf, False, False)], [([0, 0], -np.inf, False, False)])
    envs.reset()
    with pytest.raises(FloatingPointError, match=r"environment 0 .* gave the reward inf"):
        step(envs)


def test_a_first_observation_that_is_not_finite_is_named(scripted):
    envs = scripted([FINE], first=[[np.nan, 0]])
    before = statistics(envs)
    with pytest.raises(
        FloatingPointError, match=r"\(seed 7\), reset, step 0 of the run: .*entry 0 is nan"
    ):
        envs.reset()
    assert statistics(envs) == before


def test_an_action_that_is_nan_is_refused_before_any_step(scripted):
    envs = scripted([FINE])
    envs.reset()
    with pytest.raises(FloatingPointError, match=r"Scripted-v0: an action is NaN: \[\[nan\]\]"):
        envs.step(np.full((1, 1), np.nan, dtype=np.float32))
    assert envs.plain.envs[0].unwrapped.received == []


def test_an_environment_that_raises_is_named(scripted):
    envs = scripted([FINE] * 3, [FINE, ValueError("joint limit")])
    envs.reset()
    step(envs)
    where = r"Scripted-v0, environment 1 \(seed 8\), step 2 of its episode, step 4 of the run: "
    message = where + r"raised ValueError\('joint limit'\) \(conftest.py, line \d+\)$"
    with pytest.raises(EnvironmentFault, match=message) as caught:
        step(envs)
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_observation_of_another_shape_is_named(scripted):
    envs = scripted([([1.0, 2.0, 3.0], 1.0, False, False)])
    envs.reset()
    message = r"step 1 of the run: gave an observation of shape \(3,\) .* has shape \(2,\)$"
    with pytest.raises(EnvironmentFault, match=rf"^Scripted-v0, environment 0 .*{message}"):
        step(envs)


def test_a_reset_that_raises_is_named(scripted):
    envs = scripted([([0, 0], 1.0, True, False)], first=[[0, 0], OSError("no robot")])
    envs.reset()
    where = r"\(seed 7\), reset, step 1 of the run: "
    with pytest.raises(EnvironmentFault, match=where + r"raised OSError\('no robot'\)"):
        step(envs)


def test_an_environment_goes_by_its_new_seed_after_a_resume(scripted):
    envs = scripted([FINE])
    envs.reset()
    state = envs.state_dict()
    with pytest.raises(EnvironmentFault, match=r"environment 0 \(seed \d{5,}\), reset, .* KeyErr"):
        envs.load_state_dict(state)


def test_a_reward_that_is_no_number_is_named(scripted):
    envs = scripted([([0, 0], None, False, False)])
    envs.reset()
    with pytest.raises(
        EnvironmentFault, match=r"step 1 of the run: gave the reward None, which is no n"
    ):
        step(envs)


@pytest.mark.parametrize("obs", [[1.0], [[1.0, 2.0]], 3.0])
def test_a_first_observation_of_another_shape_is_named(scripted, obs):
    """NumPy alone would repeat the number in all entries."""
    envs = scripted([FINE], first=[obs])
    shape = re.escape(str(np.shape(obs)))
    with pytest.raises(EnvironmentFault, match=rf"of shape {shape}.* space has shape \(2,\)$"):
        envs.reset()


@pytest.mark.parametrize("option", ["normalize_observations", "normalize_rewards"])
@pytest.mark.parametrize("result", [([1e39, 0], 1.0, False, False), ([0, 0], -1e39, False, False)])
def test_a_number_beyond_single_precision_is_refused_where_it_is_not_scaled(
    scripted, option, result
):
    envs = scripted([result], options={option: False})
    envs.reset()
    with pytest.raises(FloatingPointError, match=r"1e\+39"):
        step(envs)


def test_actions_that_a_discrete_space_lacks_are_refused():
    envs = NormalizedEnvs("CartPole-v1", 2, seed=0, gamma=0.99)
    envs.reset()
    for actions in ([0, 2], [-1, 0]):
        with pytest.raises(ValueError, match=r"CartPole-v1: an action is not from 0 to 1: \["):
            envs.step(np.array(actions))
    assert envs.steps == 0
