"""Environments as Stable-Baselines3 takes them: a Dict of Boxes, actions from 0, finite bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from gymnasium.spaces.utils import flatten_space
from gymnasium.wrappers import TransformAction, TransformObservation
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from hesrl.envs.checked_env import CheckedEnv
from hesrl.envs.flat_observations import FlatBox
from hesrl.envs.mujoco import make_env
from hesrl.envs.real_time import real_time
from hesrl.envs.spaces import actions_for, is_image, warn_of_no_bounds
from hesrl.errors import UserError
from hesrl.rl.layers import Pixels, check_size
from hesrl.rl.settings import RolloutSettings

LARGEST = float(np.finfo(np.float32).max)
"""Stands for the missing bound of an action: Stable-Baselines3 asks for a finite one."""


class FloatBits(MultiBinary):
    """Bits in floating point: the loss of sb3-contrib's RecurrentPPO takes no others."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        # Gymnasium declares bits to be of int8, and takes no other type.
        self.dtype = np.dtype(np.float32)  # type: ignore[assignment]


class Seen:
    """Turns what one of hesrl's environments observes into what Stable-Baselines3's policies take.

    A Dict that was flattened is cut into its parts again: its images, and the others as vectors.
    Images have their channels first.

    Args:
        observations: A vector, an image, or a `FlatBox`.

    Attributes:
        space: Vectors as they are, images, or a Dict of both.

    Raises:
        UserError: An image is too small for the convolutions.
    """

    def __init__(self, observations: gym.Space[Any]) -> None:
        assert isinstance(observations, Box)
        self.space: gym.Space[Any] = observations
        self._image: Image | None = None
        self._parts: dict[str, tuple[slice, Image | None]] = {}
        if is_image(observations):
            self._image = Image(observations.shape)
            self.space = self._image.space
        if isinstance(observations, FlatBox) and isinstance(observations.original, Dict):
            spaces, start = {}, 0
            for key, part in observations.original.items():
                cut = slice(start, start := start + math.prod(flatten_space(part).shape or ()))
                image = Image(part.shape or ()) if is_image(part) else None
                low, high = observations.low[cut], observations.high[cut]
                vector = Box(low, high, dtype=observations.dtype.type)
                spaces[key] = vector if image is None else image.space
                self._parts[key] = cut, image
            self.space = Dict(list(spaces.items()))

    def cut(self, obs: Any) -> Any:
        """Return arrays or tensors (…) for observations (…), in their type."""
        if self._image is not None:
            return self._image.channels_first(obs)
        if not self._parts:
            return obs
        return {
            key: obs[..., cut] if image is None else image.channels_first(obs[..., cut])
            for key, (cut, image) in self._parts.items()
        }

    def __call__(self, obs: NDArray[Any]) -> Any:
        """Return arrays for observations, images in bytes."""
        seen = self.cut(obs)
        if isinstance(self.space, Dict):
            return {key: seen[key].astype(space.dtype) for key, space in self.space.items()}
        return seen


class Image:
    """One image of an observation.

    Args:
        shape: Its shape; the channels are the shortest of the first and the last side.

    Attributes:
        space: The image with its channels first.

    Raises:
        UserError: The image is too small for the convolutions.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        check_size(shape)
        self._shape, pixels = shape, Pixels(shape)
        self._channels_last = pixels.channels_last
        self.space = Box(0, 255, (pixels.channels, *pixels.size), np.uint8)

    def channels_first(self, pixels: Any) -> Any:
        """Return images (…, C, H, W) of images (…), or of their pixels (N, …) or (…,) in a row."""
        leading = pixels.shape[: -3 if pixels.ndim > 2 else -1]
        images = pixels.reshape(*leading, *self._shape)
        return images.swapaxes(-1, -2).swapaxes(-2, -3) if self._channels_last else images


@dataclass
class Environments:
    """The environments of a run, and what they are to the player of an evaluation.

    Attributes:
        envs: What the algorithm steps.
        observations: Space of what one environment observes, as in hesrl's own agents.
        actions: Space of what one environment takes.
    """

    envs: VecNormalize
    observations: gym.Space[Any]
    actions: gym.Space[Any]

    def seen(self, obs: NDArray[Any]) -> Any:
        """Return observations (N, …) as the policy takes them, normalized."""
        return self.envs.normalize_obs(Seen(self.observations)(obs))


def make_envs(args: RolloutSettings, options: dict[str, Any]) -> Environments:
    """Return the environments of a run.

    Args:
        args: Settings.
        options: Arguments of the environment.

    Raises:
        UserError: The environment is impossible, or one in real time.
    """

    def make(number: int) -> Monitor[Any, Any]:
        env = CheckedEnv(make_env(args.env_id, **options), f"{args.env_id}, environment {number}")
        seen = Seen(env.observation_space)
        convert, actions = plain_actions(args.env_id, env.action_space)
        transformed = TransformObservation(env, seen, seen.space)
        return Monitor(TransformAction(transformed, convert, actions))

    envs = DummyVecEnv([partial(make, number) for number in range(args.num_envs)])
    if real_time(envs.envs[0]) is not None:
        envs.close()
        raise UserError(
            f"{args.env_id} runs in real time, and updates of Stable-Baselines3 would interrupt "
            "its episodes: train with ppo or a2c"
        )
    checked: Any = envs.envs[0]
    while not isinstance(checked, CheckedEnv):
        checked = checked.env
    warn_of_no_bounds(args.env_id, checked.action_space)
    keys = None
    if isinstance(envs.observation_space, Dict):
        keys = [key for key, space in envs.observation_space.items() if not is_image(space)]
    vectors = not is_image(envs.observation_space) and keys != []
    normalized = VecNormalize(
        envs,
        norm_obs=args.normalize_observations and vectors,
        norm_reward=args.normalize_rewards,
        gamma=args.gamma,
        norm_obs_keys=keys if args.normalize_observations and vectors else None,
    )
    return Environments(normalized, checked.observation_space, checked.action_space)


def plain_actions(
    env_id: str, space: gym.Space[Any]
) -> tuple[Callable[[Any], Any], gym.Space[Any]]:
    """Return a space of the kind that Stable-Baselines3 knows, and what brings its actions back.

    Its actions count from 0, have one dimension, and finite bounds.

    Args:
        env_id: Gymnasium id of the environment, for messages.
        space: The actions of the environment.
    """
    if isinstance(space, Box):
        low, high = np.maximum(space.low, -LARGEST), np.minimum(space.high, LARGEST)
        return lambda action: action, Box(low, high, dtype=space.dtype.type)
    convert = actions_for(env_id, space)
    plain: gym.Space[Any]
    if isinstance(space, Discrete):
        plain = Discrete(int(space.n))
    elif isinstance(space, MultiDiscrete):
        plain = MultiDiscrete(space.nvec.ravel())
    else:
        assert isinstance(space, MultiBinary)
        plain = FloatBits(math.prod(space.shape))
    return lambda action: convert(np.asarray(action)[None])[0], plain
