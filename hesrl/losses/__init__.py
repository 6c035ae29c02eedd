"""Losses with their exact Hessian diagonals in closed form, at linear cost.

Each loss comes twice. A function, its *form*, gives the value together with the gradient and the
signed diagonal ``∂²L/∂x²`` at the network's outputs; it is tensor code that checks nothing. A
module makes one operation of the autograd graph of the form, and checks its arguments. The same
losses written with torch operations give the same curvature in more steps. docs/losses.md lists
them.
"""

from hesrl.losses.bernoulli import (
    BernoulliA2CLoss,
    BernoulliEntropyBonus,
    BernoulliSurrogateLoss,
    bernoulli_a2c,
    bernoulli_entropy_bonus,
    bernoulli_surrogate,
)
from hesrl.losses.categorical import (
    CategoricalA2CLoss,
    CategoricalSurrogateLoss,
    categorical_a2c,
    categorical_surrogate,
)
from hesrl.losses.entropy import (
    CategoricalEntropyBonus,
    GaussianEntropyBonus,
    categorical_entropy_bonus,
    gaussian_entropy_bonus,
)
from hesrl.losses.gaussian import (
    GaussianA2CLoss,
    GaussianNLLLoss,
    GaussianTerms,
    gaussian_a2c,
    gaussian_nll,
    variance_derivatives,
)
from hesrl.losses.gaussian_surrogate import (
    GaussianSurrogateLoss,
    SurrogateTerms,
    gaussian_surrogate,
)
from hesrl.losses.multi_categorical import (
    MultiCategoricalA2CLoss,
    MultiCategoricalEntropyBonus,
    MultiCategoricalSurrogateLoss,
    multi_categorical_a2c,
    multi_categorical_entropy_bonus,
    multi_categorical_surrogate,
)
from hesrl.losses.operation import ClosedFormLoss, Terms
from hesrl.losses.supervised import CrossEntropyLoss, MSELoss, cross_entropy, mse
from hesrl.losses.surrogate import RatioTerms, SurrogateLoss, surrogate
from hesrl.losses.value import HuberValueLoss, ValueLoss, huber_value_loss, value_loss

__all__ = [
    "BernoulliA2CLoss",
    "BernoulliEntropyBonus",
    "BernoulliSurrogateLoss",
    "CategoricalA2CLoss",
    "CategoricalEntropyBonus",
    "CategoricalSurrogateLoss",
    "ClosedFormLoss",
    "CrossEntropyLoss",
    "GaussianA2CLoss",
    "GaussianEntropyBonus",
    "GaussianNLLLoss",
    "GaussianSurrogateLoss",
    "GaussianTerms",
    "HuberValueLoss",
    "MSELoss",
    "MultiCategoricalA2CLoss",
    "MultiCategoricalEntropyBonus",
    "MultiCategoricalSurrogateLoss",
    "RatioTerms",
    "SurrogateLoss",
    "SurrogateTerms",
    "Terms",
    "ValueLoss",
    "bernoulli_a2c",
    "bernoulli_entropy_bonus",
    "bernoulli_surrogate",
    "categorical_a2c",
    "categorical_entropy_bonus",
    "categorical_surrogate",
    "cross_entropy",
    "gaussian_a2c",
    "gaussian_entropy_bonus",
    "gaussian_nll",
    "gaussian_surrogate",
    "huber_value_loss",
    "mse",
    "multi_categorical_a2c",
    "multi_categorical_entropy_bonus",
    "multi_categorical_surrogate",
    "surrogate",
    "value_loss",
    "variance_derivatives",
]
