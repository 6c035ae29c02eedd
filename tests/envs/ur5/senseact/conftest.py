"""The environment through SenseAct, at an emulator in a process of its own."""

from __future__ import annotations

import pytest

from tests.envs.ur5.served import Served, served_reacher


@pytest.fixture(scope="module")
def served():
    """An emulator, which serves in a process."""
    serving = Served()
    yield serving
    serving.close()


@pytest.fixture
def env(served):
    """The environment at the emulator, not reset yet."""
    served.control("clear")
    made = served_reacher(served)
    yield made
    made.close()
