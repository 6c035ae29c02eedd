"""What the tests of curvature share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import arm
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
