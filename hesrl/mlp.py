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

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from hesrl.curvature import give_curvature, take_curvature


class FlatParameters:
    """The parameters of several modules in one contiguous tensor, views of which they become.

    An optimizer made for `vector` steps all of them at once. Call no ``zero_grad``, which cuts
    the ties: `ExplicitMLP.backward` overwrites.

    Args:
        params: Parameters of one dtype on one device.
        with_curvature: Whether `hess` is wanted; costs as much memory again.

    Attributes:
        vector: All parameters (P,), with ``vector.grad`` (P,) ready.
        hess: Their curvature (P,), None if not wanted.
    """

    def __init__(self, params: Iterable[nn.Parameter], *, with_curvature: bool) -> None:
        params = list(params)
        self.vector = nn.Parameter(torch.cat([p.detach().flatten() for p in params]))
        self.vector.grad = torch.zeros_like(self.vector)
        self.hess = torch.zeros_like(self.vector) if with_curvature else None
        start = 0
        for p in params:
            part = slice(start, start + p.numel())
            p.data = self.vector.data[part].view_as(p)
            p.grad = self.vector.grad[part].view_as(p)
            if self.hess is not None:
                give_curvature(p, self.hess[part].view_as(p))
            start += p.numel()
        if self.hess is not None:
            give_curvature(self.vector, self.hess)

    def clip_grad_norm(self, max_norm: float) -> None:
        """Scale the gradient, and not the curvature, so that its norm is at most ``max_norm``."""
        grad = self.vector.grad
        assert grad is not None
        grad *= (max_norm / (grad.norm() + 1e-6)).clamp(max=1.0)


class ExplicitMLP:
    """The forward and backward pass of a stack of linear and tanh layers, on matrices.

    Args:
        layers: `nn.Linear` with bias and `nn.Tanh` in turn, beginning and ending with a linear
            layer. Their parameters must be those of a `FlatParameters`.

    Raises:
        ValueError: The layers or their parameters are others than these.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        self._layers = [_Layer(linear) for linear in _linear_layers(layers)]
        self._inputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (N, out) for inputs (N, in), and keep what `backward` needs."""
        self._inputs = [x]
        for layer in self._layers[:-1]:
            x = torch.addmm(layer.bias, x, layer.weight.t()).tanh_()
            self._inputs.append(x)
        last = self._layers[-1]
        return torch.addmm(last.bias, x, last.weight.t())

    def backward(self, grad: Tensor, hess: Tensor) -> None:
        """Overwrite the gradient of all parameters, and their curvature if it is wanted.

        Args:
            grad: g at the outputs of the last `forward` (N, out).
            hess: h at these outputs (N, out).
        """
        for index in reversed(range(len(self._layers))):
            layer, a = self._layers[index], self._inputs[index]
            a_square = a * a
            torch.mm(grad.t(), a, out=layer.grad_weight)
            torch.sum(grad, 0, out=layer.grad_bias)
            if layer.hess_weight is not None:
                torch.mm(hess.t(), a_square, out=layer.hess_weight)
                torch.sum(hess, 0, out=layer.hess_bias)
            if index > 0:
                # a = tanh z: f' = 1 − a² and f'' = −2 a f'.
                df = 1 - a_square
                grad = grad @ layer.weight
                if layer.hess_weight is not None:
                    hess = df * (df * (hess @ layer.weight.square()) - 2 * a * grad)
                grad = df * grad


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
    """The tensors of one linear layer, in the flat storage."""

    def __init__(self, linear: nn.Linear) -> None:
        if linear.weight.grad is None or linear.bias.grad is None:
            raise ValueError(f"make a FlatParameters with the parameters of {linear} first")
        self.weight, self.bias = linear.weight.detach(), linear.bias.detach()
        self.grad_weight, self.grad_bias = linear.weight.grad, linear.bias.grad
        self.hess_weight = take_curvature(linear.weight)
        self.hess_bias = take_curvature(linear.bias)
