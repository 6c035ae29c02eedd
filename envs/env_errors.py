"""What environments get wrong while they run, in one line each."""

from __future__ import annotations

import math
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesrl.errors import EnvironmentFault, one_line


def raised(where: str, error: Exception) -> EnvironmentFault:
    """Return the error for an environment that raised.

    Args:
        where: Which environment, and when; ends with a colon.
        error: What it raised; the message has it and the line of code that it came from.
    """
    line = traceback.extract_tb(error.__traceback__)[-1]
    origin = f"({Path(line.filename).name}, line {line.lineno})"
    return EnvironmentFault(f"{where} raised {one_line(repr(error))} {origin}")


def check_numbers(where: str, obs: NDArray[Any], reward: float, limit: float = math.inf) -> None:
    """Refuse what is not finite, or too large.

    Args:
        where: Which environment, and when; ends with a colon.
        obs: Its observation (obs_dim,) in floating point, or an image.
        reward: Its reward.
        limit: Squares of rewards and of the norm of observations are below it.

    Raises:
        FloatingPointError: The message names the number.
    """
    if not reward * reward < limit:
        raise FloatingPointError(f"{where} gave the reward {reward}")
    if obs.dtype.kind == "f" and not obs.dot(obs) < limit:
        entry = np.abs(obs).argmax()
        raise FloatingPointError(f"{where} gave an observation whose entry {entry} is {obs[entry]}")


def malformed(where: str, returned: Any, expected: NDArray[Any]) -> EnvironmentFault:
    """Return the error for what a step returned that is not what a step returns.

    Args:
        where: Which environment, and when; ends with a colon.
        returned: What it returned.
        expected: As `check_shape` takes it.
    """
    if not isinstance(returned, tuple) or len(returned) != 5:
        what = (
            f"{len(returned)} values" if isinstance(returned, tuple) else one_line(repr(returned))
        )
        return EnvironmentFault(
            f"{where} gave {what}, instead of observation, reward, terminated, truncated, info"
        )
    try:
        check_shape(where, returned[0], expected)
    except EnvironmentFault as fault:
        return fault
    try:
        float(returned[1])
    except (TypeError, ValueError):
        return EnvironmentFault(
            f"{where} gave the reward {one_line(repr(returned[1]))}, which is no number"
        )
    return EnvironmentFault(
        f"{where} gave the info {one_line(repr(returned[4]))}, which is no dictionary"
    )


def check_shape(where: str, obs: Any, expected: NDArray[Any]) -> None:
    """Refuse an observation of another shape than the environment's space says.

    Args:
        where: Which environment, and when; ends with a colon.
        obs: The observation.
        expected: An array of the shape that it should have; for images, also of their type.

    Raises:
        EnvironmentFault: The message has both.
    """
    given = np.asarray(obs)
    other_type = expected.dtype == np.uint8 and given.dtype != np.uint8
    if given.shape != expected.shape or other_type:
        raise EnvironmentFault(
            f"{where} gave an observation of shape {given.shape} and type {given.dtype}; its "
            f"observation space has shape {expected.shape}"
            + (" and type uint8" if other_type else "")
        )
