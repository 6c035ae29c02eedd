"""How many threads training computes with."""

from __future__ import annotations

import multiprocessing
import os

import numpy as np
import torch
from threadpoolctl import threadpool_limits


def limit_threads(threads: int) -> None:
    """Set the threads of PyTorch and of the matrix products of NumPy, for the whole process.

    By itself NumPy would take all cores for the values of a rollout, and on a busy machine the
    wait for the cores is longer than the work of one thread. Subnormal numbers of PyTorch become
    zero, because operations on them take a hundred times as long.
    """
    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # NumPy 2.2 looks at the numbers once, and warns if subnormal ones are zero
    torch.set_flush_denormal(True)


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_of_a_run() -> int:
    """Return the number of cores that a run may use: one where it is one of several of a sweep."""
    return cores() if multiprocessing.parent_process() is None else 1
