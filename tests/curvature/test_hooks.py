"""Hooks on tensors, parameters and modules: what they see, and what they change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import arm
from hesrl.optim import AdaHesScale
from tests.curvature.nets import X, assert_equal, curvatures, fresh_curvatures, loss_of, make_net


def new_param() -> Tensor:
    param = torch.tensor([0.5, -2.0], dtype=torch.float64, requires_grad=True)
    arm([param])
    return param


def test_a_hook_on_a_tensor_changes_g_and_not_h():
    """``y = eˣ``, ``L = Σ y²`` and g(y) tripled: ``h(x) = y² h(y) + y · 3 g(y) = 2 y² + 6 y²``."""
    x = new_param()
    y = x.exp()
    y.register_hook(lambda grad: 3 * grad)
    y.square().sum().backward()
    torch.testing.assert_close(x.grad, 6 * y.detach() ** 2)
    torch.testing.assert_close(x.hess_diag, 8 * y.detach() ** 2)


def test_a_hook_on_a_parameter_changes_its_gradient_only():
    x = new_param()
    x.register_hook(lambda grad: 3 * grad)
    x.square().sum().backward()
    assert (x.grad.tolist(), x.hess_diag.tolist()) == ([3.0, -12.0], [2.0, 2.0])


def test_a_hook_after_accumulation_sees_a_gradient_whose_curvature_is_not_complete():
    x, seen = new_param(), []
    x.register_post_accumulate_grad_hook(lambda p: seen.append((p.grad[0].item(), p.hess_diag)))
    x.square().sum().backward()
    assert x.hess_diag.tolist() == [2.0, 2.0]
    x.square().sum().backward()
    assert x.hess_diag.tolist() == [4.0, 4.0]
    assert seen == [(1.0, None), (2.0, None)]


def test_a_step_in_such_a_hook_is_refused():
    x = new_param()
    optimizer = AdaHesScale([x])
    x.register_post_accumulate_grad_hook(lambda p: optimizer.step())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="has a gradient but no curvature"):
            x.square().sum().backward()
        assert x.tolist() == [0.5, -2.0]


def test_a_gradient_that_such_a_hook_clears_or_replaces():
    cleared, replaced = new_param(), new_param()
    cleared.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    replaced.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", p.grad.clone()))
    (cleared.square() + replaced.square()).sum().backward()
    (cleared.square() + replaced.square()).sum().backward()
    assert cleared.hess_diag is None
    assert replaced.hess_diag.tolist() == [4.0, 4.0]


@pytest.mark.parametrize("before", ["nothing", "a pass", "a zeroed gradient"])
def test_a_backward_pass_inside_a_backward_pass_adds_to_it(before):
    x, other = new_param(), new_param()
    if before != "nothing":
        (x.square() + other.square()).sum().backward()
    if before == "a zeroed gradient":
        x.grad.zero_()
        other.grad.zero_()
    once = int(before == "a pass")

    def run_another(grad: Tensor) -> None:
        with torch.enable_grad():
            (5 * x.square() + 7 * other.square()).sum().backward()

    y = x * 1.0
    y.register_hook(run_another)
    y.square().sum().backward()
    assert x.grad.tolist() == [1.0 + 5 + once, -4.0 * (1 + 5 + once)]
    assert x.hess_diag.tolist() == [2.0 * (1 + 5 + once)] * 2
    assert other.hess_diag.tolist() == [2.0 * (7 + once)] * 2


def test_retained_gradients_of_activations():
    net = make_net()
    a = torch.tanh(net.first(X))
    a.retain_grad()
    loss_of(lambda x: net.last(a + torch.tanh(net.second(a)))).backward()
    assert a.grad.count_nonzero() > 0
    assert_equal(curvatures(net), fresh_curvatures())


def test_hooks_of_modules_that_only_look():
    net, seen = make_net(), []
    net.second.register_full_backward_hook(lambda module, grad_in, grad_out: seen.append(grad_in))
    net.second.register_full_backward_pre_hook(lambda module, grad_out: seen.append(grad_out))
    net.second.register_forward_hook(lambda module, inputs, output: seen.append(output))
    loss_of(net).backward()
    assert len(seen) == 3
    assert_equal(curvatures(net), fresh_curvatures())


def test_hooks_of_modules_that_change_a_gradient():
    """They do what a hook on the tensor does."""
    nets = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net in nets:
        arm(net.parameters())
    nets[0][1].register_full_backward_hook(lambda module, grad_in, grad_out: (2 * grad_in[0],))
    nets[0](X).exp().mean().backward()
    z = nets[1][0](X)
    z.register_hook(lambda grad: 2 * grad)
    nets[1][1:](z).exp().mean().backward()
    assert_equal([p.grad for p in nets[0].parameters()], [p.grad for p in nets[1].parameters()])
    assert_equal(curvatures(nets[0]), curvatures(nets[1]))


class Products(nn.Module):
    def forward(self, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return a * b, b * c


def test_hooks_of_a_module_with_an_unused_output_and_a_constant_input():
    a, b, module, seen = new_param(), new_param(), Products(), []
    module.register_full_backward_hook(lambda module, grad_in, grad_out: seen.append(grad_in))
    product, _ = module(a.exp(), b.exp(), torch.ones(2, dtype=torch.float64))
    product.square().sum().backward()
    assert len(seen) == 1
    expected = 4 * (a + b).detach().mul(2).exp()
    torch.testing.assert_close([a.hess_diag, b.hess_diag], [expected, expected])
