"""Whether a gradient is still the one that a backward pass left, or a multiple of it.

A version counter does not tell: scaling moves it, and writing through ``.data`` or NumPy does not.
So a few entries from the middle of the gradient are stored as numbers and compared. No number is
read on a GPU, where the program would wait for it, nor while operations are recorded, when tensors
have no values.
"""

from __future__ import annotations

import enum
import functools

import torch
from torch import Tensor

_ENTRIES = 5
"""How many entries are compared."""

_PRECISION: dict[torch.dtype, tuple[float, float]] = {
    dtype: (16 * torch.finfo(dtype).eps, torch.finfo(dtype).tiny)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
}
"""Relative error that scaling may make, and the magnitude below which numbers may underflow."""


class Relation(enum.Enum):
    """What a gradient is to the one of a fingerprint."""

    SAME = "the same, scaled, clipped by value, or with entries set to zero"
    ZERO_AS_BEFORE = "zeros, as then"
    CLEARED = "zeros, unlike then"
    OTHER = "another"


def is_recording() -> bool:
    """Whether operations are recorded, so that no tensor has a value to ask for."""
    return bool(torch._C._len_torch_dispatch_stack())


class Fingerprint:
    """A few entries of a gradient as they are now, from the middle of the tensor.

    If these are zero, those around the largest are among them.

    Args:
        grad: The gradient, of which `is_readable` is true. It is not kept.
    """

    __slots__ = ("_places", "_values")

    def __init__(self, grad: Tensor) -> None:
        count = grad.numel()
        self._places = _middle(count)
        self._values = self._read(grad)
        if count and not any(self._values):
            last = max(count - _ENTRIES, 0)
            first = torch.arange(count - last, device="cpu")
            around = first + min(int(grad.detach().abs().argmax()), last)
            self._places = torch.cat([first, around])
            self._values = self._read(grad)

    def _read(self, grad: Tensor) -> list[float]:
        values: list[float] = torch.take(grad.detach(), self._places).tolist()
        return values

    def relation(self, grad: Tensor) -> Relation:
        """Compare the present gradient with the gradient of the fingerprint."""
        then, now = self._values, self._read(grad)
        if not any(then):
            # Zeros that a norm of inf or NaN scaled are NaN.
            was_set = grad.detach().nan_to_num(0.0, 0.0, 0.0).any()
            return Relation.OTHER if was_set else Relation.ZERO_AS_BEFORE
        if now == then:
            return Relation.SAME
        near, least = _PRECISION[grad.dtype]
        if _is_scaled(then, now, near, least):
            return Relation.SAME
        if not any(now):
            return Relation.SAME if grad.detach().any() else Relation.CLEARED
        return Relation.SAME if _is_clipped(then, now, near, least) else Relation.OTHER


@functools.lru_cache(maxsize=1024)
def _middle(count: int) -> Tensor:
    """Return the places of the entries in the middle of a tensor with a number of entries."""
    return torch.arange(min(count, _ENTRIES), device="cpu") + max(count - _ENTRIES, 0) // 2


def is_readable(grad: Tensor) -> bool:
    """Whether the values of a gradient can be read without waiting."""
    return grad.is_cpu and type(grad) is Tensor and grad.dtype in _PRECISION and not grad.is_sparse


def _is_scaled(then: list[float], now: list[float], near: float, least: float) -> bool:
    """Whether ``y = a x`` for all entries, x then and y now; quick, and right if it says so."""
    x, y = then[0], now[0]
    if not x or not y:
        return False
    a = y / x
    errors = [y - a * x for x, y in zip(then, now)]  # noqa: B905 (in every step)
    allowed = near * max(max(now), -min(now)) + least
    return max(errors) <= allowed and min(errors) >= -allowed


def _is_clipped(then: list[float], now: list[float], near: float, least: float) -> bool:
    """Whether every entry is ``a clamp(x, ±c)`` of what it was, or zero, with one a and c.

    There must be more different entries than a factor other than 1 and a bound can account for; a
    factor alone needs no more than one. Entries that are not finite tell nothing.
    """
    pairs = [(x, y) for x, y in zip(then, now, strict=True) if x - x == 0 == y - y]
    if any(x == 0 and abs(y) > least for x, y in pairs):
        return False
    moved = [(x, y) for x, y in pairs if x and y]
    if not moved:
        return True
    bound = max(abs(y) for _, y in moved)
    error = near * bound + least
    largest = max(moved, key=lambda pair: abs(pair[0]))
    smallest = min(moved, key=lambda pair: abs(pair[1]))
    for a in (1.0, largest[1] / largest[0], smallest[1] / smallest[0]):
        is_bounded = any(abs(y - a * x) > error for x, y in moved)
        is_told = not is_bounded or len({x for x, _ in moved}) > 1 + (a != 1)
        if is_told and all(abs(y - max(-bound, min(bound, a * x))) <= error for x, y in moved):
            return True
    return False
