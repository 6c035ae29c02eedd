"""Environments with continuous actions, and the full state of those that MuJoCo simulates."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import torch
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box

from hesrl.errors import UserError


def make_env(env_id: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """Make an environment with a vector of observations and a bounded vector of actions.

    Args:
        env_id: Gymnasium id, such as ``"HalfCheetah-v5"``.
        **kwargs: Passed on to the environment, such as ``max_episode_steps``.

    Raises:
        UserError: There is no such environment, or its spaces are others.
    """
    try:
        with _quiet_compiler():
            env = gym.make(env_id, disable_env_checker=True, **kwargs)
    except (gym.error.UnregisteredEnv, gym.error.MalformedEnvironmentID) as error:
        near = get_close_matches(env_id, gym.registry, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"no environment {env_id}{hint}") from error
    except gym.error.DependencyNotInstalled as error:
        raise UserError(f"environment {env_id} needs a package that is missing: {error}") from error
    observations, actions = env.observation_space, env.action_space
    if not isinstance(actions, Box) or len(actions.shape) != 1 or not actions.is_bounded():
        raise UserError(
            f"environment {env_id} has actions {actions}; only a bounded vector (Box) of "
            "continuous actions is supported"
        )
    if not isinstance(observations, Box) or len(observations.shape) != 1:
        raise UserError(
            f"environment {env_id} has observations {observations}; only a vector (Box) is "
            "supported"
        )
    return env


@contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Keep MuJoCo from printing that Gymnasium's models use deprecated attributes.

    Any other warning of the model compiler becomes a Python warning.
    """

    def report(message: str) -> None:
        if "deprecated" not in message:
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(report)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def env_state(env: gym.Env[Any, Any]) -> dict[str, Any] | None:
    """Return all that the future of a MuJoCo environment depends on, or None for any other.

    Several environments read quantities that the previous step derived (positions of bodies,
    contact forces) before they step again. So the state is MuJoCo's integration state and every
    array of its data that has a fixed size, and going on from it is identical to the bit.
    """
    inner = env.unwrapped
    if not isinstance(inner, MujocoEnv):
        return None
    model, data = inner.model, inner.data
    spec = mujoco.mjtState.mjSTATE_INTEGRATION
    physics = np.empty(mujoco.mj_stateSize(model, spec))
    mujoco.mj_getState(model, data, physics, spec)
    arrays = {
        name: torch.from_numpy(np.array(value))
        for name, value in vars(inner).items()
        if isinstance(value, np.ndarray)
    }
    return {
        "physics": torch.from_numpy(physics),
        "derived": {
            name: torch.from_numpy(np.array(value)) for name, value in _fixed_arrays(data)
        },
        "attributes": arrays,
        "counters": [_counters(wrapper) for wrapper in _wrappers(env)],
        "rng": inner.np_random.bit_generator.state,
    }


def set_env_state(env: gym.Env[Any, Any], state: dict[str, Any]) -> None:
    """Put a MuJoCo environment into a state that `env_state` returned for one like it.

    Args:
        env: The environment; it must have been reset once.
        state: The state.
    """
    inner = env.unwrapped
    assert isinstance(inner, MujocoEnv)
    model, data = inner.model, inner.data
    spec = mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(model, data, state["physics"].numpy(), spec)
    mujoco.mj_forward(model, data)
    for name, value in _fixed_arrays(data):
        value[...] = state["derived"][name].numpy()
    for name, value in state["attributes"].items():
        setattr(inner, name, value.numpy().copy())
    for wrapper, counters in zip(_wrappers(env), state["counters"], strict=True):
        vars(wrapper).update(counters)
    inner.np_random.bit_generator.state = state["rng"]


def _fixed_arrays(data: Any) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield the float arrays of MuJoCo's data whose size the model fixes."""
    for name in dir(data):
        if name.startswith(("_", "contact", "efc_", "iefc_", "island_", "dof_", "tree_", "map_")):
            continue
        value = getattr(data, name)
        if isinstance(value, np.ndarray) and value.dtype == np.float64 and value.size:
            yield name, value


def _wrappers(env: gym.Env[Any, Any]) -> Iterator[gym.Env[Any, Any]]:
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env


def _counters(wrapper: gym.Env[Any, Any]) -> dict[str, int | bool]:
    """Return a wrapper's counters and flags, such as the steps since the last reset."""
    return {name: value for name, value in vars(wrapper).items() if type(value) in (int, bool)}
