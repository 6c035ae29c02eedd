"""Optimizers: curvature source × moment form × step scaling, each coded once."""

from hesrl.optim.adam_family import (
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
)
from hesrl.optim.adaptive import Adaptive
from hesrl.optim.base import CurvatureOptimizer
from hesrl.optim.by_name import get, known
from hesrl.optim.scaled import Scaled, ScaledSGD
from hesrl.optim.sgd import SGD

__all__ = [
    "SGD",
    "AdaBL89",
    "AdaGGNMC",
    "AdaHesScale",
    "AdaHesScaleGN",
    "AdaHessian",
    "Adam",
    "Adaptive",
    "CurvatureOptimizer",
    "Scaled",
    "ScaledAdaBL89",
    "ScaledAdaGGNMC",
    "ScaledAdaHesScale",
    "ScaledAdaHesScaleGN",
    "ScaledAdaHessian",
    "ScaledAdam",
    "ScaledSGD",
    "get",
    "known",
]
