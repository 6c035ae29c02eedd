"""The three estimators side by side, and parameters armed with them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import Method, arm, disarm, give_curvature, is_armed
from hesrl.optim import AdaHesScale
from tests.curvature.nets import TARGET, Net, X, assert_equal, curvatures

METHODS: tuple[Method, ...] = ("hesscale", "hesscale_gn", "bl89")


def plain_net() -> Net:
    torch.manual_seed(1)
    return Net()


def loss_of(net: nn.Module) -> Tensor:
    """A loss in which the three methods differ for every parameter."""
    return (net(X).softmax(1) - TARGET).square().sum()


def curvatures_by(method: Method) -> list[Tensor]:
    net = plain_net()
    arm(net.parameters(), method)
    loss_of(net).backward()
    return curvatures(net)


def test_parameters_armed_with_different_methods_in_one_graph():
    net = plain_net()
    for number, p in enumerate(net.parameters()):
        arm([p], METHODS[number % 3])
    loss_of(net).backward()
    loss_of(net).backward()
    by_method = [curvatures_by(method) for method in METHODS]
    assert_equal(curvatures(net), [2 * by_method[k % 3][k] for k in range(6)])
    assert all(not torch.allclose(by_method[0][k], by_method[2][k]) for k in range(6))


def test_the_last_layer_is_the_same_by_gauss_newton():
    """Below it HesScaleGN has no second derivative of tanh; above it all that the loss has."""
    full, gauss_newton = curvatures_by("hesscale"), curvatures_by("hesscale_gn")
    assert_equal(gauss_newton[-2:], full[-2:])
    assert all(not torch.allclose(a, b) for a, b in zip(full[:4], gauss_newton[:4], strict=True))


def test_gauss_newton_is_never_negative_for_a_convex_loss():
    net = plain_net()
    arm(net.parameters(), "hesscale_gn")
    (net(X) - TARGET).square().sum().backward()
    assert all((h >= 0).all() for h in curvatures(net))
    assert any((h < 0).any() for h in curvatures_by("hesscale"))


def test_bl89_takes_the_own_slope_of_a_softmax_alone():
    """``y = softmax(x)``: ``h(x_j) = y_j² (1 − y_j)² h(y_j) + g(y_j) y_j (1 − y_j)(1 − 2 y_j)``."""
    torch.manual_seed(0)
    x, weight = torch.randn(4, 3).double().requires_grad_(), torch.randn(4, 3).double()
    arm([x], "bl89")
    (weight * x.softmax(1).exp()).sum().backward()
    y = x.detach().softmax(1)
    grad = hess = weight * y.exp()
    expected = (y * (1 - y)) ** 2 * hess + grad * y * (1 - y) * (1 - 2 * y)
    torch.testing.assert_close(x.hess_diag, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_arming_again_with_the_same_method_changes_nothing(method):
    net = plain_net()
    arm(net.parameters(), method)
    loss_of(net).backward()
    before = curvatures(net)
    arm(net.parameters(), method)
    assert_equal(curvatures(net), before)


def test_arming_with_another_method_is_refused_as_a_whole():
    net = plain_net()
    arm([net.last.weight], "hesscale_gn")
    with pytest.raises(ValueError, match=r"shape \(2, 8\) is armed with 'hesscale_gn' already"):
        arm(net.parameters())
    assert [is_armed(p) for p in net.parameters()] == [False] * 4 + [True, False]
    disarm([net.last.weight])
    arm(net.parameters())
    loss_of(net).backward()
    assert_equal(curvatures(net), curvatures_by("hesscale"))


def test_duplicates_and_unknown_methods_are_refused():
    net = plain_net()
    with pytest.raises(ValueError, match=r"the parameter of shape \(8, 3\) is listed twice"):
        arm([net.last.bias, net.first.weight, net.first.weight])
    with pytest.raises(ValueError, match=r"method must be one of hesscale, .*, not 'gauss_newton'"):
        arm(net.parameters(), "gauss_newton")
    assert not any(is_armed(p) for p in net.parameters())


def test_a_curvature_given_to_a_parameter_of_another_method():
    """It takes the place of what was there, and the parameter keeps its method."""
    net = plain_net()
    arm(net.parameters(), "hesscale_gn")
    loss_of(net).backward()
    given = torch.full((8, 3), 7.0)
    give_curvature(net.first.weight, given)
    assert net.first.weight.hess_diag is given
    loss_of(net).backward()
    torch.testing.assert_close(net.first.weight.hess_diag, 7.0 + curvatures_by("hesscale_gn")[0])


def test_a_curvature_of_another_shape_is_not_taken():
    param = nn.Parameter(torch.ones(2, 3))
    param.grad = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"of shape \(3,\) is not that of a parameter of shape"):
        give_curvature(param, torch.ones(3))
    assert param.hess_diag is None


def test_the_optimizer_takes_no_parameter_of_another_method():
    net = plain_net()
    arm([net.first.bias], "hesscale_gn")
    with pytest.raises(ValueError, match=r"armed with 'hesscale_gn' already: call .*disarm"):
        AdaHesScale(net.parameters())
    assert not is_armed(net.first.weight)
    with pytest.raises(ValueError, match="armed with 'hesscale_gn' already"):
        AdaHesScale([net.first.weight]).add_param_group({"params": [net.first.bias]})


def test_one_pass_shares_no_curvature_between_methods():
    """With ``inputs=`` only one of two methods runs; the other's parameter keeps what it had."""
    net = plain_net()
    arm([net.first.weight], "bl89")
    arm([net.last.weight])
    loss_of(net).backward()
    loss_of(net).backward(inputs=[net.first.weight])
    assert_equal([net.first.weight.hess_diag], [2 * curvatures_by("bl89")[0]])
    assert_equal([net.last.weight.hess_diag], [curvatures_by("hesscale")[4]])
