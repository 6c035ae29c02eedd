"""A table of operations for every family of rules; each module has its ``ROWS``."""

from tests.curvature.rows import (
    activation,
    arithmetic,
    attention,
    binary,
    choice,
    complex_numbers,
    convolution,
    ctc,
    distance,
    elementary,
    embedding,
    grouped,
    grouping,
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
    resampling,
    shape,
    softmax,
    special,
    spectral,
    weight_norm,
    writing,
)
from tests.curvature.rows.row import WITHOUT_GRADIENT, Row

ALL: list[Row] = [
    row
    for family in (
        activation,
        arithmetic,
        attention,
        binary,
        choice,
        complex_numbers,
        convolution,
        ctc,
        distance,
        elementary,
        embedding,
        grouped,
        grouping,
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
        resampling,
        shape,
        softmax,
        special,
        spectral,
        weight_norm,
        writing,
    )
    for row in family.ROWS
]

TABLE = [row for row in ALL if row.node not in WITHOUT_GRADIENT]
"""The rows that this PyTorch can run."""
