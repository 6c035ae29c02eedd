"""Multilayer perceptrons with their backward pass written out: gradient and HesScale together.

The recursion of the paper (Elsayed et al., ICML 2024), from the output layer down, for
``z = a W + b`` and ``a = f(z)``, with ``g = ∂L/∂z`` and ``h ≈ diag ∂²L/∂z²`` of N samples:

    g(W) = aᵀ g(z),        g(b) = Σ_n g(z),    g(a) = g(z) Wᵀ
    h(W) = (a∘a)ᵀ h(z),    h(b) = Σ_n h(z),    h(a) = h(z) (W∘W)ᵀ
    g(z) = f'(z) g(a),     h(z) = f'(z)² h(a) + f''(z) g(a)

It gives what ``loss.backward()`` gives, to rounding, without an autograd graph; the agents'
update needs nothing else, and takes less than half of the time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hesrl.curvature import Method, arm, give_curvature, take_curvature


class FlatParameters:
    """The parameters of several modules in one contiguous tensor, views of which they become.

    An optimizer made for `vector`, or for `parts` of it, steps all of them at once. Call no
    ``zero_grad``, which cuts the ties: `ExplicitMLP.backward` overwrites.

    Args:
        params: Parameters of one dtype on one device.
        with_curvature: Whether `hess` is wanted; costs as much memory again.
        method: Which curvature it is to be.

    Attributes:
        vector: All parameters (P,), with ``vector.grad`` (P,) ready.
        hess: Their curvature (P,), None if not wanted.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        with_curvature: bool,
        method: Method = "hesscale",
    ) -> None:
        params = list(params)
        self.vector = nn.Parameter(torch.cat([p.detach().flatten() for p in params]))
        self.vector.grad = torch.zeros_like(self.vector)
        self.hess = torch.zeros_like(self.vector) if with_curvature else None
        self._method = method
        sizes = [p.numel() for p in params]
        for p, part in zip(params, self._slices(sizes), strict=True):
            p.data = self.vector.data[part].view_as(p)
            p.grad = self.vector.grad[part].view_as(p)
            self._give(p, part)
        self._give(self.vector, slice(None))

    def parts(self, sizes: Sequence[int]) -> list[nn.Parameter]:
        """Return the vector cut into neighbours of these sizes, each with its derivatives."""
        assert self.vector.grad is not None
        parts = []
        for part in self._slices(sizes):
            parts.append(nn.Parameter(self.vector.data[part]))
            parts[-1].grad = self.vector.grad[part]
            self._give(parts[-1], part)
        return parts

    def clip_grad_norm(self, max_norm: float) -> None:
        """Scale the gradient, and not the curvature, so that its norm is at most ``max_norm``."""
        grad = self.vector.grad
        assert grad is not None
        grad *= (max_norm / (grad.norm() + 1e-6)).clamp(max=1.0)

    def _give(self, param: nn.Parameter, part: slice) -> None:
        """Give a parameter its part of the curvature, if there is one."""
        if self.hess is not None:
            arm([param], self._method)
            give_curvature(param, self.hess[part].view_as(param))

    @staticmethod
    def _slices(sizes: Sequence[int]) -> list[slice]:
        ends = list(itertools.accumulate(sizes))
        return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


class ExplicitMLP:
    """The forward and backward pass of a stack of linear and tanh layers, on matrices.

    It computes in NumPy, on the memory of the tensors: for matrices of this size half of PyTorch's
    time goes into the calls.

    Args:
        layers: `nn.Linear` with bias and `nn.Tanh` in turn, beginning and ending with a linear
            layer, on the CPU. Their parameters must be those of a `FlatParameters`.
        gauss_newton: Whether to leave out f'', as HesScaleGN does.

    Raises:
        ValueError: The layers or their parameters are others than these.
    """

    def __init__(self, layers: nn.Sequential, *, gauss_newton: bool = False) -> None:
        self._layers = [_Layer(linear) for linear in _linear_layers(layers)]
        self._gauss_newton = gauss_newton
        self._inputs: list[NDArray[Any]] = []

    @np.errstate(over="ignore", invalid="ignore")  # found once per update
    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (N, out) for inputs (N, in), and keep what `backward` needs."""
        a = x.numpy()
        self._inputs = [a]
        for layer in self._layers[:-1]:
            a = a @ layer.weight.T
            a += layer.bias
            np.tanh(a, out=a)
            self._inputs.append(a)
        last = self._layers[-1]
        return torch.from_numpy(a @ last.weight.T + last.bias)

    @np.errstate(over="ignore", invalid="ignore")  # found once per update
    def backward(self, grad: Tensor, hess: Tensor) -> None:
        """Overwrite the gradient of all parameters, and their curvature if it is wanted.

        Args:
            grad: g at the outputs of the last `forward` (N, out).
            hess: h at these outputs (N, out).
        """
        g, h = grad.numpy(), hess.numpy()
        for index in reversed(range(len(self._layers))):
            layer, a = self._layers[index], self._inputs[index]
            a_square = a * a
            np.matmul(g.T, a, out=layer.grad_weight)
            np.add.reduce(g, 0, out=layer.grad_bias)
            if layer.hess_weight is not None:
                np.matmul(h.T, a_square, out=layer.hess_weight)
                np.add.reduce(h, 0, out=layer.hess_bias)
            if index > 0:
                # a = tanh z: f' = 1 − a² and f'' = −2 a f'.
                df = 1 - a_square
                g = g @ layer.weight
                if layer.hess_weight is not None:
                    h = h @ (layer.weight * layer.weight)
                    h *= df
                    if not self._gauss_newton:
                        h -= 2 * a * g
                    h *= df
                g *= df


def numpy_forward(layers: nn.Sequential) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that does the forward pass in NumPy, 10 times as fast for one sample.

    Args:
        layers: `nn.Linear` with bias and `nn.Tanh` in turn, beginning and ending with a linear
            layer, on the CPU.

    Returns:
        A function from inputs (N, in) to outputs (N, out), of the parameters' dtype. It reads the
        parameters where they are: as long as they are changed in place, it follows them.

    Raises:
        ValueError: The layers are others than these.
    """
    weights = [
        (linear.weight.detach().numpy().T, linear.bias.detach().numpy())
        for linear in _linear_layers(layers)
    ]

    def forward(x: np.ndarray) -> np.ndarray:
        for weight, bias in weights[:-1]:
            x = x @ weight
            x += bias
            np.tanh(x, out=x)
        weight, bias = weights[-1]
        return x @ weight + bias

    return forward


def _linear_layers(layers: nn.Sequential) -> list[nn.Linear]:
    """Return the linear layers of a stack that is of the one supported form."""
    kinds: list[type[nn.Module]] = [type(layer) for layer in layers]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if kinds != [nn.Linear, nn.Tanh] * (len(kinds) // 2) + [nn.Linear]:
        names = ", ".join(kind.__name__ for kind in kinds) or "none"
        raise ValueError(f"layers must be Linear, Tanh, …, Linear in turn, not {names}")
    for index, layer in enumerate(linear):
        if layer.bias is None:
            raise ValueError(f"every Linear must have a bias, but number {index} has none")
    return linear


class _Layer:
    """The arrays of one linear layer, in the flat storage."""

    def __init__(self, linear: nn.Linear) -> None:
        if linear.weight.grad is None or linear.bias.grad is None:
            raise ValueError(f"make a FlatParameters with the parameters of {linear} first")
        self.weight, self.bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
        self.grad_weight, self.grad_bias = linear.weight.grad.numpy(), linear.bias.grad.numpy()
        hess = [take_curvature(p) for p in (linear.weight, linear.bias)]
        self.hess_weight, self.hess_bias = (None if h is None else h.numpy() for h in hess)
