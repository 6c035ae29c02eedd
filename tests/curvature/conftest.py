"""What the tests of curvature share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import arm, disarm, patch_torch
from hesrl.curvature.arming import store
from tests.curvature.both_ways import noted


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The parameters that `hess_diag` leaves to the general way."""
    return noted(monkeypatch)


@pytest.fixture
def net() -> nn.Sequential:
    """A network whose parameters are armed."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    arm(net.parameters())
    return net


@pytest.fixture
def nothing_armed() -> Iterator[None]:
    """Each test begins and ends without armed parameters."""
    gc.collect()
    disarm([param for mark in list(store._marks.values()) if (param := mark()) is not None])
    assert not store.is_any_armed()
    yield
    patch_torch(True)
