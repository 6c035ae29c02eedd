"""Armed parameters: every ``backward()`` that reaches them also fills ``p.hess_diag``.

The parameter's class, the forward pass and the native gradient stay as they are. ``hess_diag``
lives and dies with ``grad``: several backward passes accumulate both, and clearing the gradient, by
the optimizer or by the module, clears both. A hook that changes a gradient changes g in the
recursion from there on, and leaves h as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from hesrl.curvature.arming.store import add_mark, is_armed, key_of, lock, mark_of, store_curvature
from hesrl.curvature.arming.torch_patches import install
from hesrl.curvature.method import Method, check_method


def arm(
    params: Iterable[Tensor], method: Method = "hesscale", *, owner: object | None = None
) -> None:
    """Make ``backward()`` compute the curvature of parameters.

    Arming them again with the same method changes nothing, but for one more owner.

    Args:
        params: Leaf tensors that require a gradient.
        method: The estimator, see `hesrl.curvature.Method`.
        owner: What needs the curvature, such as an optimizer: when it is gone and nobody else has
            armed the parameters, they are armed no more. None: they are armed until `disarm`.

    Raises:
        ValueError: A tensor is not a leaf, is not of floating point, is listed twice, or is armed
            with another method; or the method is unknown. Nothing has changed then.
    """
    params = list(params)
    check_method(method)
    seen: set[int] = set()
    with lock:
        for param in params:
            _check(param, method)
            if id(param) in seen:
                raise ValueError(f"the parameter of shape {tuple(param.shape)} is listed twice")
            seen.add(id(param))
        key = key_of(owner)
        for param in params:
            add_mark(param, method).claim(key, True)
        if params:
            install()
            _keep_freed_memory()


@functools.cache
def _keep_freed_memory() -> None:
    """Make the C library keep up to 64 MiB that is freed, for the tensors of the next pass.

    The allocator of Linux (glibc) keeps twice the size of the largest block that was mapped and
    freed, and blocks count up to 32 MiB. What it gives back costs a page fault for every 4 KiB when
    it is needed again, in some models a tenth of a step. No page of this block is touched.
    """
    torch.empty((32 << 20) - (64 << 10), dtype=torch.uint8, device="cpu")


def _check(param: Tensor, method: Method) -> None:
    if is_lazy(param):
        raise ValueError(
            "a parameter of a lazy module has no shape yet: call the module once, then arm it or "
            "make the optimizer"
        )
    shape = tuple(param.shape)
    if not param.is_leaf or not param.is_floating_point():
        raise ValueError(
            f"curvature is for floating-point leaf tensors, not for one of shape {shape} "
            f"and dtype {param.dtype} (is_leaf={param.is_leaf})"
        )
    mark = mark_of(param)
    if mark is not None and mark.method != method:
        raise ValueError(
            f"the parameter of shape {shape} is armed with {mark.method!r} already: call "
            f"hesrl.curvature.disarm on it before arming it with {method!r}"
        )


def pause(params: Iterable[Tensor], owner: object) -> None:
    """Say that an owner does not want the next curvature of parameters that it will arm again."""
    with lock:
        key = key_of(owner)
        for param in params:
            mark = mark_of(param)
            if mark is not None and key in mark.claims:
                mark.claim(key, False)


def disarm(params: Iterable[Tensor]) -> None:
    """Drop the curvature of parameters and compute no more, whoever has armed them."""
    with lock:
        for param in params:
            mark = mark_of(param)
            if mark is not None:
                for key in list(mark.claims):
                    mark.claim(key, None)


def give_curvature(param: Tensor, hess: Tensor) -> None:
    """Set ``param.hess_diag`` to a curvature, computed without ``backward()`` or before a change.

    Args:
        param: A leaf tensor with its gradient in ``param.grad``; it becomes armed.
        hess: Its curvature, of its shape. It is kept, not copied, as long as that gradient.

    Raises:
        ValueError: The tensor has no gradient, or another shape; or it cannot be armed.
    """
    if not is_armed(param):
        arm([param])
    if param.grad is None:
        raise ValueError(
            f"the parameter of shape {tuple(param.shape)} has no gradient for its curvature to "
            "belong to: set param.grad first"
        )
    if hess.shape != param.shape:
        raise ValueError(
            f"a curvature of shape {tuple(hess.shape)} is not that of a parameter of shape "
            f"{tuple(param.shape)}"
        )
    store_curvature(param, hess)
