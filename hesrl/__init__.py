"""Second-order optimizers for reinforcement learning, built on the HesScale curvature estimate."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hesrl.curvature import arm, backward, disarm, explain, hess_diag
    from hesrl.optim import (
        SGD,
        AdaBL89,
        AdaGGNMC,
        AdaHesScale,
        AdaHesScaleGN,
        AdaHessian,
        Adam,
        ScaledAdaBL89,
        ScaledAdaGGNMC,
        ScaledAdaHesScale,
        ScaledAdaHesScaleGN,
        ScaledAdaHessian,
        ScaledAdam,
        ScaledSGD,
    )
    from hesrl.train_step import TrainStep

__version__ = "0.1.0"
__all__ = [
    "SGD",
    "AdaBL89",
    "AdaGGNMC",
    "AdaHesScale",
    "AdaHesScaleGN",
    "AdaHessian",
    "Adam",
    "ScaledAdaBL89",
    "ScaledAdaGGNMC",
    "ScaledAdaHesScale",
    "ScaledAdaHesScaleGN",
    "ScaledAdaHessian",
    "ScaledAdam",
    "ScaledSGD",
    "TrainStep",
    "__version__",
    "arm",
    "backward",
    "disarm",
    "explain",
    "hess_diag",
]


def __getattr__(name: str) -> Any:
    """Import a name at its first use: importing PyTorch takes a second or two."""
    if name in __all__:
        for room in ("optim", "curvature", "train_step"):
            module = import_module(f"hesrl.{room}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
