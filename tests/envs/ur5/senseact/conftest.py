"""The environment through SenseAct, at an emulator in a process of its own."""

from __future__ import annotations

import pytest

from tests.envs.ur5.emulated import reacher


@pytest.fixture
def env(served):
    """The environment at the emulator, not reset yet."""
    served.control("clear")
    served.control("put_back")
    made = reacher(served, "senseact")
    yield made
    made.close()
