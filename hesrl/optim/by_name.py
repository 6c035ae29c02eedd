"""The optimizers by the names that the command line, agents and sweeps use."""

from __future__ import annotations

from hesrl.optim import adam_family
from hesrl.optim.base import CurvatureOptimizer
from hesrl.optim.kfac import KFAC
from hesrl.optim.scaled import ScaledSGD
from hesrl.optim.sgd import SGD

_OPTIMIZERS: dict[str, type[CurvatureOptimizer]] = {
    "sgd": SGD,
    "adam": adam_family.Adam,
    "adahessian": adam_family.AdaHessian,
    "adahesscale": adam_family.AdaHesScale,
    "adahesscalegn": adam_family.AdaHesScaleGN,
    "adabl89": adam_family.AdaBL89,
    "adaggnmc": adam_family.AdaGGNMC,
    "scaled-sgd": ScaledSGD,
    "scaled-adam": adam_family.ScaledAdam,
    "scaled-adahessian": adam_family.ScaledAdaHessian,
    "scaled-adahesscale": adam_family.ScaledAdaHesScale,
    "scaled-adahesscalegn": adam_family.ScaledAdaHesScaleGN,
    "scaled-adabl89": adam_family.ScaledAdaBL89,
    "scaled-adaggnmc": adam_family.ScaledAdaGGNMC,
}

_OF_LAYERS: dict[str, type[CurvatureOptimizer]] = {"kfac": KFAC}
"""Optimizers that want more than gradients, so that not every training loop can use them."""


def get(name: str) -> type[CurvatureOptimizer]:
    """Return an optimizer's class by its name, such as ``"scaled-adahesscale"``.

    Raises:
        ValueError: There is none of this name; the message lists those there are.
    """
    if name in _OF_LAYERS:
        return _OF_LAYERS[name]
    if name not in _OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}: choose one of {', '.join(_OPTIMIZERS)}")
    return _OPTIMIZERS[name]


def known() -> tuple[str, ...]:
    """Return the names of optimizers for any training loop; `get` knows ``kfac``, too."""
    return tuple(_OPTIMIZERS)
