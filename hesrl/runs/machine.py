"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path

import torch


def describe_machine() -> str:
    """Return processor, cores, PyTorch and its threads in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    return (
        f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} thread(s)"
    )


def peak_memory() -> float:
    """Return the largest resident memory that this process has had (MiB).

    Linux begins a process's ``ru_maxrss`` with the memory of the one that started it, so there the
    process's own peak is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM:")) / 1024
    units_per_mib = 1 << 20 if sys.platform == "darwin" else 1 << 10  # bytes, elsewhere KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units_per_mib
