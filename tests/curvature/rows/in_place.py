"""Operations in place on a view, each beside the same without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal, positive

Change = Callable[..., Any]
View = Callable[[Tensor], Tensor]

PICKED, REPEATED = torch.tensor([2, 0]), torch.tensor([1, 1])
SIXTH = torch.tensor(1 / 6).double()
"""PyTorch rounds it to float32, in float64 too, in the gradient of hardsigmoid on a CPU."""
MASK = torch.tensor([[True, False], [False, True], [True, True]])


def middle(y: Tensor) -> Tensor:
    return y[:, 1:3]


VIEWS: dict[str, View] = {
    "columns": middle,
    "column": lambda y: y[:, 1],
    "every other": lambda y: y[::2, ::3],
    "transposed": lambda y: y.t()[1:],
    "flat": lambda y: y.view(-1),
    "all": lambda y: y.view(2, 6),
    "view of a view": lambda y: y.view(-1)[2:10].view(2, 4)[:, 1:],
    "diagonal": torch.diagonal,
    "entry": lambda y: y[1, 2],
    "none": lambda y: y[:0],
}


def row(
    name: str, change: Change, instead: Change, *shapes: tuple[int, ...], view: View = middle
) -> Row:
    """A row for ``change(view(y), *others)``, given what it leaves in the view's place.

    Args:
        name: The name of the row.
        change: The operation in place.
        instead: The same operation out of place.
        *shapes: The shapes of the other inputs.
        view: The view of a base (3, 4).
    """

    def function(x: Tensor, *others: Tensor) -> Tensor:
        y = x.clone()
        change(view(y), *others)
        return y

    def reference(x: Tensor, *others: Tensor) -> Tensor:
        places = view(torch.arange(12).view(3, 4))
        new = instead(view(x), *others).expand(places.shape)
        return x.flatten().index_put((places.flatten(),), new.flatten()).view_as(x)

    def inputs() -> tuple[Tensor, ...]:
        return positive(3, 4), *(normal(*shape) for shape in shapes)

    return Row(f"in place: {name}", "torch::autograd::CopySlices", function, inputs, reference)


def signed(row: Row) -> Row:
    """The same row with entries of both signs."""
    shapes = [x.shape for x in row.inputs()]
    return Row(
        row.id, row.node, row.function, lambda: tuple(normal(*s) for s in shapes), row.reference
    )


PIECEWISE = {
    "relu": (lambda r: F.relu(r, inplace=True), F.relu),
    "relu6": (lambda r: F.relu6(r, inplace=True), F.relu6),
    "leaky_relu": (lambda r: F.leaky_relu(r, 0.3, inplace=True), lambda r: F.leaky_relu(r, 0.3)),
    "hardtanh": (lambda r: F.hardtanh(r, inplace=True), F.hardtanh),
    "hardsigmoid": (lambda r: F.hardsigmoid(r, inplace=True), lambda r: SIXTH * F.relu6(r + 3)),
    "threshold": (
        lambda r: F.threshold(r, 0.2, 1.0, inplace=True),
        lambda r: F.threshold(r, 0.2, 1.0),
    ),
    "clamp": (lambda r: r.clamp_(-0.5, 0.8), lambda r: r.clamp(-0.5, 0.8)),
    "clamp_min": (lambda r: r.clamp_(min=0.1), lambda r: r.clamp(min=0.1)),
    "abs": (lambda r: r.abs_(), torch.abs),
    "negate": (lambda r: r.neg_(), torch.neg),
    "multiply by a number": (lambda r: r.mul_(-1.7), lambda r: -1.7 * r),
    "divide by a number": (lambda r: r.__itruediv__(0.7), lambda r: r / 0.7),
    "subtract a number": (lambda r: r.sub_(0.7), lambda r: r - 0.7),
    "masked_fill": (lambda r: r.masked_fill_(MASK, 1.7), lambda r: r.masked_fill(MASK, 1.7)),
    "mask": (lambda r: r.mul_(MASK), lambda r: r * MASK),
    "zero": (lambda r: r.zero_(), torch.zeros_like),
    "tril": (lambda r: r.tril_(), torch.tril),
    "round": (lambda r: r.round_(), lambda r: r.detach().round()),
    "nan_to_num": (lambda r: r.nan_to_num_(), torch.nan_to_num),
    "random": (lambda r: r.copy_(torch.ones(3, 2)), torch.ones_like),
}
CURVED = {
    "silu": (lambda r: F.silu(r, inplace=True), F.silu),
    "mish": (lambda r: F.mish(r, inplace=True), F.mish),
    "hardswish": (lambda r: F.hardswish(r, inplace=True), F.hardswish),
    "elu": (lambda r: F.elu(r, 0.7, inplace=True), lambda r: F.elu(r, 0.7)),
    "selu": (lambda r: F.selu(r, inplace=True), F.selu),
    "celu": (lambda r: F.celu(r, 0.5, inplace=True), lambda r: F.celu(r, 0.5)),
    "tanh": (lambda r: r.tanh_(), torch.tanh),
    "sigmoid": (lambda r: r.sigmoid_(), torch.sigmoid),
    "exp": (lambda r: r.exp_(), torch.exp),
    "expm1": (lambda r: r.expm1_(), torch.expm1),
    "sin": (lambda r: r.sin_(), torch.sin),
    "square": (lambda r: r.square_(), torch.square),
    "erf": (lambda r: r.erf_(), torch.erf),
    "cube": (lambda r: r.pow_(3), lambda r: r**3),
    "atan": (lambda r: r.atan_(), torch.atan),
}
POSITIVE = {
    "sqrt": (lambda r: r.sqrt_(), torch.sqrt),
    "rsqrt": (lambda r: r.rsqrt_(), torch.rsqrt),
    "reciprocal": (lambda r: r.reciprocal_(), torch.reciprocal),
    "log": (lambda r: r.log_(), torch.log),
    "log1p": (lambda r: r.log1p_(), torch.log1p),
    "digamma": (lambda r: r.digamma_(), torch.digamma),
}
BINARY = {
    "multiply": (lambda r, v: r.mul_(v), torch.mul),
    "divide": (lambda r, v: r.div_(v), torch.div),
    "add twice": (lambda r, v: r.add_(v, alpha=2), lambda r, v: r + 2 * v),
    "subtract": (lambda r, v: r.sub_(v), torch.sub),
    "copy": (lambda r, v: r.copy_(v), lambda r, v: v),
    "clamp by tensors": (lambda r, v: r.clamp_(v), torch.clamp),
    "remainder": (lambda r, v: r.fmod_(v), torch.fmod),
    "atan2": (lambda r, v: r.atan2_(v), torch.atan2),
    "hypot": (lambda r, v: r.hypot_(v), torch.hypot),
    "power": (lambda r, v: r.pow_(v), torch.pow),
    "lerp": (lambda r, v: r.lerp_(v.expand_as(r), 0.3), lambda r, v: r.lerp(v.expand_as(r), 0.3)),
}
MOVES = {
    "fill with an entry": (lambda r, v: r.fill_(v), lambda r, v: v, ()),
    "masked assignment": (
        lambda r, v: r.__setitem__(MASK, v),
        lambda r, v: r.index_put((MASK,), v),
        (4,),
    ),
    "masked_scatter": (
        lambda r, v: r.masked_scatter_(MASK, v),
        lambda r, v: r.index_put((MASK,), v),
        (4,),
    ),
    "index_copy": (
        lambda r, v: r.index_copy_(0, PICKED, v),
        lambda r, v: r.index_put((PICKED,), v),
        (2, 2),
    ),
    "index_add": (
        lambda r, v: r.index_add_(0, REPEATED, v, alpha=-1.7),
        lambda r, v: r.index_put((REPEATED,), -1.7 * v, accumulate=True),
        (2, 2),
    ),
    "scatter_add": (
        lambda r, v: r.scatter_add_(0, REPEATED[:, None].expand(2, 2), v),
        lambda r, v: r.index_put((REPEATED,), v, accumulate=True),
        (2, 2),
    ),
    "put": (
        lambda r, v: r.put_(PICKED, v),
        lambda r, v: r.flatten().scatter(0, PICKED, v).view(3, 2),
        (2,),
    ),
}

ROWS = [
    *(signed(row(name, *ways)) for name, ways in {**PIECEWISE, **CURVED}.items()),
    *(row(name, *ways) for name, ways in POSITIVE.items()),
    *(row(name, *ways, (3, 2)) for name, ways in BINARY.items()),
    *(row(name, change, instead, shape) for name, (change, instead, shape) in MOVES.items()),
    *(
        row(f"{name} by {shape}", *BINARY[name], shape)
        for name in ("multiply", "divide", "power", "subtract")
        for shape in ((2,), (3, 1), (), (1, 1))
    ),
    *(
        signed(row(f"{name} at {place}", *(BINARY | CURVED)[name], *shapes, view=view))
        for name, shapes in (("multiply", [()]), ("divide", [()]), ("tanh", []), ("sin", []))
        for place, view in VIEWS.items()
    ),
    row(
        "addcmul",
        lambda r, v, w: r.addcmul_(v, w, value=-1.7),
        lambda r, v, w: r.addcmul(v, w, value=-1.7),
        (3, 1),
        (2,),
    ),
    row(
        "addcdiv",
        lambda r, v, w: r.addcdiv_(v, w),
        lambda r, v, w: r.addcdiv(v, w),
        (3, 1),
        (2,),
    ),
    row(
        "lerp by a tensor",
        lambda r, v, w: r.lerp_(v, w),
        lambda r, v, w: r.lerp(v, w),
        (3, 2),
        (3, 2),
    ),
    row("xlogy", lambda r, v: r.xlogy_(v.exp()), lambda r, v: r * v, (3, 2)),
    row("constant base", lambda r, v: r.fill_(2.0).mul_(v), lambda r, v: 2 * v, (3, 1)),
]
