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
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
ONE_AT_A_TIME = {
    "clock": ("envs/ur5", "envs/test_real_time.py", "runs/test_interrupts.py"),
    "compiler": ("curvature/test_compile.py", "losses/test_compile.py"),
    "wheel": ("test_packaging.py",),
}
"""Tests that listen to a clock or keep a core busy for long, by folder or file.

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


# Before pytest-xdist looks at the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the groups."""
    for item in items:
        name = item.path.relative_to(TESTS).as_posix()
        for group, places in ONE_AT_A_TIME.items():
            if any(name == place or name.startswith(f"{place}/") for place in places):
                item.add_marker(pytest.mark.xdist_group(group))
    # First what one process takes longest for, or the others would wait for it at the end.
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


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
