"""The layers of the agents' networks, and how they are initialized."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from hesrl.envs.flat_observations import FlatBox, has_images
from hesrl.envs.spaces import is_image
from hesrl.errors import UserError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}
"""Activation functions by name."""

LayerT = TypeVar("LayerT", nn.Linear, nn.Conv2d)

SMALLEST_IMAGE = 36
"""Pixels on a side; a smaller image is nothing after the convolutions."""


def layer_init(layer: LayerT, std: float = math.sqrt(2), bias_const: float = 0.0) -> LayerT:
    """Initialize a layer in place: orthogonal weights of gain ``std``, constant bias."""
    nn.init.orthogonal_(layer.weight, std)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, bias_const)
    return layer


def sparse_layer_init(layer: LayerT, sparsity: float) -> LayerT:
    """Initialize a layer in place, most of its weights with zero (Elsayed et al., 2024).

    Of each unit's weights ``⌈sparsity · fan_in⌉`` are zero, but one stays; the others are uniform
    within ``±1/√fan_in``. The bias is zero.
    """
    rows = layer.weight.detach().flatten(1)
    fan_in = rows.shape[1]
    # As published, a layer of few inputs starts dead, since 0.9 leaves nothing of eight, and the
    # normalization of zeros multiplies its first gradients by 1/√ε.
    zeros = min(math.ceil(sparsity * fan_in), fan_in - 1)
    nn.init.uniform_(rows, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
    for row in rows:
        row[torch.randperm(fan_in)[:zeros]] = 0.0
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Pixels(nn.Module):
    """Turns images of bytes (N, H, W, C) or (N, C, H, W) into numbers (N, C, H, W) from 0 to 1.

    Args:
        shape: Shape of one image; the channels are its shortest side.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.channels_last = shape[2] < shape[0]
        self.channels, *self.size = (shape[2], *shape[:2]) if self.channels_last else shape

    def forward(self, images: Tensor) -> Tensor:
        """Return the numbers."""
        pixels = images.to(torch.get_default_dtype()) / 255
        return pixels.permute(0, 3, 1, 2) if self.channels_last else pixels


def initialized(
    layer: LayerT, std: float = math.sqrt(2), *, orthogonal_init: bool, sparse_init: float
) -> LayerT:
    """Initialize a layer in place by the settings; without any it stays as PyTorch makes it."""
    if sparse_init:
        return sparse_layer_init(layer, sparse_init)
    return layer_init(layer, std) if orthogonal_init else layer


def check_size(shape: Sequence[int]) -> None:
    """Refuse images that are too small for the convolutions.

    Raises:
        UserError: The message has their shape, and the smallest size.
    """
    if min(Pixels(shape).size) < SMALLEST_IMAGE:
        raise UserError(
            f"images of {tuple(shape)} are too small: the convolutions need "
            f"{SMALLEST_IMAGE} × {SMALLEST_IMAGE} pixels"
        )


def convolutions(
    shape: Sequence[int],
    activate: Callable[[], nn.Module],
    initialize: Callable[[nn.Conv2d], nn.Conv2d],
) -> list[nn.Module]:
    """Return the three convolutions of Mnih et al. (2015), from images of bytes to features.

    Raises:
        UserError: An image is too small for the convolutions.
    """
    check_size(shape)
    pixels = Pixels(shape)
    layers: list[nn.Module] = [pixels]
    channels = pixels.channels
    for filters, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
        layers += [initialize(nn.Conv2d(channels, filters, kernel, stride)), activate()]
        channels = filters
    return [*layers, nn.Flatten()]


class Mixed(nn.Module):
    """Takes images out of vectors, and puts their features in their place.

    Args:
        vector_size: Entries before the images.
        images: Shapes of the images.
        networks: The layers from images to features, for each of them.
    """

    def __init__(
        self,
        vector_size: int,
        images: Sequence[tuple[int, ...]],
        networks: Sequence[Sequence[nn.Module]],
    ) -> None:
        super().__init__()
        self._shapes = tuple(images)
        self._sizes = (vector_size, *(math.prod(shape) for shape in images))
        self.images = nn.ModuleList(nn.Sequential(*layers) for layers in networks)

    def forward(self, obs: Tensor) -> Tensor:
        """Return the features (N, …) of observations (N, obs_dim)."""
        vector, *pixels = obs.split(self._sizes, 1)
        parts = zip(self.images, pixels, self._shapes, strict=True)
        return torch.cat([vector, *(net(x.reshape(-1, *shape)) for net, x, shape in parts)], 1)


def hidden_layers(
    space: Box,
    hidden_sizes: Sequence[int],
    activation: str,
    *,
    layer_norm: bool = False,
    orthogonal_init: bool = True,
    sparse_init: float = 0.0,
) -> list[nn.Module]:
    """Return the layers from observations to features.

    Images go through `convolutions` first, also those among other observations.

    Args:
        space: The observations.
        hidden_sizes: Units of each linear layer.
        activation: Key of `ACTIVATIONS`.
        layer_norm: Whether the units of each linear layer are normalized before the activation.
        orthogonal_init: Whether weights start orthogonal; else as in PyTorch.
        sparse_init: Share of each unit's weights that start at zero; 0 leaves it to the former.

    Raises:
        UserError: An image is too small for the convolutions.
    """
    activate = ACTIVATIONS[activation]
    initialize = partial(initialized, orthogonal_init=orthogonal_init, sparse_init=sparse_init)
    layers: list[nn.Module] = []
    if is_image(space):
        layers += convolutions(space.shape, activate, initialize)
    elif has_images(space):
        assert isinstance(space, FlatBox)
        parts = [convolutions(shape, activate, initialize) for shape in space.images]
        layers.append(Mixed(space.vector_size, space.images, parts))
    size = features(layers, space)
    for width in hidden_sizes:
        layers.append(initialize(nn.Linear(size, width)))
        if layer_norm:
            layers.append(nn.LayerNorm(width, elementwise_affine=False))
        layers.append(activate())
        size = width
    return layers


def features(layers: Sequence[nn.Module], space: Box) -> int:
    """Return the number of features that the layers make of one observation."""
    with torch.no_grad():
        return int(nn.Sequential(*layers)(torch.zeros(1, *space.shape)).shape[1])
