"""What each hyperparameter may be: the one place that refuses bad ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, get_args

from torch import Tensor

from hesrl.curvature import Method


def check_group(optimizer: str, group: dict[str, Any], has_curvature: bool) -> None:
    """Refuse hyperparameters that are out of range or exclude each other.

    Args:
        optimizer: Name of the optimizer, for the message.
        group: The hyperparameters of one parameter group.
        has_curvature: Whether the optimizer uses curvature.

    Raises:
        ValueError: The message names the hyperparameter, what it may be, and its value.
    """
    for name, (is_good, allowed) in _CHECKS.items():
        if name in group and not is_good(group[name]):
            raise ValueError(f"{optimizer}: {name} must be {allowed}, not {group[name]!r}")
    if group.get("nesterov") and (group["momentum"] == 0 or group["dampening"] != 0):
        raise ValueError(f"{optimizer}: nesterov needs a momentum above 0 and a dampening of 0")
    if group.get("gamma", 0) * group.get("lamda", 0) >= 1:
        raise ValueError(f"{optimizer}: gamma times lamda must be below 1, or no trace would fade")
    if group["curvature_every"] > 1 and group["capturable"]:
        raise ValueError(
            f"{optimizer}: curvature_every={group['curvature_every']} does not go with "
            "capturable=True: a CUDA graph replays one and the same step"
        )
    if group.get("curvature_average") == "signed" and group["adam_bound"] == math.inf:
        raise ValueError(
            f"{optimizer}: curvature_average='signed' needs an adam_bound below infinity: nothing "
            "else bounds the step where the curvature is negative"
        )
    if group["curvature_every"] > 1 and not has_curvature:
        raise ValueError(f"{optimizer}: curvature_every must be 1: it uses no curvature")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _is_rate(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex() and _is_from_0(value.item())
    return _is_from_0(value)


def _is_from_0(value: object) -> bool:
    return isinstance(value, Real) and 0 <= float(value) < math.inf


def _is_positive(value: object) -> bool:
    return _is_from_0(value) and value != 0


def _is_bound(value: object) -> bool:
    return isinstance(value, Real) and float(value) > 0


def _is_fraction(value: object) -> bool:
    return isinstance(value, Real) and 0 <= float(value) < 1


def _is_portion(value: object) -> bool:
    return isinstance(value, Real) and 0 <= float(value) <= 1


def _are_betas(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_fraction, value))


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_interval(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


CURVATURE_AVERAGES = {"rms": 0.5, "mean": 1.0, "root": 0.5, "signed": 1.0}
"""What the average of a curvature may be, and the power of it that divides the step
(`hesrl.optim.adaptive`)."""

_SOURCES = ("gradient", *get_args(Method))

_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lr": (_is_rate, "a number from 0 up, or a tensor of one"),
    "betas": (_are_betas, "two numbers in [0, 1)"),
    "eps": (_is_from_0, "a number from 0 up"),
    "momentum": (_is_from_0, "a number from 0 up"),
    "dampening": (_is_number, "a number"),
    "nesterov": (_is_flag, "True or False"),
    "weight_decay": (_is_from_0, "a number from 0 up"),
    "maximize": (_is_flag, "True or False"),
    "foreach": (lambda value: value is None or _is_flag(value), "True, False or None"),
    "capturable": (_is_flag, "True or False"),
    "curvature_every": (_is_interval, "a whole number from 1 up"),
    "hessian_power": (_is_portion, "a number in [0, 1]"),
    "spatial_averaging": (_is_flag, "True or False"),
    "adam_bound": (_is_bound, "a number above 0, or math.inf for no bound"),
    "curvature_average": (
        lambda value: value in CURVATURE_AVERAGES,
        f"one of {', '.join(CURVATURE_AVERAGES)}",
    ),
    "delta": (_is_positive, "a number above 0"),
    "max_scale": (_is_positive, "a number above 0"),
    "curvature_beta": (_is_fraction, "a number in [0, 1)"),
    "gamma": (_is_portion, "a number in [0, 1]"),
    "lamda": (_is_portion, "a number in [0, 1]"),
    "eta": (_is_positive, "a number above 0"),
    "source": (lambda value: value in _SOURCES, f"one of {', '.join(_SOURCES)}"),
    "power": (_is_portion, "a number in [0, 1]"),
    "damping": (_is_from_0, "a number from 0 up"),
    "stat_decay": (_is_fraction, "a number in [0, 1)"),
    "factors_every": (_is_interval, "a whole number from 1 up"),
    "inverses_every": (_is_interval, "a whole number from 1 up"),
    "beta2": (_is_fraction, "a number in [0, 1)"),
    "td_beta": (_is_fraction, "a number in [0, 1)"),
    "td_clip": (_is_positive, "a number above 0"),
    "kappa": (_is_positive, "a number above 0"),
}
"""For each hyperparameter whether a value will do, and what would."""
