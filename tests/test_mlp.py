"""The written-out MLP against the engine, against autodiff, and its flat parameters."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev
from torch.nn.functional import linear

from hesrl.curvature import arm, is_armed
from hesrl.mlp import ExplicitMLP, FlatParameters, numpy_forward
from hesrl.optim import AdaHesScale

INPUTS, OUTPUTS, HIDDEN, SAMPLES = 4, 3, 5, 6
DEPTHS = [1, 2, 3]


def assert_equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13)


def network(depth, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    sizes = [INPUTS, *[HIDDEN] * (depth - 1), OUTPUTS]
    layers = []
    for index in range(depth):
        layers += [nn.Linear(sizes[index], sizes[index + 1], dtype=dtype), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def samples(dtype=torch.float64, seed=1):
    return torch.randn(SAMPLES, INPUTS, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def coefficients():
    return torch.linspace(-2, 2, SAMPLES * OUTPUTS, dtype=torch.float64).view(SAMPLES, OUTPUTS)


def plain_loss(outputs):
    """``Σ c sin y``: its gradient and curvature at the outputs have both signs."""
    return (coefficients() * outputs.sin()).sum()


def explicit_pass(layers, *, with_curvature=True):
    """Flatten the parameters and run both passes of `plain_loss`."""
    flat = FlatParameters(layers.parameters(), with_curvature=with_curvature)
    mlp = ExplicitMLP(layers)
    outputs = mlp.forward(samples())
    mlp.backward(coefficients() * outputs.cos(), -coefficients() * outputs.sin())
    return flat, mlp, outputs


@pytest.mark.parametrize("depth", DEPTHS)
def test_both_passes_equal_the_engine(depth):
    layers = network(depth)
    engine = copy.deepcopy(layers)
    arm(engine.parameters())
    expected = engine(samples())
    plain_loss(expected).backward()
    _, _, outputs = explicit_pass(layers)
    assert_equal(outputs, expected)
    assert_equal(outputs, layers(samples()))
    for p, q in zip(layers.parameters(), engine.parameters(), strict=True):
        assert_equal(p.grad, q.grad)
        assert_equal(p.hess_diag, q.hess_diag)


@pytest.mark.parametrize("depth", DEPTHS)
def test_gradient_equals_autodiff(depth):
    layers = network(depth)
    values = {name: p.detach().clone() for name, p in layers.named_parameters()}
    expected = grad(lambda v: plain_loss(functional_call(layers, v, samples())))(values)
    explicit_pass(layers)
    for name, p in layers.named_parameters():
        assert_equal(p.grad, expected[name])


def by_definition(function, x, grad_out, hess_out):
    """``h(x) = Σ_k (∂y_k/∂x)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x²`` with Jacobians by autodiff."""
    flat = lambda v: function(v.view_as(x)).flatten()  # noqa: E731
    first, second = jacrev(flat)(x.flatten()), jacrev(jacrev(flat))(x.flatten())
    diagonal = second.diagonal(dim1=1, dim2=2)
    return (hess_out.flatten() @ first**2 + grad_out.flatten() @ diagonal).view_as(x)


@pytest.mark.parametrize("depth", DEPTHS)
def test_curvature_equals_the_definition_layer_by_layer(depth):
    layers = network(depth)
    explicit_pass(layers)
    inputs = [samples()]
    for layer in layers:
        inputs.append(layer(inputs[-1]).detach())
    outputs = inputs.pop().requires_grad_()
    (g,) = torch.autograd.grad(plain_loss(outputs), outputs)
    h = -coefficients() * outputs.detach().sin()
    for layer, x in zip(reversed(layers), reversed(inputs), strict=True):
        if isinstance(layer, nn.Linear):
            weight, bias = layer.weight.detach(), layer.bias.detach()
            h_weight = by_definition(lambda w, x=x, b=bias: linear(x, w, b), weight, g, h)
            h_bias = by_definition(lambda b, x=x, w=weight: linear(x, w, b), bias, g, h)
            assert_equal(layer.weight.hess_diag, h_weight)
            assert_equal(layer.bias.hess_diag, h_bias)
        h = by_definition(layer, x, g, h)
        x = x.requires_grad_()
        (g,) = torch.autograd.grad(layer(x), x, g)


def test_one_layer_has_the_exact_hessian_diagonal():
    layers = network(1)
    weight, bias = (p.detach().clone() for p in layers.parameters())
    flat, _, _ = explicit_pass(layers)
    vector = flat.vector.detach().clone()

    def loss(v):
        w, b = v.split([weight.numel(), bias.numel()])
        return plain_loss(linear(samples(), w.view_as(weight), b))

    exact = jacrev(jacrev(loss))(vector).diagonal()
    assert_equal(flat.hess, exact)
    assert (exact < 0).any()
    assert (exact > 0).any()


def test_backward_overwrites():
    layers = network(2)
    flat, mlp, outputs = explicit_pass(layers)
    g, h = flat.vector.grad.clone(), flat.hess.clone()
    mlp.backward(torch.ones_like(outputs), torch.ones_like(outputs))
    assert not torch.allclose(flat.vector.grad, g)
    mlp.backward(coefficients() * outputs.cos(), -coefficients() * outputs.sin())
    assert torch.equal(flat.vector.grad, g)
    assert torch.equal(flat.hess, h)


@pytest.mark.parametrize("depth", DEPTHS)
def test_without_curvature_the_gradient_is_the_same(depth):
    expected, _, _ = explicit_pass(network(depth))
    layers = network(depth)
    flat, _, _ = explicit_pass(layers, with_curvature=False)
    assert flat.hess is None
    assert not any(is_armed(p) for p in [flat.vector, *layers.parameters()])
    assert torch.equal(flat.vector.grad, expected.vector.grad)


def assert_tied(flat, layers):
    """Check that the vector and the parameters share memory, gradient and curvature too."""
    start = 0
    for p in layers.parameters():
        for part, whole in (
            (p, flat.vector),
            (p.grad, flat.vector.grad),
            (p.hess_diag, flat.hess),
        ):
            assert part.data_ptr() == whole.data_ptr() + start * whole.element_size()
            assert torch.equal(part.flatten(), whole[start : start + p.numel()])
        start += p.numel()
    assert start == flat.vector.numel()


def test_views_stay_tied_and_train_like_separate_parameters():
    layers = network(3)
    separate = copy.deepcopy(layers)
    flat = FlatParameters(layers.parameters(), with_curvature=True)
    mlp = ExplicitMLP(layers)
    ours, theirs = AdaHesScale([flat.vector], lr=0.01), AdaHesScale(separate.parameters(), lr=0.01)
    for _ in range(5):
        outputs = mlp.forward(samples())
        mlp.backward(coefficients() * outputs.cos(), -coefficients() * outputs.sin())
        ours.step()
        theirs.zero_grad()
        plain_loss(separate(samples())).backward()
        theirs.step()
        assert_tied(flat, layers)
    for p, q in zip(layers.parameters(), separate.parameters(), strict=True):
        assert_equal(p, q)


def test_views_stay_tied_after_load_state_dict():
    layers, other = network(2), network(2, seed=5)
    flat, mlp, _ = explicit_pass(layers)
    layers.load_state_dict(other.state_dict())
    assert_tied(flat, layers)
    assert_equal(mlp.forward(samples()), other(samples()))


def test_state_dict_goes_through_a_file_to_a_plain_module():
    layers = network(3)
    explicit_pass(layers)
    file = io.BytesIO()
    torch.save(layers.state_dict(), file)
    file.seek(0)
    other = network(3, seed=5)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(samples()), layers(samples()))


@pytest.mark.parametrize("depth", DEPTHS)
def test_numpy_forward_equals_the_module_and_follows_it(depth):
    layers, x = network(depth, torch.float32), samples(torch.float32)
    flat = FlatParameters(layers.parameters(), with_curvature=False)
    forward, before = numpy_forward(layers), x.clone()
    for change in (0.0, 0.1):
        with torch.no_grad():
            flat.vector += change
        outputs = forward(x.numpy())
        assert outputs.dtype == np.float32
        torch.testing.assert_close(torch.from_numpy(outputs), layers(x).detach())
    layers.load_state_dict(network(depth, torch.float32, seed=5).state_dict())
    torch.testing.assert_close(torch.from_numpy(forward(x.numpy())), layers(x).detach())
    assert torch.equal(x, before)


@pytest.mark.parametrize("max_norm", [0.01, 1.0, 1e6])
def test_clip_grad_norm_equals_that_of_torch_and_leaves_curvature_alone(max_norm):
    layers = network(2)
    flat, _, _ = explicit_pass(layers)
    other = network(2)
    for p, q in zip(layers.parameters(), other.parameters(), strict=True):
        q.grad = p.grad.clone()
    hess = flat.hess.clone()
    norm = nn.utils.clip_grad_norm_(other.parameters(), max_norm)
    assert 1.0 < norm < 1e6
    flat.clip_grad_norm(max_norm)
    for p, q in zip(layers.parameters(), other.parameters(), strict=True):
        assert_equal(p.grad, q.grad)
    assert torch.equal(flat.hess, hess)
    assert_tied(flat, layers)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "not none"),
        ([nn.Tanh()], "not Tanh"),
        ([nn.Linear(2, 2), nn.Tanh()], "not Linear, Tanh$"),
        ([nn.Linear(2, 2), nn.Linear(2, 2)], "not Linear, Linear"),
        ([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)], "not Linear, ReLU, Linear"),
        ([nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2, bias=False)], "number 1 has none"),
    ],
)
@pytest.mark.parametrize("make", [ExplicitMLP, numpy_forward])
def test_other_layers_are_refused(make, layers, message):
    layers = nn.Sequential(*layers)
    for p in layers.parameters():
        p.grad = torch.zeros_like(p)
    with pytest.raises(ValueError, match=message):
        make(layers)


def test_parameters_that_are_not_flat_are_refused():
    with pytest.raises(ValueError, match=r"make a FlatParameters with the parameters of Linear"):
        ExplicitMLP(network(2))
