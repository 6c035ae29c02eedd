"""How many threads training computes with."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits


def limit_threads(threads: int) -> None:
    """Set the threads of PyTorch and of the matrix products of NumPy, for the whole process.

    NumPy would take all cores for a rollout's values, and on a busy machine wait for them
    longer than one thread computes. PyTorch's subnormal numbers become zero, since operations on
    them take a hundred times as long.
    """
    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")
    torch.set_flush_denormal(True)
