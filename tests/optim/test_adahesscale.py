"""The curvature that AdaHesScale asks for: armed, accumulated, cleared, missed."""

import copy
import pickle

import pytest
import torch
from torch import nn

from hesrl.curvature import arm, is_armed
from hesrl.optim import AdaHesScale


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def loss_of(model, step=0):
    """A loss whose curvature at the outputs has both signs."""
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return (model(x) - x[:, :2]).cos().mean()


def test_its_state_is_named_for_what_it_holds():
    model = network()
    optimizer = AdaHesScale(model.parameters(), betas=(0.9, 0.75))
    loss_of(model).backward()
    optimizer.step()
    for p in model.parameters():
        assert list(optimizer.state[p]) == ["step", "exp_avg", "exp_hess_sq", "exp_grad_sq"]
        torch.testing.assert_close(optimizer.state[p]["exp_grad_sq"], 0.25 * p.grad**2)
        torch.testing.assert_close(optimizer.state[p]["exp_avg"], 0.1 * p.grad)
        torch.testing.assert_close(optimizer.state[p]["exp_hess_sq"], 0.25 * p.hess_diag**2)


def test_it_arms_its_parameters_only():
    model = network()
    optimizer = AdaHesScale(model[0].parameters())
    assert [is_armed(p) for p in model.parameters()] == [True, True, False, False]
    optimizer.add_param_group({"params": model[2].weight})
    assert [is_armed(p) for p in model.parameters()] == [True, True, True, False]
    loss_of(model).backward()
    assert [hasattr(p, "hess_diag") for p in model.parameters()] == [True, True, True, False]


def test_curvature_accumulates_over_backward_passes_as_the_gradient_does():
    model, other = network(), network()
    optimizers = [AdaHesScale(m.parameters(), lr=0.1) for m in (model, other)]
    loss_of(model, 1).backward()
    loss_of(model, 2).backward()
    (loss_of(other, 1) + loss_of(other, 2)).backward()
    for optimizer in optimizers:
        optimizer.step()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.hess_diag, q.hess_diag, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("owner", ["optimizer", "module"])
def test_zero_grad_of_optimizer_or_module_clears_curvature(owner, set_to_none):
    model = network()
    optimizer = AdaHesScale(model.parameters())
    loss_of(model, 1).backward()
    once = [p.hess_diag.clone() for p in model.parameters()]
    {"optimizer": optimizer, "module": model}[owner].zero_grad(set_to_none)
    assert all(p.hess_diag is None for p in model.parameters())
    loss_of(model, 1).backward()
    for p, hess in zip(model.parameters(), once, strict=True):
        assert torch.equal(p.hess_diag, hess)


def test_clipping_the_gradient_leaves_curvature_alone():
    model = network()
    arm(model.parameters())
    loss_of(model).backward()
    before = [(p.grad.clone(), p.hess_diag.clone()) for p in model.parameters()]
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    for p, (grad, hess) in zip(model.parameters(), before, strict=True):
        assert not torch.equal(p.grad, grad)
        assert torch.equal(p.hess_diag, hess)


@pytest.mark.parametrize("copy_pair", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_computes_its_own_curvature(copy_pair):
    model = network()
    optimizer = AdaHesScale(model.parameters())
    other, _ = copy_pair((model, optimizer))
    loss_of(other).backward()
    assert all(p.hess_diag is None for p in model.parameters())
    loss_of(model).backward()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p.hess_diag, q.hess_diag)


def test_a_gradient_from_before_the_optimizer_is_refused():
    model = network()
    loss_of(model).backward()
    before = model[0].weight.clone()
    optimizer = AdaHesScale(model.parameters())
    with pytest.raises(RuntimeError, match=r"^parameter 0 of shape \(5, 3\) has a gradient but no"):
        optimizer.step()
    assert torch.equal(model[0].weight, before)
    assert not optimizer.state


def test_a_gradient_from_autograd_grad_is_refused_and_its_parameter_named():
    model = network()
    optimizer = AdaHesScale(model.named_parameters())
    loss_of(model).backward()
    bias = model[2].bias
    (bias.grad,) = torch.autograd.grad(loss_of(model), bias)
    with pytest.raises(RuntimeError, match=r"^2\.bias of shape \(2,\) has a gradient but no curv"):
        optimizer.step()


def test_parameters_must_be_of_floating_point():
    count = nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)
    with pytest.raises(ValueError, match=r"not for one of shape \(2,\) and dtype torch.int64"):
        AdaHesScale([count])


def test_it_needs_neither_a_second_backward_nor_a_recorded_one():
    model = network()
    optimizer = AdaHesScale(model.parameters())
    loss_of(model).backward()
    optimizer.step()
    assert all(p.grad.grad_fn is None and p.hess_diag.grad_fn is None for p in model.parameters())
    assert all(p.is_leaf and type(p) is nn.Parameter for p in model.parameters())
