"""A table of operations for every family of rules; each module has its ``ROWS``."""

from importlib import import_module
from pkgutil import iter_modules

from tests.curvature.rows.row import WITHOUT_GRADIENT, Row

ALL: list[Row] = [
    row
    for module in iter_modules(__path__, f"{__name__}.")
    if not module.name.endswith(".row")
    for row in import_module(module.name).ROWS
]

TABLE = [row for row in ALL if row.node not in WITHOUT_GRADIENT]
"""The rows that this PyTorch can run."""
