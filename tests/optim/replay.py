"""A CUDA graph's stand-in on a CPU: operations are recorded once, and run again as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = torch.ops.aten._local_scalar_dense.default
"""What ``item()`` and ``if tensor:`` call; a CUDA graph can do neither."""


class Recorder(TorchDispatchMode):
    """Records the operations within a ``with`` block, which may not read a number."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Callable[..., Any], Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is READS:
            raise RuntimeError("a number is read from a tensor")
        result = func(*args, **(kwargs or {}))
        outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        self._calls.append((func, args, kwargs or {}, outputs))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        """Run the operations again, on the same memory."""
        for func, args, kwargs, outputs in self._calls:
            results = [x for x in tree_leaves(func(*args, **kwargs)) if isinstance(x, Tensor)]
            for output, result in zip(outputs, results, strict=True):
                output.copy_(result)
