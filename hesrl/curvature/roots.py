"""The roots of a backward pass, and the curvature that the loss has there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from hesrl.curvature.graph import Graph, node_of
from hesrl.curvature.method import Method
from hesrl.curvature.structure import Edge

Hess: TypeAlias = "Tensor | float | None"
"""The curvature at a root; the number 0 or None if it is a loss."""


def as_tuple(tensors: Any) -> tuple[Any, ...]:
    """Return the arguments that ``backward`` takes one by one, in a dict or in any iterable."""
    if isinstance(tensors, (Tensor, GradientEdge)):
        return (tensors,)
    return tuple(tensors.values() if isinstance(tensors, dict) else tensors)


def seeds_of(graph: Graph, roots: tuple[Any, ...], grads: Any, hess: Any) -> dict[Edge, Tensor]:
    """Return the curvature at the roots where it is not zero.

    Raises:
        RuntimeError: A root has a gradient, but no curvature.
        ValueError: ``hess`` does not fit the roots.
    """
    if grads is None and hess is None:
        return {}
    grads = (None,) * len(roots) if grads is None else as_tuple(grads)
    if isinstance(hess, Tensor) or hess is None or isinstance(hess, (int, float)):
        hessians = (hess,) * (1 if isinstance(hess, Tensor) else len(roots))
    else:
        hessians = tuple(hess)
    if not len(roots) == len(grads) == len(hessians):
        raise ValueError(
            f"{len(roots)} roots need as many gradients and curvatures, not {len(grads)} gradients "
            f"and {len(hessians)} curvatures in hess"
        )
    seeds: dict[Edge, Tensor] = {}
    consumed = {source for taken in graph.structure.sources for source in taken}
    numbers = {node: number for number, node in enumerate(graph.nodes)}
    for root, grad, at_root in zip(roots, grads, hessians, strict=True):
        node: Any = node_of(root)
        output = root.output_nr
        shape = tuple(
            root.shape if isinstance(root, Tensor) else node._input_metadata[output].shape
        )
        if at_root is None and grad is not None:
            raise RuntimeError(
                f"the root of shape {shape} has a gradient, but nobody knows its curvature: call "
                "hesrl.curvature.backward(root, grad, hess=…) with the curvature that the loss has "
                "there, or with hess=0 if the root is a loss or holds the losses of samples"
            )
        if at_root is None or (not isinstance(at_root, Tensor) and at_root == 0):
            continue
        if not isinstance(at_root, Tensor) or at_root.shape != shape:
            given = f"{tuple(at_root.shape)}" if isinstance(at_root, Tensor) else repr(at_root)
            raise ValueError(
                f"hess must be a tensor of the root's shape {shape} or the number 0, not {given}"
            )
        if node is None:
            continue
        edge = numbers[node], output
        if edge in consumed:
            raise ValueError(
                f"the root of shape {shape} has a curvature in hess, and another root depends on "
                "it: call backward for each of them"
            )
        at_root = at_root.detach().to(root.dtype if isinstance(root, Tensor) else at_root.dtype)
        seeds[edge] = seeds[edge] + at_root if edge in seeds else at_root
    return seeds


def refuse_seeds(seeds: dict[Edge, Tensor], method: Method) -> None:
    """Refuse a curvature at the roots for a method that does not carry it on.

    Raises:
        ValueError: There is one.
    """
    if seeds:
        raise ValueError(
            f"a curvature at the roots does not go with {method!r}: arm the parameters with "
            "'hesscale', 'hesscale_gn' or 'bl89', or pass hess=0"
        )


class _HandedOn(threading.local):
    """The roots of a native pass that is about to start, with its curvature.

    The native pass hands its arguments on to a root of a subclass of tensors, and to a mode for
    functions, as there is one while a step is recorded. They call `torch.autograd.backward` again,
    which may be `hesrl.curvature.backward_pass.run_backward` by then.
    """

    _call: tuple[Any, ...] = ()

    def is_again(self, roots: tuple[Any, ...]) -> bool:
        """Whether a call for some roots is such a second call."""
        return self._call == _told_apart(roots)

    @contextmanager
    def noting(self, roots: tuple[Any, ...]) -> Iterator[None]:
        """Note the roots while the native pass is called."""
        outer, self._call = self._call, _told_apart(roots)
        try:
            yield
        finally:
            self._call = outer


def _told_apart(roots: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what differs between calls: a hook may call for the same roots, in its own node."""
    return (torch._C._current_autograd_node(), *map(id, roots))


handed_on = _HandedOn()
