"""When curvature belongs to a gradient: what clears it, what keeps it, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import arm, give_curvature, take_curvature
from hesrl.optim import AdaHesScale
from tests.curvature.nets import make_net

SHAPES = {
    "one": (1,),
    "two": (2,),
    "matrix": (7, 5),
    "turned": (5, 7),
    "sparse": (40, 3),
    "kernels": (2, 3, 3, 3),
}


def make_param(shape: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """An armed parameter after one pass of ``Σ a x²``, and its curvature 2 a."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(SHAPES[shape], generator=generator, dtype=torch.float64).to(dtype)
    a = torch.rand(SHAPES[shape], generator=generator, dtype=torch.float64).to(dtype) + 0.5
    if shape == "turned":
        x, a = x.t(), a.t()
    if shape == "sparse":
        a[torch.arange(40) != 17] = 0
    x.requires_grad_()
    arm([x])
    (a * x.square()).sum().backward()
    return x, 2 * a


def swap(grad: Tensor) -> None:
    grad.data = torch.zeros_like(grad)


CLEARING: dict[str, Callable[[Tensor], object]] = {
    "zero_": lambda grad: grad.zero_(),
    "data.zero_": lambda grad: grad.data.zero_(),
    "data =": swap,
    "numpy": lambda grad: grad.numpy().fill(0),
    "detach": lambda grad: grad.detach().zero_(),
    "mul_(0)": lambda grad: grad.mul_(0),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", CLEARING)
def test_zeros_clear_it(way, shape):
    x, hess = make_param(shape)
    CLEARING[way](x.grad)
    assert x.hess_diag is None
    assert take_curvature(x) is None
    (hess / 2 * x.square()).sum().backward()
    torch.testing.assert_close(x.hess_diag, hess)


@pytest.mark.parametrize("way", CLEARING)
def test_a_step_after_clearing_has_no_curvature(way):
    x, _ = make_param("matrix")
    optimizer = AdaHesScale([x])
    CLEARING[way](x.grad)
    optimizer.step()
    assert not optimizer.state[x]["exp_hess_sq"].any()


KEEPING: dict[str, Callable[[Tensor], object]] = {
    "clip_grad_norm_": lambda x: nn.utils.clip_grad_norm_([x], 1e-3),
    "clip_grad_value_": lambda x: nn.utils.clip_grad_value_([x], 0.3),
    "clip hard": lambda x: nn.utils.clip_grad_value_([x], 1e-3),
    "both": lambda x: (nn.utils.clip_grad_value_([x], 1.0), nn.utils.clip_grad_norm_([x], 0.1)),
    "twice": lambda x: (nn.utils.clip_grad_norm_([x], 0.3), nn.utils.clip_grad_norm_([x], 0.2)),
    "negated": lambda x: x.grad.neg_(),
    "times": lambda x: x.grad.mul_(1e3),
    "through data": lambda x: x.grad.data.mul_(-0.37),
    "divided": lambda x: x.grad.div_(7),
    "nothing": lambda x: None,
    "rewritten": lambda x: x.grad.copy_(x.grad.clone()),
}


@pytest.mark.parametrize("shape", sorted(SHAPES.keys() - {"two"}))
@pytest.mark.parametrize("way", KEEPING)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_multiples_and_clipping_keep_it(way, shape, dtype):
    x, hess = make_param(shape, dtype)
    KEEPING[way](x)
    torch.testing.assert_close(take_curvature(x), hess)
    assert x.hess_diag is take_curvature(x)
    (hess / 2 * x.square()).sum().backward()
    torch.testing.assert_close(x.hess_diag, 2 * hess)


def test_entries_that_are_set_to_zero_keep_it():
    x, hess = make_param("matrix")
    x.grad[2:5] = 0
    nn.utils.clip_grad_norm_([x], 0.1)
    torch.testing.assert_close(take_curvature(x), hess)


def test_a_gradient_of_one_entry_other_than_zero_may_be_scaled():
    layer = nn.Linear(1, 5)
    arm([layer.bias])
    layer(torch.ones(3, 1))[:, 3].exp().sum().backward()
    hess = layer.bias.hess_diag
    nn.utils.clip_grad_norm_([layer.bias], 0.01)
    assert torch.equal(take_curvature(layer.bias), hess)


def test_a_factor_that_underflows_keeps_it():
    x, hess = make_param("matrix", torch.float32)
    x.grad[0, 0], x.grad[3, 2] = 1e-30, 1.0
    give_curvature(x, hess)
    x.grad.mul_(1e-12)
    torch.testing.assert_close(take_curvature(x), hess)


def test_an_infinite_gradient_that_is_clipped_keeps_it():
    """Its entries become zero and NaN."""
    x, hess = make_param("matrix")
    x.grad[0, 0] = torch.inf
    give_curvature(x, hess)
    nn.utils.clip_grad_norm_([x], 1.0)
    torch.testing.assert_close(take_curvature(x), hess)


def at_minimum() -> Tensor:
    """A parameter whose gradient is exactly zero, with the curvature 2."""
    x = torch.tensor([1.0, -3.0, 0.5], requires_grad=True)
    arm([x])
    (x - x.detach()).square().sum().backward()
    assert not x.grad.any()
    return x


def test_a_zero_gradient_that_is_clipped_keeps_it():
    x = at_minimum()
    nn.utils.clip_grad_norm_([x], 1.0)
    assert x.hess_diag.tolist() == [2.0] * 3
    optimizer = AdaHesScale([x])
    optimizer.step()
    torch.testing.assert_close(optimizer.state[x]["exp_hess_sq"], torch.full((3,), 4e-3))


def test_a_zero_gradient_that_is_touched_counts_as_cleared_for_the_next_pass():
    x = at_minimum()
    (x - x.detach()).square().sum().backward()
    assert x.hess_diag.tolist() == [4.0] * 3
    x.grad.zero_()
    (x - x.detach()).square().sum().backward()
    assert x.hess_diag.tolist() == [2.0] * 3


CHANGING: dict[str, Callable[[Tensor], object]] = {
    "copy_": lambda grad: grad.copy_(torch.linspace(-1, 2, grad.numel()).view_as(grad) ** 3),
    "add_(1)": lambda grad: grad.add_(1.0),
    "add_(noise)": lambda grad: grad.add_(1e-3 * torch.randn_like(grad)),
    "data.add_": lambda grad: grad.data.add_(1.0),
    "sub_(mean)": lambda grad: grad.sub_(grad.mean()),
    "numpy": lambda grad: grad.numpy().__iadd__(0.5),
    "data =": lambda grad: setattr(grad, "data", torch.randn_like(grad)),
}


@pytest.mark.parametrize("shape", ["two", "matrix", "turned", "sparse", "kernels"])
@pytest.mark.parametrize("way", CHANGING)
def test_another_gradient_is_refused_by_the_step(way, shape):
    torch.manual_seed(0)
    x, hess = make_param(shape)
    CHANGING[way](x.grad)
    optimizer, before = AdaHesScale([("layer.x", x)]), x.detach().clone()
    message = r"^the gradient of layer\.x of shape .* was changed in place.*give_curvature\(p, h\)"
    with pytest.raises(RuntimeError, match=message) as error:
        optimizer.step()
    assert "\n" not in str(error.value)
    assert torch.equal(x, before) and not optimizer.state
    with pytest.raises(RuntimeError, match="was changed in place"):
        take_curvature(x)
    assert x.hess_diag is None
    give_curvature(x, hess)
    optimizer.step()
    assert not torch.equal(x, before)


def test_a_zero_gradient_that_becomes_another_is_refused():
    x = at_minimum()
    x.grad.add_(1.0)
    with pytest.raises(RuntimeError, match=r"^the gradient of parameter 0 of shape "):
        AdaHesScale([x]).step()


def test_another_gradient_that_a_pass_is_added_to_is_refused_by_the_step():
    x, hess = make_param("matrix")
    x.grad.add_(1.0)
    (hess * x.square()).sum().backward()
    assert x.hess_diag is None
    with pytest.raises(RuntimeError, match="has a gradient but no curvature"):
        AdaHesScale([x]).step()


@pytest.mark.parametrize("form", ["matrix", "network"])
def test_gradients_and_curvature_share_no_copies(form):
    """A deep copy has the gradient alone."""
    if form == "matrix":
        x, _ = make_param("matrix")
        other = copy.deepcopy(x)
    else:
        net = make_net()
        net(torch.ones(2, 3)).square().sum().backward()
        other = copy.deepcopy(net).first.weight
    assert not hasattr(other, "hess_diag") and take_curvature(other) is None
    assert not other.__dict__ and (other.grad is None or not other.grad.__dict__)
