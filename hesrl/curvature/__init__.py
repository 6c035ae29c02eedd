"""Hessian diagonals for about the price of a gradient: HesScale on PyTorch's own graph."""

import hesrl.curvature.rules  # noqa: F401  (registers the rules)
from hesrl.curvature.analysis import Method
from hesrl.curvature.armed import arm, disarm, give_curvature
from hesrl.curvature.backward_pass import backward
from hesrl.curvature.estimators import hess_diag
from hesrl.curvature.explain import explain
from hesrl.curvature.process import patch_torch
from hesrl.curvature.registry import (
    MissingRuleError,
    register_adjoint,
    register_pointwise,
    register_rule,
)
from hesrl.curvature.store import clear_curvature, is_armed, take_curvature

__all__ = [
    "Method",
    "MissingRuleError",
    "arm",
    "backward",
    "clear_curvature",
    "disarm",
    "explain",
    "give_curvature",
    "hess_diag",
    "is_armed",
    "patch_torch",
    "register_adjoint",
    "register_pointwise",
    "register_rule",
    "take_curvature",
]
