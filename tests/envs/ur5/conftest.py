"""The emulator and the environment at it."""

from __future__ import annotations

import pytest

from tests.envs.ur5.emulated import emulate, reacher


@pytest.fixture
def emulator():
    """An emulator, which serves in a thread."""
    with emulate() as serving:
        yield serving


@pytest.fixture
def env(emulator):
    """The environment at the emulator, not reset yet."""
    made = reacher(emulator)
    yield made
    made.close()
