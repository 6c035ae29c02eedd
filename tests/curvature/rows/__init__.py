"""A table of operations for every family of rules; each module has its ``ROWS``."""

from tests.curvature.rows import activation, arithmetic, linear, loss, reduce, shape, softmax
from tests.curvature.rows.row import Row

TABLE: list[Row] = [
    row
    for family in (
        activation,
        arithmetic,
        linear,
        loss,
        reduce,
        shape,
        softmax,
    )
    for row in family.ROWS
]
