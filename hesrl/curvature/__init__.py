"""Hessian diagonals for about the price of a gradient: HesScale on PyTorch's own graph."""

import hesrl.curvature.rules  # noqa: F401  (registers the rules)
from hesrl.curvature.armed import (
    arm,
    clear_curvature,
    disarm,
    give_curvature,
    is_armed,
    take_curvature,
)
from hesrl.curvature.registry import (
    MissingRuleError,
    register_adjoint,
    register_pointwise,
    register_rule,
)

__all__ = [
    "MissingRuleError",
    "arm",
    "clear_curvature",
    "disarm",
    "give_curvature",
    "is_armed",
    "register_adjoint",
    "register_pointwise",
    "register_rule",
    "take_curvature",
]
