"""What all tests share.

Markers (declared in setup.cfg; an unknown one is an error):

- ``gpu``: needs a CUDA device; skipped without one.
- ``senseact``: needs the SenseAct package; skipped without it.
- ``cluster``: starts or joins a Ray cluster.
- ``robot``: moves a real UR5 arm; runs only when asked for with ``-m robot``.

``make test`` runs them on all cores, those of one group of `ONE_AT_A_TIME` in one process.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from xdist.scheduler import LoadGroupScheduling

ONE_AT_A_TIME = {
    "clock": ("envs/ur5", "envs/test_real_time.py", "runs/test_interrupts.py"),
    "compiler": ("curvature/test_compile.py", "losses/test_compile.py"),
    "wheel": ("test_packaging.py",),
    "export": ("rl/test_export_run.py", "sb3/test_recurrent_export.py"),
}
"""Tests that listen to a clock, keep a core busy for long or share runs, by folder or file.

Two that listen to a clock would disturb each other, and two that compile make the same code twice.
"""

# One thread adds up in one order, so a result is the same on every run, bit for bit.
torch.set_num_threads(1)

# A shell lets what it starts in the background ignore Ctrl-C, and so would the processes of tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# For each kind of device that is not there, PyTorch keeps the seed and the stack of every call.
# That takes 2 ms, and more memory with each test.
if not torch.accelerator.is_available():
    torch.manual_seed = torch.default_generator.manual_seed


def group_of(nodeid: str) -> str | None:
    """Return the group of a test, None for one that may run beside all others."""
    for group, places in ONE_AT_A_TIME.items():
        if nodeid.startswith(tuple(f"tests/{place}{end}" for place in places for end in "/:")):
            return group
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what one process takes longest for: the others would wait for it at the end."""
    items.sort(key=lambda item: group_of(item.nodeid) is None)


class Scheduling(LoadGroupScheduling):
    """Gives all tests of a group to one process.

    The marks of pytest-xdist 3.8 do nothing with pytest 9.2 and later.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid) or nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """Let the groups count with ``--dist loadgroup``."""
    return Scheduling(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.fixture(scope="session", autouse=True)
def compiled_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps compiled steps in a folder of this session, where its processes share them."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HESRL_CACHE", str(folder / "compiled"))
        yield


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Lets no file of this process grow beyond a number of bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
