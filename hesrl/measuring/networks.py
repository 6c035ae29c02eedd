"""The paper's networks: hidden tanh layers of one width."""

from __future__ import annotations

import itertools

from torch import nn


def tanh_network(inputs: int, width: int, layers: int, outputs: int) -> nn.Sequential:
    """Return a network inputs–width–…–width–outputs, with PyTorch's initialization.

    Args:
        inputs: Number of inputs.
        width: Units of each hidden layer.
        layers: Number of hidden layers.
        outputs: Number of outputs.
    """
    modules: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise([inputs, *[width] * layers]):
        modules += [nn.Linear(n_in, n_out), nn.Tanh()]
    return nn.Sequential(*modules, nn.Linear(width, outputs))
