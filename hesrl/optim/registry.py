"""The optimizers by the names that the command line, agents and sweeps use."""

from __future__ import annotations

from hesrl.optim import names
from hesrl.optim.base import CurvatureOptimizer
from hesrl.optim.scaled import ScaledSGD
from hesrl.optim.sgd import SGD

_OPTIMIZERS: dict[str, type[CurvatureOptimizer]] = {
    "sgd": SGD,
    "adam": names.Adam,
    "adahessian": names.AdaHessian,
    "adahesscale": names.AdaHesScale,
    "adahesscalegn": names.AdaHesScaleGN,
    "adabl89": names.AdaBL89,
    "adaggnmc": names.AdaGGNMC,
    "scaled-sgd": ScaledSGD,
    "scaled-adam": names.ScaledAdam,
    "scaled-adahessian": names.ScaledAdaHessian,
    "scaled-adahesscale": names.ScaledAdaHesScale,
    "scaled-adahesscalegn": names.ScaledAdaHesScaleGN,
    "scaled-adabl89": names.ScaledAdaBL89,
    "scaled-adaggnmc": names.ScaledAdaGGNMC,
}


def get(name: str) -> type[CurvatureOptimizer]:
    """Return an optimizer's class by its name, such as ``"scaled-adahesscale"``.

    Raises:
        ValueError: There is none of this name; the message lists those there are.
    """
    if name not in _OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}: choose one of {', '.join(_OPTIMIZERS)}")
    return _OPTIMIZERS[name]


def known() -> tuple[str, ...]:
    """Return the names that `get` knows."""
    return tuple(_OPTIMIZERS)
