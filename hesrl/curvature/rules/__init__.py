"""The curvature rules, one module per family; importing this package registers them all.

Every rule follows from one definition, for an operation ``y = f(x)``:

    h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x_j²
"""

from hesrl.curvature.rules import (  # noqa: F401
    activation,
    arithmetic,
    attention,
    binary,
    choice,
    cholesky,
    complex_numbers,
    convolution,
    ctc,
    distance,
    elementary,
    embedding,
    grouped,
    grouping,
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
    resampling,
    shape,
    softmax,
    special,
    spectral,
    torchrl,
    weight_norm,
    writing,
)
