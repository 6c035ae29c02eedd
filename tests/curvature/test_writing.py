"""Operations in place on views: what is refused, and that values do not decide about it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hesrl.curvature import MissingRuleError, arm, hess_diag
from hesrl.curvature.analysis import Analysis
from hesrl.curvature.graph import Graph
from tests import reference
from tests.curvature.seeding import grad_and_hess


class Sine(torch.autograd.Function):
    """It keeps its slope where nobody sees that it depends on x."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        ctx.slope = x.cos()
        return x.sin_()

    @staticmethod
    def backward(ctx, grad_out: Tensor) -> Tensor:
        return grad_out * ctx.slope


INDEX = torch.tensor([[0, 1], [0, 0]])
REFUSED = {
    "aten::cumsum": lambda view, v: view.cumsum_(1),
    "aten::mm": lambda view, v: view.addmm_(v, torch.eye(2), beta=0),
    "aten::where": lambda view, v: view.scatter_reduce_(0, INDEX, v, "prod"),
    "aten::sub": lambda view, v: view.renorm_(2, 0, 1.0),
    "an autograd.Function": lambda view, v: Sine.apply(view),
    "the same tensor taken twice": lambda view, v: view.addcmul_(v, v),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_mixes_entries_or_hides_its_derivative_is_refused(name):
    torch.manual_seed(0)
    x, v = torch.randn(2, 4, requires_grad=True), torch.randn(2, 2, requires_grad=True)
    arm([x, v])
    y = x.clone()
    REFUSED[name](y[:, 1:3], v)
    with pytest.raises(MissingRuleError) as caught:
        y.square().sum().backward()
    message = str(caught.value)
    assert "CopySlices (output of shape (2, 4))" in message
    assert f"({name})" in message
    assert "out of place" in message
    assert x.grad is None


def test_a_product_of_complex_numbers_is_refused():
    y = torch.ones(3, 2, dtype=torch.complex64, requires_grad=True).clone()
    y[:, 0].mul_(1j)
    with pytest.raises(MissingRuleError, match=r"\(a product of complex numbers\)"):
        Analysis(Graph([y.grad_fn]), frozenset({0}), "hesscale")


VALUES = {
    "ones": torch.ones(3),
    "zeros": torch.zeros(3),
    "signs": torch.tensor([1.0, -1.0, 1.0]),
    "any": torch.tensor([0.3, -1.7, 0.0]),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("learned", [False, True])
def test_values_do_not_decide_about_a_rule(value, learned):
    """Once a product with ones was taken for an assignment."""
    torch.manual_seed(0)
    w = VALUES[value].double().requires_grad_(learned)
    x = torch.tensor([[1.0, 0.0, -2.0, 0.5]] * 3, dtype=torch.float64, requires_grad=True)
    params = [x, w] if learned else [x]
    arm(params)

    def function(x: Tensor, w: Tensor = w) -> Tensor:
        return torch.cat([(x[:, 0] * w)[:, None], x[:, 1:]], 1)

    y = x.clone()
    y[:, 0].mul_(w)
    grad_out, hess_out = grad_and_hess(y)
    for n, p in enumerate(params):
        expected = reference.hesscale(function, params, n, grad_out, hess_out)
        torch.testing.assert_close(p.hess_diag, expected, rtol=1e-12, atol=1e-14)


def several(x: Tensor) -> Tensor:
    """Views that overlap, views of views, and the base itself between them."""
    y = x.clone()
    y[:, :2].mul_(torch.tensor([1.0, -0.7], dtype=x.dtype))
    y.t()[1].sin_()
    y.view(-1)[2:10].view(2, 4)[:, 1:].div_(0.3)
    y.cos_()
    y[1:, 1:].mul_(torch.tensor([[1.0, 0.0, 1.0]], dtype=x.dtype)).add_(1.0).square_()
    y[0] = 1.7
    F.elu(y.view(2, 6), 0.3, inplace=True)
    return y


def test_several_changes_of_one_tensor():
    """Every stage is elementwise, so the curvature is exact."""
    torch.manual_seed(0)
    x = torch.randn(3, 4, dtype=torch.float64)
    loss = lambda x: several(x).exp().sum()  # noqa: E731
    inputs = x.clone().requires_grad_()
    (h,) = hess_diag(loss(inputs), [inputs])
    torch.testing.assert_close(h, reference.hess_diag(loss, x)[0], rtol=1e-10, atol=1e-12)


def checkpointed(x: Tensor, w: Tensor) -> Tensor:
    return checkpoint(gated, x, w, use_reentrant=False)


def offloaded(x: Tensor, w: Tensor) -> Tensor:
    with torch.autograd.graph.save_on_cpu():
        return gated(x, w)


def gated(x: Tensor, w: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3].mul_(w).div_(w.exp())
    F.silu(y.view(-1), inplace=True)
    return several(y)


@pytest.mark.parametrize("way", [checkpointed, offloaded])
def test_saved_tensors_that_are_computed_or_copied_again(way):
    torch.manual_seed(0)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, dtype=torch.float64, requires_grad=True)
    expected = hess_diag(gated(x, w).exp().sum(), [x, w])
    arm([x, w])
    way(x, w).exp().sum().backward()
    for p, h in zip((x, w), expected, strict=True):
        torch.testing.assert_close(p.hess_diag, h, rtol=0, atol=0)


class Block(nn.Module):
    """Activations and dropout in place after layers of three dimensions, as models have them."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 6)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.silu(self.first(x), inplace=self.in_place), inplace=self.in_place)
        x = F.dropout(self.second(x).flatten(1), 0.5, inplace=self.in_place)
        norm = x.detach().norm(dim=1, keepdim=True)
        if self.in_place:
            x /= norm
            return x
        return x / norm


@pytest.mark.parametrize("method", ["hesscale", "hesscale_gn"])
def test_a_model_has_the_curvature_that_it_has_out_of_place(method):
    found = []
    for in_place in (True, False):
        torch.manual_seed(0)
        net = Block(in_place).double()
        y = net(torch.randn(2, 3, 4, dtype=torch.float64))
        found.append(hess_diag(y.square().mean() + y.exp().sum(), net.parameters(), method))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)


def test_factors_that_depend_on_one_another():
    """The derivative of a coefficient leaves out what its tensors depend on below the operation."""
    torch.manual_seed(0)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    y = x.clone()
    divisor = y[:, 1].exp()
    y[:, 0].div_(divisor)
    calls = []
    divisor.register_hook(calls.append)
    (h,) = hess_diag(y.square().sum(), [x])
    apart = x.clone()
    quotient = apart[:, 0] / apart[:, 1].exp()
    (expected,) = hess_diag(torch.cat([quotient[:, None], apart[:, 1:]], 1).square().sum(), [x])
    torch.testing.assert_close(h, expected, rtol=1e-12, atol=1e-14)
    assert len(calls) == 1


def test_statistics_that_a_normalisation_returns_have_no_curvature_rule():
    x = torch.randn(2, 4, 3, requires_grad=True)
    arm([x])
    y, mean, _ = torch.native_group_norm(x, None, None, 2, 4, 3, 2, 1e-5)
    with pytest.raises(NotImplementedError, match="NativeGroupNormBackward0"):
        (y.sum() + mean.square().sum()).backward()
