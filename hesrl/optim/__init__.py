"""Optimizers on one adaptive step: `Adam` and `AdaHesScale`."""

from __future__ import annotations

from hesrl.optim.adahesscale import AdaHesScale
from hesrl.optim.adam import Adam
from hesrl.optim.adaptive import Adaptive

OPTIMIZERS: dict[str, type[Adam] | type[AdaHesScale]] = {
    "adam": Adam,
    "adahesscale": AdaHesScale,
}
"""The optimizers by the names that the command line and the agents use."""

__all__ = ["OPTIMIZERS", "AdaHesScale", "Adam", "Adaptive"]
