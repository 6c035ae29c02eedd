"""Threads of a training process: one number for PyTorch and for NumPy."""

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from hesrl.rl.threads import cores, cores_of_a_run, limit_threads


@pytest.fixture
def as_before():
    """What is set in this process is as it was afterwards."""
    threads = torch.get_num_threads()
    with threadpool_limits():
        yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def blas_threads():
    np.dot(np.ones((2, 2)), np.ones((2, 2)))
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("threads", [1, 2])
def test_pytorch_and_numpy_take_the_number_given(as_before, threads):
    limit_threads(threads)
    assert torch.get_num_threads() == threads and blas_threads() == {threads}


def test_subnormal_numbers_become_zero(as_before):
    subnormal = torch.full((8,), 1e-38)
    assert (subnormal * 1e-4).any()
    limit_threads(1)
    assert not (subnormal * 1e-4).any()


def test_numpy_does_not_warn_of_subnormal_numbers():
    """In a process of its own, in which nobody has asked NumPy before."""
    code = """
import warnings
import numpy as np
from hesrl.rl.threads import limit_threads
warnings.simplefilter("error")
limit_threads(1)
print(np.finfo(np.float32), np.finfo(np.float64))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 6}, raising=False)
    assert cores() == cores_of_a_run() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == os.cpu_count()


def test_a_run_of_a_sweep_has_one_core(monkeypatch):
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    assert cores_of_a_run() == 1
