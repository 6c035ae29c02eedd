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
from hesrl.optim.adaptive import Adaptive, AdaptiveByCurvature
from hesrl.optim.base import CurvatureOptimizer
from hesrl.optim.by_name import get, known
from hesrl.optim.hyperparameters import CURVATURE_AVERAGES
from hesrl.optim.intentional import IntentionalKL, IntentionalPolicy, IntentionalValue
from hesrl.optim.kfac import KFAC
from hesrl.optim.scaled import Scaled, ScaledSGD
from hesrl.optim.sgd import SGD
from hesrl.optim.streaming import ObGD, Streaming

__all__ = [
    "CURVATURE_AVERAGES",
    "KFAC",
    "SGD",
    "AdaBL89",
    "AdaGGNMC",
    "AdaHesScale",
    "AdaHesScaleGN",
    "AdaHessian",
    "Adam",
    "Adaptive",
    "AdaptiveByCurvature",
    "CurvatureOptimizer",
    "IntentionalKL",
    "IntentionalPolicy",
    "IntentionalValue",
    "ObGD",
    "Scaled",
    "ScaledAdaBL89",
    "ScaledAdaGGNMC",
    "ScaledAdaHesScale",
    "ScaledAdaHesScaleGN",
    "ScaledAdaHessian",
    "ScaledAdam",
    "ScaledSGD",
    "Streaming",
    "get",
    "known",
]
