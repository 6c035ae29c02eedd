"""Observations of several parts, or of discrete ones, as one vector."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.spaces.utils import flatten, flatten_space
from gymnasium.wrappers import TransformObservation
from numpy.typing import NDArray

from hesrl.envs.spaces import is_image


def has_images(space: gym.Space[Any]) -> bool:
    """Return whether observations are images, or have some among others."""
    return is_image(space) or (isinstance(space, FlatBox) and len(space.images) > 0)


class FlatBox(Box):
    """Observations of another space as one vector, in the order of `gymnasium.spaces.flatten`.

    Discrete ones are one-hot. The images of a Dict stand behind its other entries, as numbers from
    0 to 255.

    Args:
        original: A space that `check_spaces` lets through, and no Box.

    Attributes:
        original: The space; of a Dict the images come last.
        images: Shapes of the images.
        vector_size: Entries before the images.
    """

    def __init__(self, original: gym.Space[Any]) -> None:
        pictures = {}
        if isinstance(original, Dict):
            pictures = {key: space for key, space in original.items() if is_image(space)}
            others = {key: space for key, space in original.items() if key not in pictures}
            original = Dict([*others.items(), *pictures.items()])
        flat: Any = flatten_space(original)
        dtype = np.result_type(flat.dtype, np.float32) if pictures else flat.dtype
        super().__init__(flat.low.astype(dtype), flat.high.astype(dtype), dtype=dtype)
        self.original, self._pictures = original, pictures
        self.images = tuple(space.shape or () for space in pictures.values())
        self.vector_size = self.shape[0] - sum(math.prod(shape) for shape in self.images)

    def flatten(self, obs: Any) -> NDArray[Any]:
        """Return an observation as one vector.

        Raises:
            TypeError: An image is not of bytes.
        """
        for key in self._pictures:
            if (dtype := np.asarray(obs[key]).dtype) != np.uint8:
                raise TypeError(f"the image {key} is of {dtype}, and its space of uint8")
        return np.asarray(flatten(self.original, obs), dtype=self.dtype)


def flattened(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """Return an environment whose observations are a Box: as they are, or in a `FlatBox`."""
    if isinstance(env.observation_space, Box):
        return env
    flat = FlatBox(env.observation_space)
    return TransformObservation(env, flat.flatten, flat)
