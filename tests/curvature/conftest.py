"""What the tests of curvature share."""

from __future__ import annotations

import pytest
from torch import Tensor

from tests.curvature.both_ways import noted


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The parameters that `hess_diag` leaves to the general way."""
    return noted(monkeypatch)
