"""Where curvature is kept: beside the gradient that it belongs to.

The mark of an armed parameter is an attribute of the tensor, and the curvature one of ``p.grad``:
it lives and dies with the gradient, and a copy or a file of the parameter has neither.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

ARMED = "_hesrl_armed"
"""Attribute of an armed parameter: the estimator of its curvature."""

_CURVATURE = "_hesrl_curvature"
"""Attribute of a gradient: the curvature that belongs to it, and the gradient's version then."""


def is_armed(param: Tensor) -> bool:
    """Whether ``backward()`` computes the curvature of a parameter."""
    return hasattr(param, ARMED)


def take_curvature(param: Tensor) -> Tensor | None:
    """Return ``param.hess_diag`` for an optimizer step, without asking for an emptied gradient.

    None if there is no gradient, or one whose curvature no backward pass computed.
    """
    kept = getattr(param.grad, _CURVATURE, None)
    return None if kept is None else kept[0]


def clear_curvature(params: Iterable[Tensor]) -> None:
    """Forget the curvature of parameters, as ``zero_grad`` forgets the gradient."""
    for param in params:
        if param.grad is not None:
            param.grad.__dict__.pop(_CURVATURE, None)


def keep(grad: Tensor, hess: Tensor) -> None:
    """Keep a curvature with the gradient that it belongs to."""
    setattr(grad, _CURVATURE, (hess, grad._version))


def carried_over(param: Tensor) -> Tensor | float | None:
    """Return what the next curvature is added to.

    That is 0.0 if the gradient was cleared (set to None or to zeros) since the last backward pass,
    and None if the gradient has a part whose curvature nobody computed.
    """
    grad = param.grad
    if grad is None:
        return 0.0
    kept = getattr(grad, _CURVATURE, None)
    if kept is None:
        return None if grad.any() else 0.0
    hess: Tensor
    hess, version = kept
    if grad._version == version or grad.any():
        return hess
    # Zeros that were scaled, as by `clip_grad_norm_`, look as if they were cleared. A curvature of
    # zeros, which a dead unit has beside them, is right for both.
    return 0.0 if hess.any() else hess


def get_hess_diag(param: Tensor) -> Tensor | None:
    """Diagonal of the Hessian as HesScale estimates it, of the shape of the parameter, signed.

    None for a tensor that is not armed, or whose gradient was cleared.
    """
    hess = carried_over(param) if is_armed(param) else None
    return hess if isinstance(hess, Tensor) else None
