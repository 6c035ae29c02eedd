"""MuJoCo's state to the bit."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from hesrl.envs.mujoco import derived_names, env_states, make_env, set_env_states
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.runs.checkpoint import load_checkpoint, save_checkpoint

MUJOCO_ENVS = [
    "Ant-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
]


def rollout(envs, actions):
    """All that the steps give, as plain values that == compares."""
    steps = [envs.step(action) for action in actions]
    return [
        [value.tolist() if isinstance(value, np.ndarray) else value for value in step]
        for step in steps
    ]


@pytest.mark.parametrize("env_id", MUJOCO_ENVS)
def test_a_saved_run_goes_on_to_the_bit(tmp_path, monkeypatch, env_id):
    """In the middle of an episode and over the ends of that one and others."""
    monkeypatch.setattr(gym.registry[env_id], "max_episode_steps", 120)
    envs = NormalizedEnvs(env_id, 2, seed=1, gamma=0.99)
    envs.reset()
    shape = (250, 2, *envs.action_space.shape)
    actions = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    rollout(envs, actions[:50])
    save_checkpoint(tmp_path / "checkpoint.pt", envs.state_dict())
    obs = envs.observations
    expected = rollout(envs, actions[50:])

    resumed = NormalizedEnvs(env_id, 2, seed=99, gamma=0.99)
    assert resumed.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt"))
    assert np.array_equal(resumed.observations, obs)
    assert rollout(resumed, actions[50:]) == expected
    assert {episode.env_index for *_, episodes, _ in expected for episode in episodes} == {0, 1}


@pytest.mark.parametrize("env_id", MUJOCO_ENVS)
def test_every_derived_array_is_restored(env_id):
    env, other = make_env(env_id), make_env(env_id)
    env.reset(seed=0)
    other.reset(seed=1)
    for action in np.random.default_rng(0).uniform(-1, 1, (20, *env.action_space.shape)):
        env.step(action)
    set_env_states([other], env_states([env]))
    data, restored = env.unwrapped.data, other.unwrapped.data
    for name in derived_names(data):
        assert np.array_equal(getattr(restored, name), getattr(data, name)), name
    assert restored.time == data.time
    # They are those of the last step, not of the position; only contacts are of the position.
    mujoco.mj_forward(env.unwrapped.model, data)
    assert not np.array_equal(restored.xpos, data.xpos)
    assert restored.ncon == data.ncon


@pytest.mark.parametrize("env_id", MUJOCO_ENVS)
def test_derived_arrays_are_those_that_mujoco_declares_with_a_fixed_size(env_id):
    header = Path(mujoco.__file__).parent / "include/mujoco/mjxmacro.h"
    fixed = header.read_text().split("#define MJDATA_POINTERS ")[1].split("#define")[0]
    declared = set(re.findall(r"X\w*\s*\(\s*mjtNum\s*,\s*(\w+)", fixed))
    data = make_env(env_id).unwrapped.data
    assert {"qpos", "cfrc_ext", "site_xpos", "ten_length"} < declared
    assert set(derived_names(data)) == {name for name in declared if getattr(data, name).size}


def test_state_is_a_snapshot_of_plain_values(tmp_path):
    env = make_env("Reacher-v5")
    env.reset(seed=0)
    state = env_states([env])
    save_checkpoint(tmp_path / "checkpoint.pt", state)
    env.step(env.action_space.high)
    env.reset()
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert torch.equal(state["physics"], saved["physics"])
    assert repr(state) == repr(saved)


def test_attributes_of_an_environment_and_its_wrappers_are_restored():
    env, other = make_env("Hopper-v5", max_episode_steps=9), make_env("Hopper-v5")
    for made in (env, other):
        made.reset(seed=0)
    inner = env.unwrapped
    inner.count, inner.flag, inner.ratio = 3, True, 0.1
    inner.scalar, inner.goal = np.float32(0.2), np.array([1, 2])
    env.step(env.action_space.high)
    set_env_states([other], env_states([env]))
    copy = other.unwrapped
    assert (copy.count, copy.flag, copy.ratio, copy.scalar) == (3, True, 0.1, np.float32(0.2))
    assert isinstance(copy.scalar, np.float32) and copy.goal.tolist() == [1, 2]
    assert copy.goal is not inner.goal
    assert (other._elapsed_steps, other._max_episode_steps) == (1, 9)


def test_an_environment_without_mujoco_has_no_state():
    assert env_states([make_env("Pendulum-v1")]) is None


@pytest.mark.filterwarnings(
    "ignore:.*A Box observation space m.*imum value is -?infinity",
    "ignore:.*is different from the unwrapped version",
    "ignore:.*we recommend using a symmetric and normalized space",
)
@pytest.mark.parametrize("env_id", [*MUJOCO_ENVS, "Pendulum-v1"])
def test_gymnasium_finds_no_fault(tmp_path, monkeypatch, env_id):
    monkeypatch.chdir(tmp_path)  # The checker makes the environment again, and MuJoCo logs there.
    check_env(make_env(env_id), skip_render_check=True)
