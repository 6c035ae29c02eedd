"""Torchrl's functions have rules by name, with torchrl itself or with the same functions here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function

from hesrl.curvature import MissingRuleError, arm, register_pointwise
from tests.curvature.seeding import assert_defined, grad_and_hess

MODULE = "torchrl.modules.distributions.utils"
FUNCTIONS = ("_SafeTanh", "_SafeTanhNoEps", "_SafeaTanh", "_SafeaTanhNoEps")
EPS = torch.finfo(torch.float64).resolution


class SafeTanh(Function):
    @staticmethod
    def forward(x: Tensor, eps: float = EPS) -> Tensor:
        return x.tanh().clamp(eps - 1, 1 - eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return (grad_out * (1 - y * y), None)[: len(ctx.needs_input_grad)]


class SafeAtanh(Function):
    @staticmethod
    def forward(x: Tensor, eps: float = EPS) -> Tensor:
        return x.clamp(eps - 1, 1 - eps).atanh()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        x, ctx.eps = (*inputs, EPS)[:2]
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        kept = x.clamp(ctx.eps - 1, 1 - ctx.eps)
        return (grad_out / (1 - kept * kept), None)[: len(ctx.needs_input_grad)]


def stand_in(name: str) -> type[Function]:
    """Such a function under torchrl's name."""
    base = SafeTanh if "SafeTanh" in name else SafeAtanh
    return type(name, (base,), {"__module__": MODULE, "__qualname__": name})


def from_torchrl(name: str) -> type[Function]:
    utils = pytest.importorskip(MODULE, reason="torchrl is not installed")
    return getattr(utils, name)


@pytest.mark.parametrize("source", [stand_in, from_torchrl])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_functions(name, source):
    function, arguments = source(name), () if "NoEps" in name else (0.01,)
    x = torch.tensor([-0.8, -0.3, 0.0, 0.6, 0.95], dtype=torch.float64)
    torch.manual_seed(0)
    definition = torch.tanh if "SafeTanh" in name else torch.atanh
    assert_defined(lambda x: function.apply(x, *arguments), x, definition=definition)


@pytest.mark.parametrize("source", [stand_in, from_torchrl])
def test_artanh_has_torchrls_slope_where_its_input_is_kept_off_one(source):
    function = source("_SafeaTanh")
    x = torch.tensor([-1.0, 0.95, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    arm([x])
    _, hess_out = grad_and_hess(function.apply(x, 0.1))
    slope = 1 / (1 - 0.9**2)
    torch.testing.assert_close(x.hess_diag, slope**2 * hess_out, rtol=1e-14, atol=0)


def test_a_function_of_the_same_name_elsewhere_has_no_rule():
    x = torch.ones(2, requires_grad=True)
    arm([x])
    with pytest.raises(MissingRuleError, match="_SafeTanhBackward"):
        type("_SafeTanh", (SafeTanh,), {}).apply(x).square().sum().backward()


def test_a_full_name_has_one_rule():
    with pytest.raises(ValueError, match="_SafeTanh already has a curvature rule"):
        register_pointwise(f"{MODULE}._SafeTanh")(None)


def log_prob(distribution: Any) -> Tensor:
    values = torch.tensor([0.7, -0.2, 0.4], dtype=torch.float64)
    return distribution.log_prob(values).sum()


def sample(distribution: Any) -> Tensor:
    torch.manual_seed(1)
    return distribution.rsample().exp().sum()


def sample_and_log_prob(distribution: Any) -> Tensor:
    torch.manual_seed(2)
    return distribution.log_prob(distribution.rsample()).sum()


CASES = [
    (name, of)
    for name in ("TanhNormal", "TruncatedNormal", "IndependentNormal")
    for of in (log_prob, sample, sample_and_log_prob)
    # It clips what it uses of a sample by a maximum over a stack, which is not elementwise.
    if (name, of) != ("TruncatedNormal", sample_and_log_prob)
]


@pytest.mark.parametrize(("name", "of"), CASES)
def test_the_distributions_are_exact(name, of):
    """By their elementwise operations. `torch.func` does not follow `TruncatedNormal`'s writes."""
    distributions = pytest.importorskip("torchrl.modules.distributions", reason="needs torchrl")
    options = {"upscale": 5.0} if name == "IndependentNormal" else {"low": -1.0, "high": 1.0}

    def loss(loc: Tensor, scale: Tensor) -> Tensor:
        return of(getattr(distributions, name)(loc, scale, **options))

    values = torch.tensor([0.3, -0.5, 0.1]).double(), torch.tensor([0.4, 0.7, 0.2]).double()
    inputs = [x.clone().requires_grad_() for x in values]
    arm(inputs)
    loss(*inputs).backward()
    blocks = torch.autograd.functional.hessian(loss, values)
    for n, x in enumerate(inputs):
        torch.testing.assert_close(x.hess_diag, blocks[n][n].diagonal(), rtol=1e-9, atol=1e-11)
