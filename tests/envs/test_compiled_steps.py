"""Steps in one call of C: observations, rewards, statistics and counts are those of Python."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from hesrl.bench.envs import compare
from hesrl.envs import batched_envs
from hesrl.envs.mujoco_tasks import COMPILED_TASKS
from hesrl.envs.normalized_envs import NormalizedEnvs

ENV_IDS = [f"{task.__name__.removesuffix('Env')}-v5" for task in COMPILED_TASKS]


def make(env_id, num_envs, monkeypatch=None, **settings):
    """Environments that step in C, or in turn where a monkeypatch is given."""
    if monkeypatch is not None:
        monkeypatch.setattr(batched_envs, "library", lambda: None)
    envs = NormalizedEnvs(env_id, num_envs, seed=3, gamma=0.97, **settings)
    assert (envs.together is None) == (monkeypatch is not None)
    envs.reset()
    return envs


def given(step):
    """All that a step gives, as values that == compares."""
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in step]


SETTINGS = [
    {},
    {"normalize_observations": False},
    {"normalize_rewards": False},
    {"progress": True, "clip": 1.0},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("env_id", ["Hopper-v5", "Humanoid-v5"])
def test_statistics_and_counts_are_those_of_python(monkeypatch, env_id, num_envs, settings):
    settings = {**settings, "env_options": {"max_episode_steps": 25}}
    compiled = make(env_id, num_envs, **settings)
    in_turn = make(env_id, num_envs, monkeypatch, **settings)
    rng = np.random.default_rng(0)
    episodes = 0
    for _ in range(80):
        actions = 2 * rng.standard_normal((num_envs, *compiled.action_space.shape))
        actions = actions.astype(np.float32)
        step, expected = compiled.step(actions), in_turn.step(actions)
        assert given(step) == given(expected)
        episodes += len(step.episodes)
        assert compiled.steps == in_turn.steps
    assert episodes > 2 * num_envs
    for part in ("observation_statistics", "reward_statistics", "returns", "lengths"):
        assert str(compiled.state_dict()[part]) == str(in_turn.state_dict()[part])


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_float64_actions_are_taken_in_single_precision(env_id):
    envs, others = make(env_id, 2), make(env_id, 2)
    actions = np.random.default_rng(0).standard_normal((5, 2, *envs.action_space.shape))
    for action in actions:
        assert given(envs.step(action)) == given(others.step(action.astype(np.float32)))


@pytest.mark.parametrize("bodies", [1, 20, 21, 22, 45, 90])
def test_forces_of_many_bodies_are_summed_as_numpy_does(bodies, tmp_path):
    """Models with more bodies than Ant's have sums of more than 128 squares."""
    model = gym.make("Ant-v5").unwrapped.fullpath
    chain = "".join(
        f'<body pos="0 0 0.5"><freejoint/><geom size="0.1" mass="0.1" pos="{i} 0 0"/></body>'
        for i in range(bodies)
    )
    text = Path(model).read_text().replace("</worldbody>", f"{chain}</worldbody>")
    path = tmp_path / "ant.xml"
    path.write_text(text)
    differences, _ = compare("Ant-v5", 15, xml_file=str(path), terminate_when_unhealthy=False)
    assert differences == 0


def test_a_nan_action_is_refused_before_anything_changes():
    envs = make("HalfCheetah-v5", 2)
    before = str(envs.state_dict())
    actions = np.zeros((2, 6), dtype=np.float32)
    actions[1, 3] = np.nan
    with pytest.raises(FloatingPointError, match=r"HalfCheetah-v5: an action is NaN: .*nan"):
        envs.step(actions)
    assert str(envs.state_dict()) == before
