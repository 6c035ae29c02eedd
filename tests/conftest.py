"""What all tests share.

Markers (declared in setup.cfg; an unknown one is an error):

- ``gpu``: needs a CUDA device; skipped without one.
- ``senseact``: needs the SenseAct package; skipped without it.
- ``cluster``: starts or joins a Ray cluster.
- ``robot``: moves a real UR5 arm; runs only when asked for with ``-m robot``.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator

import pytest
import torch

# One thread adds up in one order, so a result is the same on every run, bit for bit.
torch.set_num_threads(1)


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Lets no file of this process grow beyond a number of bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
