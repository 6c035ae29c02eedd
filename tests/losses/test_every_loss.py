"""Every loss against autodiff of the same loss written with torch, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jacrev

from hesrl.curvature import arm, explain
from tests import reference
from tests.curvature.seeding import grad_and_hess, node_names
from tests.losses.cases import CASES
from tests.losses.data import REDUCTIONS, Case, armed, assert_equal, normal

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
each_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def hessian(function, x):
    """The Hessian matrix by the entries of x."""
    return jacrev(grad(function))(x).reshape(x.numel(), x.numel())


def hess_diag(function, x):
    return hessian(function, x).diagonal().view_as(x)


def of_input(case: Case, reduction: str, inputs: tuple[Tensor, ...], index: int):
    """The loss as a function of one input."""
    return lambda x: case.reduced(reduction, *inputs[:index], x, *inputs[index + 1 :])


@each_reduction
@each_case
def test_the_function_equals_autodiff(case, reduction):
    """Without reduction, each sample's derivatives: those of the sum, by inputs of its own."""
    inputs = case.inputs
    terms = case.terms(reduction, *inputs)
    assert_equal(terms[0], case.reduced(reduction, *inputs))
    if reduction == "none":
        reduction, inputs = "sum", tuple(torch.broadcast_tensors(*inputs))
    count = len(inputs)
    for index, x in enumerate(inputs):
        loss = of_input(case, reduction, inputs, index)
        assert_equal(terms[index - 2 * count], grad(loss)(x))
        assert_equal(terms[index - count], hess_diag(loss, x))


@each_reduction
@each_case
def test_the_module_is_one_node_with_the_value_of_the_function(case, reduction):
    inputs = [x.clone().requires_grad_() for x in case.inputs]
    loss = case.loss(reduction, *inputs)
    name = type(case.module()).__name__ + "Backward"
    assert node_names(loss) == {name, "torch::autograd::AccumulateGrad"}
    assert_equal(loss.detach(), case.terms(reduction, *case.inputs)[0])


@each_reduction
@each_case
def test_gradients_and_curvatures_of_both_signs_come_in(case, reduction):
    """For each set of inputs that are wanted: h(x) = J² h_out + g_out ∂², by definition."""
    torch.manual_seed(0)
    plain = lambda *inputs: case.reduced(reduction, *inputs)  # noqa: E731
    for wanted in {(0,), (len(case.inputs) - 1,), tuple(range(len(case.inputs)))}:
        for _ in range(2 if reduction != "none" else 1):
            inputs = [x.clone().requires_grad_(n in wanted) for n, x in enumerate(case.inputs)]
            arm(inputs[n] for n in wanted)
            grad_out, hess_out = grad_and_hess(case.loss(reduction, *inputs))
            for n in wanted:
                expected = reference.hesscale(plain, case.inputs, n, grad_out, hess_out)
                assert_equal(inputs[n].hess_diag, expected)
                assert inputs[n].hess_diag.shape == inputs[n].shape


@pytest.mark.parametrize("factor", [1.0, -2.5])
@each_reduction
@each_case
def test_the_module_equals_the_torch_form_in_the_engine(case, reduction, factor):
    ours, theirs = armed(*case.inputs), armed(*case.inputs)
    (factor * case.loss(reduction, *ours).sum()).backward()
    (factor * case.reduced(reduction, *theirs).sum()).backward()
    for x, y in zip(ours, theirs, strict=True):
        assert_equal(x.grad, y.grad)
        assert_equal(x.hess_diag, y.hess_diag)


@pytest.mark.parametrize("f", [torch.square, torch.exp, torch.tanh])
@each_case
def test_a_nonlinear_function_of_the_loss(case, f):
    inputs = armed(*case.inputs)
    f(0.1 * case.loss("mean", *inputs)).backward()
    for index, x in enumerate(case.inputs):
        loss = of_input(case, "mean", case.inputs, index)
        expected = hess_diag(lambda x, loss=loss: f(0.1 * loss(x)), x)
        assert_equal(inputs[index].hess_diag, expected)


@each_reduction
@each_case
def test_it_can_be_differentiated_twice(case, reduction):
    inputs = [x.clone().requires_grad_() for x in case.inputs]
    loss = lambda *inputs: case.loss(reduction, *inputs)  # noqa: E731
    assert gradcheck(loss, inputs)
    assert gradgradcheck(loss, inputs)


@each_case
def test_hessian_times_a_vector_is_that_of_autodiff(case):
    for index, x in enumerate(case.inputs):
        leaf, direction = x.clone().requires_grad_(), normal(*x.shape, seed=12)
        inputs = *case.inputs[:index], leaf, *case.inputs[index + 1 :]
        loss = case.loss("mean", *inputs).square()
        (first,) = torch.autograd.grad(loss, leaf, create_graph=True)
        (product,) = torch.autograd.grad((first * direction).sum(), leaf)
        plain = of_input(case, "mean", case.inputs, index)
        matrix = hessian(lambda x, plain=plain: plain(x).square(), x)
        assert_equal(product.flatten(), matrix @ direction.flatten())


@each_reduction
@each_case
def test_single_precision_is_kept(case, reduction):
    single = lambda x: x.float() if x.is_floating_point() else x  # noqa: E731
    inputs = armed(*map(single, case.inputs))
    constants = map(single, case.constants)
    output = case.module(reduction=reduction).float()(*inputs, *constants)
    loss = output[0] if isinstance(output, tuple) else output
    loss.sum().backward()
    double = armed(*case.inputs)
    case.loss(reduction, *double).sum().backward()
    assert loss.dtype == torch.float32
    for x, y in zip(inputs, double, strict=True):
        assert x.grad.dtype == x.hess_diag.dtype == torch.float32
        torch.testing.assert_close(x.hess_diag.double(), y.hess_diag, rtol=1e-4, atol=1e-5)


def test_a_weighted_sum_of_losses_has_the_sum_of_curvatures():
    surrogate, bonus = (
        next(case for case in CASES if case.id == name)
        for name in ("gaussian ppo (1, K)", "gaussian nll variance (1, K)")
    )
    inputs = surrogate.inputs
    x = armed(*inputs)
    total = surrogate.loss("mean", *x) - 0.3 * bonus.loss("sum", x[0], (2 * x[1]).exp())
    total.backward()
    plain = lambda *x: (  # noqa: E731
        surrogate.reduced("mean", *x) - 0.3 * bonus.reduced("sum", x[0], (2 * x[1]).exp())
    )
    for actual, expected in zip(x, reference.hess_diag(plain, *inputs), strict=True):
        assert_equal(actual.hess_diag, expected)


def test_explain_names_the_loss(capsys):
    case = next(case for case in CASES if case.id == "categorical ppo")
    explain(case.loss("mean", *armed(*case.inputs)))
    assert "CategoricalSurrogateLossBackward  ()" in capsys.readouterr().out
