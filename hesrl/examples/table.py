"""The cells of the examples' tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hesrl.measuring.tables import mean_and_margin


def accuracy_cell(values: Sequence[float]) -> str:
    """Return the mean of the seeds' accuracies and, of two or more, half of its 95 % interval."""
    mean, margin = mean_and_margin(values)
    return f"{mean:.3f}" if math.isnan(margin) else f"{mean:.3f} ± {margin:.3f}"
