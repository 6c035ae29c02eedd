"""Hessian diagonals for about the price of a gradient: HesScale on PyTorch's own graph."""

import hesrl.curvature.rules  # noqa: F401  (registers the rules)
from hesrl.curvature.arming.armed import arm, disarm, give_curvature
from hesrl.curvature.arming.store import clear_curvature, is_armed, take_curvature
from hesrl.curvature.arming.torch_patches import patch_torch
from hesrl.curvature.backward_pass import backward
from hesrl.curvature.estimators.hess_diag import hess_diag
from hesrl.curvature.explanation import explain
from hesrl.curvature.method import Method
from hesrl.curvature.rule_registry import (
    MissingRuleError,
    register_adjoint,
    register_pointwise,
    register_rule,
)

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
