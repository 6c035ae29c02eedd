"""Environments by id, and the full state of MuJoCo's environments."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import Any

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import numpy as np
import torch
from gymnasium.envs.mujoco import MujocoEnv

from hesrl.envs.episode_progress import EpisodeProgress
from hesrl.envs.flat_observations import flattened, has_images
from hesrl.envs.spaces import check_spaces
from hesrl.errors import UserError, one_line

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


def make_env(
    env_id: str, *, progress: bool = False, flat: bool = True, **kwargs: Any
) -> gym.Env[Any, Any]:
    """Make an environment that observes a vector or an image.

    Args:
        env_id: Gymnasium id, such as ``"HalfCheetah-v5"``.
        progress: Whether to append the progress of the episode to the observation.
        flat: Whether observations that are no Box become a vector, a
            `hesrl.envs.flat_observations.FlatBox`.
        **kwargs: Passed on to the environment, such as ``max_episode_steps``.

    Raises:
        UserError: There is no such environment, it needs what is not installed, it does not take
            an argument, its spaces are others, or it has no progress: no time limit, or images.
    """
    if env_id.count(":") > 1:
        raise UserError(f"no environment {env_id!r}: write it as Name-v0 or module:Name-v0")
    limit = kwargs.get("max_episode_steps", 1)
    if type(limit) is not int or limit < 1:
        raise UserError(f"--env-options max_episode_steps={limit}: must be a whole number above 0")
    try:
        with _quiet_compiler():
            env = gym.make(env_id, disable_env_checker=True, **kwargs)
    except (gym.error.Error, ImportError) as error:
        if env_id.split(":")[-1] in gym.registry:
            raise UserError(one_line(f"cannot make environment {env_id}: {error}")) from error
        # What names a module that is not there may resemble an environment by chance.
        near = [] if isinstance(error, ImportError) else _near_matches(env_id)
        hint = f"did you mean {' or '.join(near)}?" if near else str(error)
        if not near and hint.startswith("Malformed"):
            hint = "write it as Name-v0 or module:Name-v0"
        raise UserError(one_line(f"no environment {env_id!r}: {hint}")) from error
    except TypeError as error:
        name = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if name is None or name[1] not in kwargs:
            raise
        if name[1] == "render_mode":
            what = f"environment {env_id} cannot be drawn"
            raise UserError(f"{what}: it takes no render_mode") from error
        option = "--robot-host" if name[1] == "host" else f"--env-options {name[1]}=…"
        raise UserError(f"{option}: environment {env_id} takes no {name[1]}") from error
    check_spaces(env_id, env)
    if flat:
        env = flattened(env)
    if progress:
        limit = None if env.spec is None else env.spec.max_episode_steps
        if limit is None or has_images(env.observation_space):
            lacks = "observes images" if limit is not None else "has no time limit"
            raise UserError(f"--progress: environment {env_id} {lacks}; leave the option out")
        env = EpisodeProgress(env, limit)
    return env


def _near_matches(env_id: str) -> list[str]:
    """Return the ids most like one that does not exist, each in its newest version."""
    by_age = sorted(gym.registry.values(), key=lambda spec: spec.version or 0)
    newest = {(spec.namespace, spec.name): spec.id for spec in by_age}
    return get_close_matches(env_id.split(":")[-1], newest.values(), n=3)


@contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Keep MuJoCo from printing that Gymnasium's models use deprecated attributes.

    Any other message of the model compiler becomes a Python warning: afterwards, because an
    exception in MuJoCo's callback ends the process, and a warning can be an exception.
    """
    messages: list[str] = []
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(messages.append)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before or _say_once)
    for message in messages:
        if "deprecated" not in message:
            warnings.warn(message, RuntimeWarning, stacklevel=4)


_said: set[str] = set()


def _say_once(message: str) -> None:
    """Write a kind of MuJoCo's messages to standard error, the first time.

    Without a handler MuJoCo writes each to MUJOCO_LOG.TXT in the working folder. The kind of a
    message is what stands before its numbers. An exception here would end the process.
    """
    if (kind := message.partition(" at ")[0]) not in _said:
        _said.add(kind)
        with suppress(OSError):
            os.write(2, f"MuJoCo, once: {one_line(message)}\n".encode())


def env_states(envs: Sequence[gym.Env[Any, Any]]) -> dict[str, Any] | None:
    """Return all that the future of MuJoCo environments depends on, or None for any other.

    Several environments read quantities that the previous step derived (positions of bodies,
    contact forces) before they step again. So the state is MuJoCo's integration state and every
    array of its data that has a fixed size, the arrays and numbers that the environment and its
    wrappers hold, and the random generator. Going on from it is identical to the bit. The list of
    contacts is not saved: until the next step it follows from the present position.

    Args:
        envs: N environments, made alike. Arrays of MuJoCo become one tensor of all of them (N, …).

    Returns:
        Nested dicts and lists of tensors and numbers, fit for a checkpoint.
    """
    inner: list[Any] = [env.unwrapped for env in envs]
    if not all(isinstance(env, MujocoEnv) for env in inner):
        return None
    models, data = [env.model for env in inner], [env.data for env in inner]
    physics = np.empty((len(envs), mujoco.mj_stateSize(models[0], _STATE)))
    for row, model, of_env in zip(physics, models, data, strict=True):
        mujoco.mj_getState(model, of_env, row, _STATE)
    derived = {
        name: torch.from_numpy(np.array([getattr(of_env, name) for of_env in data]))
        for name in derived_names(data[0])
    }
    return {
        "physics": torch.from_numpy(physics),
        "derived": derived,
        "attributes": [[_attributes(layer) for layer in layers(env)] for env in envs],
        "rng": [env.np_random.bit_generator.state for env in inner],
    }


def set_env_states(envs: Sequence[gym.Env[Any, Any]], states: dict[str, Any]) -> None:
    """Put MuJoCo environments into the state that `env_states` returned for others like them.

    Args:
        envs: The environments; they must have been reset once.
        states: The state.
    """
    for i, env in enumerate(envs):
        inner = env.unwrapped
        assert isinstance(inner, MujocoEnv)
        mujoco.mj_setState(inner.model, inner.data, states["physics"][i].numpy(), _STATE)
        mujoco.mj_forward(inner.model, inner.data)
        for name, arrays in states["derived"].items():
            getattr(inner.data, name)[...] = arrays[i].numpy()
        for layer, attributes in zip(layers(env), states["attributes"][i], strict=True):
            for name, value in attributes.items():
                # Indexing by () makes a scalar of an array without dimensions.
                is_array = isinstance(value, torch.Tensor)
                setattr(layer, name, value.numpy().copy()[()] if is_array else value)
        inner.np_random.bit_generator.state = states["rng"][i]


def derived_names(data: mujoco.MjData) -> list[str]:
    """Return the names of the float arrays of MuJoCo's data whose size the model fixes.

    They lie in one buffer that ``qpos`` begins. All others lie in an arena, where their sizes
    change with the contacts and some are not there at all.
    """
    start, names = data.qpos.ctypes.data, []
    for name in dir(data):
        value = getattr(data, name)
        if not isinstance(value, np.ndarray) or value.dtype != np.float64 or not value.size:
            continue
        if start <= value.ctypes.data < start + data.nbuffer:
            names.append(name)
    return names


def layers(env: gym.Env[Any, Any]) -> Iterator[gym.Env[Any, Any]]:
    """Yield an environment's wrappers, from the outermost, and then the environment itself."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def _attributes(layer: gym.Env[Any, Any]) -> dict[str, Any]:
    """Return a layer's own arrays, numbers and flags, such as the steps since the last reset."""
    attributes: dict[str, Any] = {}
    for name, value in vars(layer).items():
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
            attributes[name] = torch.from_numpy(np.array(value))
        elif type(value) in (bool, int, float):
            attributes[name] = value
    return attributes
