"""The gradient's map ``v ↦ Jᵀ v`` of one node, operation by operation.

Some nodes do not tell what they do, but every node can be called; the operations that it calls then
are noted here, and can be done again with other tensors in the place of those that they took.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils._python_dispatch import TorchDispatchMode

MOVES = frozenset(
    {
        "_to_copy",
        "alias",
        "as_strided",
        "clone",
        "copy_",
        "detach",
        "expand",
        "flip",
        "gather",
        "hardtanh_backward",
        "index",
        "index_fill",
        "index_put",
        "index_select",
        "masked_fill",
        "masked_scatter_backward",
        "masked_select",
        "new_empty_strided",
        "put",
        "scatter",
        "select",
        "squeeze",
        "sum",
        "take",
        "threshold_backward",
        "tril",
        "triu",
        "unsqueeze",
        "view",
        "where",
        "zero_",
        "zeros_like",
    }
)
"""Operations with coefficients 0 and 1 on what a gradient's map moves."""

PIECES = frozenset({"hardsigmoid_backward", "leaky_relu_backward", "neg"}).union(
    {"rrelu_with_noise_backward"}
)
"""Operations that multiply each entry by a coefficient which is constant piece by piece."""

SCALES = PIECES.union(
    {
        "div",
        "elu_backward",
        "hardswish_backward",
        "logit_backward",
        "mish_backward",
        "mul",
        "sigmoid_backward",
        "silu_backward",
        "tanh_backward",
        "xlogy",
    }
)
"""Operations that multiply each entry by a coefficient."""

_UNDIFFERENTIABLE = frozenset({"mish_backward", "silu_backward"})
"""Those that autograd can differentiate only when they are made of others."""

_PYTHON_BACKWARD = BackwardCFunction.apply.__code__


class Call(NamedTuple):
    """One operation that a map called."""

    operation: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    out: Any

    @property
    def name(self) -> str:
        """The operation's name, without its overload."""
        name: str = self.operation.overloadpacket.__name__
        return name

    def inputs(self) -> list[Tensor]:
        """The tensors that it took."""
        return list(_tensors((*self.args, *self.kwargs.values())))

    def outputs(self) -> list[Tensor]:
        """The tensors that it returned."""
        return list(_tensors((self.out,)))


class Watched(NamedTuple):
    """What a map did."""

    calls: list[Call]
    parts: Sequence[Tensor | None]
    """Its results, one for each input of the operation."""
    in_python: bool
    """Whether a `torch.autograd.Function` did any of it, which may hide what it depends on."""


class _Watch(TorchDispatchMode):
    """Notes the operations that are called within it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.in_python = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # a backward pass that is not compiled needs no wrapper that says so

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call an operation and note it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.calls.append(Call(func, args, kwargs, out))
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not watch.__code__:
            self.in_python |= frame.f_code is _PYTHON_BACKWARD
            frame = frame.f_back
        return out


def watch(node: Any, value: Tensor) -> Watched:
    """Call the gradient's map of a node of one output."""
    with torch.no_grad(), _Watch() as noted:
        parts = node(value)
    parts = (parts,) if isinstance(parts, Tensor) else parts
    return Watched(noted.calls, parts, noted.in_python)


def again(
    calls: Sequence[Call],
    new: Mapping[int, Tensor],
    *,
    twice: bool = False,
    added: Tensor | None = None,
) -> dict[int, Tensor]:
    """Do operations again that depend on tensors which are replaced.

    Args:
        calls: The operations.
        new: What stands for the tensors that are replaced, by their id.
        twice: Do what scales entries twice, so that coefficients are squared.
        added: What to add to the second argument of the last operation.

    Returns:
        What stands for the tensors that depend on them, too.
    """
    new = dict(new)
    for call in calls:
        if new.keys().isdisjoint(map(id, call.inputs())):
            continue
        args = [new.get(id(arg), arg) for arg in call.args]
        if added is not None and call is calls[-1]:
            args[1] = args[1] + added
        operation = call.operation
        if call.name in _UNDIFFERENTIABLE:
            operation = operation.decompose
        out = operation(*args, **call.kwargs)
        if twice and call.name in SCALES:
            args = [out if id(arg) in new else arg for arg in call.args]
            out = operation(*args, **call.kwargs)
        new |= zip(map(id, call.outputs()), _tensors((out,)), strict=True)
    return new


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    """Yield the tensors among some values and in lists among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
