"""A table of operations for every family of rules; each module has its ``ROWS``."""

from tests.curvature.rows import (
    activation,
    arithmetic,
    attention,
    binary,
    choice,
    convolution,
    elementary,
    embedding,
    grouped,
    in_place,
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
from tests.curvature.rows.row import Row

TABLE: list[Row] = [
    row
    for family in (
        activation,
        arithmetic,
        attention,
        binary,
        choice,
        convolution,
        elementary,
        embedding,
        grouped,
        in_place,
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
    for row in family.ROWS
]
