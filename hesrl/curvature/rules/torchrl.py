"""The functions of torchrl's `TanhNormal`, found by name: torchrl is not imported.

h(x) = f'(x)² h(y) + f''(x) g(y)
"""

from __future__ import annotations

from typing import Any

import torch

from hesrl.curvature.rule_registry import Partials, register_pointwise
from hesrl.curvature.rules.partials import curved

_MODULE = "torchrl.modules.distributions.utils"


@register_pointwise(f"{_MODULE}._SafeTanh", f"{_MODULE}._SafeTanhNoEps")
def safe_tanh(node: Any) -> Partials:
    """``y = tanh x``, kept off ±1: ``f' = 1 − y²``, ``f'' = −2 y f'``, as the gradient has it."""
    (y,) = node.saved_tensors
    df = 1 - y * y
    return curved(df, -2 * y * df)


@register_pointwise(f"{_MODULE}._SafeaTanh", f"{_MODULE}._SafeaTanhNoEps")
def safe_atanh(node: Any) -> Partials:
    """``artanh`` of x kept off ±1: ``f' = 1/(1 − x²)``, ``f'' = 2 x f'²``, or 0 where it is."""
    (x,) = node.saved_tensors
    kept = x.clamp(node.eps - 1, 1 - node.eps)
    df = (1 - kept * kept).reciprocal()
    return curved(df, torch.where(x == kept, 2 * kept * df * df, 0.0))
