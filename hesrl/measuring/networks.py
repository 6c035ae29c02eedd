"""Networks of dense layers, as the paper and the examples have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from torch import nn


def dense_network(
    sizes: Iterable[int], activation: Callable[[], nn.Module] = nn.Tanh
) -> nn.Sequential:
    """Return linear layers with an activation between them, with PyTorch's initialization.

    Args:
        sizes: Number of inputs, units of each hidden layer, number of outputs.
        activation: Makes the module that follows each layer but the last.
    """
    modules: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        modules += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*modules[:-1])
