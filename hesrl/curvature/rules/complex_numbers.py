"""Operations of complex tensors, whose entries are two real coordinates each.

The curvature of ``x = a + i b`` is carried as ``h(x) = h(a) + i h(b)``, as PyTorch carries the
gradient as ``g(a) + i g(b)``. What moves, copies or adds up entries does so with both coordinates.
For a holomorphic function ``y = f(x)``, an elementwise one with complex derivatives f' and f'':

    h(a) = (Re f')² h(Re y) + (Im f')² h(Im y) + Re (f'' ḡ)
    h(b) = (Im f')² h(Re y) + (Re f')² h(Im y) − Re (f'' ḡ)

All are exact by the definition. Elementwise operations of complex tensors are not differentiated
as one region: where paths meet again, the cross terms are dropped.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import (
    Adjoint,
    Local,
    Pointwise,
    Rule,
    register_adjoint,
    register_rule,
)
from hesrl.curvature.rules.linear import Hessians
from hesrl.curvature.rules.moment import inverse

register_adjoint("ComplexBackward0", "ViewAsComplexBackward0", "ViewAsRealBackward0")

_FOR_COMPLEX_TOO = frozenset(
    {
        "ConjBackward0",
        "ConjPhysicalBackward0",
        "FftC2CBackward0",
        "FftC2RBackward0",
        "FftR2CBackward0",
        "MeanBackward0",
        "MeanBackward1",
        "PolarBackward0",
    }
)
_HOLOMORPHIC = frozenset(
    {
        "AddBackward0",
        "CloneBackward0",
        "CosBackward0",
        "DivBackward0",
        "ExpBackward0",
        "LogBackward0",
        "MulBackward0",
        "NegBackward0",
        "PowBackward0",
        "ReciprocalBackward0",
        "RsubBackward1",
        "SigmoidBackward0",
        "SinBackward0",
        "SubBackward0",
        "TanhBackward0",
    }
)
"""Elementwise operations whose rules hold for complex numbers as they are written."""


def complex_rule(rule: Rule, name: str, *, is_own: bool) -> Rule | None:
    """Return the rule of an operation that takes or makes complex tensors, None if it has none.

    Args:
        rule: Its rule for real tensors.
        name: The name of its node.
        is_own: Whether the rule belongs to its kind of node, not to a pattern.
    """
    if isinstance(rule, Adjoint) or name in _FOR_COMPLEX_TOO:
        return rule
    if isinstance(rule, Pointwise) and name in _HOLOMORPHIC:
        return _holomorphic(rule)
    return _OF_COMPLEX.get(name) if is_own else None


def is_complex(node: Any) -> bool:
    """Whether a node takes or makes complex tensors."""
    inputs = ((source, output) for source, output in node.next_functions if source is not None)
    return any(output.dtype.is_complex for output in node._input_metadata) or any(
        source._input_metadata[output].dtype.is_complex for source, output in inputs
    )


def _holomorphic(rule: Pointwise) -> Local:
    """Return the rule of an elementwise operation for complex tensors, given that for real ones."""
    partials = rule.partials

    @wraps(partials)
    def curvature(node: Any, grad_out: Tensor | None, hess_out: Tensor) -> Hessians:
        first, second = partials(node)
        bends: dict[int, Any] = {i: f for i, j, f in second if i == j}
        of_real, of_imag = hess_out.real, hess_out.imag
        hess_in: list[Tensor | None] = []
        for i, (source, output) in enumerate(node.next_functions):
            slope = first[i] if source is not None else None
            if slope is None:
                hess_in.append(None)
                continue
            real, imag = (part * part for part in _parts(slope))
            hess = real * of_real + imag * of_imag
            bend: Any = 0.0
            if grad_out is not None and i in bends:
                bend = (bends[i] * grad_out.conj()).real
            if source._input_metadata[output].dtype.is_complex:
                hess_in.append(torch.complex(hess + bend, imag * of_real + real * of_imag - bend))
            else:
                hess_in.append(hess + bend)
        return tuple(hess_in)

    curved = rule.curved
    return Local(curvature, linear=curved is not None and all(i != j for i, j in curved))


def _parts(slope: Any) -> tuple[Any, Any]:
    """Return the real and the imaginary part of a tensor or number."""
    if isinstance(slope, Tensor) and not slope.is_complex():
        return slope, 0.0
    return slope.real, slope.imag


@register_rule("ConjBackward0", "ConjPhysicalBackward0", linear=True)
def conjugate(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y = a − i b``: the sign is squared."""
    return hess_out


@register_rule("PolarBackward0")
def polar(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor, Tensor]:
    """``y = r e^{iφ}``: ``∂y/∂r = y/r``, ``∂y/∂φ = i y``, ``∂²y/∂φ² = −y``."""
    y = node._saved_result
    square = torch.complex(y.real.square(), y.imag.square())
    of_radius = (torch.view_as_real(square) * torch.view_as_real(hess_out)).sum(-1)
    of_angle = square.imag * hess_out.real + square.real * hess_out.imag
    return of_radius * inverse(y.abs().square()), of_angle - (y * grad_out.conj()).real


def _modulus(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y = √(a² + b²)``: ``f_a = a/y``, ``f_aa = b²/y³``, and so for b; a kink at 0."""
    x = node._saved_self
    inverse_y = inverse(x.abs())
    real, imag = (x.real * inverse_y).square(), (x.imag * inverse_y).square()
    bend = grad_out * inverse_y
    return torch.complex(real * hess_out + imag * bend, imag * hess_out + real * bend)


def _angle(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y = arg x``, r = |x|: ``f_a = −b/r²``, ``f_b = a/r²``, ``f_aa = −f_bb = 2 a b/r⁴``."""
    x = node._saved_self
    inverse_square = inverse(x.abs().square())
    f_a, f_b = -x.imag * inverse_square, x.real * inverse_square
    bend = 2 * f_a * f_b * grad_out
    return torch.complex(f_a.square() * hess_out - bend, f_b.square() * hess_out + bend)


def _product(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``z = x w`` for complex matrices or stacks of them: each square of w has two places."""
    x, w = node._saved_self, node._saved_mat2
    to_x, to_w = (source is not None for source, _ in node.next_functions)
    u, v = hess_out.real, hess_out.imag
    hess_x = hess_w = None
    if to_x:
        real, imag = w.real.square().mT, w.imag.square().mT
        hess_x = torch.complex(u @ real + v @ imag, u @ imag + v @ real)
    if to_w:
        real, imag = x.real.square().mT, x.imag.square().mT
        hess_w = torch.complex(real @ u + imag @ v, imag @ u + real @ v)
    return hess_x, hess_w


_OF_COMPLEX: dict[str, Rule] = {
    "AbsBackward0": Local(_modulus, linear=False),
    "AngleBackward0": Local(_angle, linear=False),
    "BmmBackward0": Local(_product, linear=True, layer=True),
    "MmBackward0": Local(_product, linear=True, layer=True),
}
"""Operations that are not holomorphic, or not elementwise."""
