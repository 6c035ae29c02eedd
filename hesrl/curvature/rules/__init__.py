"""The curvature rules, one module per family; importing this package registers them all.

Every rule follows from one definition, for an operation ``y = f(x)``:

    h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x_j²
"""

from hesrl.curvature.rules import (
    activation,
    arithmetic,
    attention,
    binary,
    choice,
    cholesky,
    convolution,
    elementary,
    embedding,
    grouped,
    interpolation,
    linalg,
    linear,
    loss,
    moment,
    normalization,
    piecewise,
    pooling,
    recurrent,
    reduce,
    reparameterization,
    shape,
    softmax,
    special,
    weight_norm,
    writing,
)

__all__ = [
    "activation",
    "arithmetic",
    "attention",
    "binary",
    "choice",
    "cholesky",
    "convolution",
    "elementary",
    "embedding",
    "grouped",
    "interpolation",
    "linalg",
    "linear",
    "loss",
    "moment",
    "normalization",
    "piecewise",
    "pooling",
    "recurrent",
    "reduce",
    "reparameterization",
    "shape",
    "softmax",
    "special",
    "weight_norm",
    "writing",
]
