"""A closed form as an operation: losses of one's own, other methods, checkpoints, precision."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hesrl import losses
from hesrl.losses import ClosedFormLoss, Terms
from tests.losses.cases import CASES
from tests.losses.data import ACTIONS, CHOICES, CLASSES, LOG_STDS, LOGITS, MEAN, armed, assert_equal

PRECISIONS = [
    (torch.float32, torch.float64),
    (torch.float64, torch.float32),
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
]


def log_cosh(x: Tensor, shift: float) -> Terms:
    """Σ log cosh (x − a): first derivative tanh, second 1 − tanh²."""
    slope = torch.tanh(x - shift)
    return Terms(torch.cosh(x - shift).log().sum(), grad=slope, hess=1 - slope * slope)


class LogCosh(ClosedFormLoss, form=log_cosh):
    def forward(self, x: Tensor) -> Tensor:
        return self.operation(x, (0.5,))


def test_a_loss_of_ones_own():
    (x,) = armed(MEAN)
    LogCosh()(x).backward()
    assert_equal(x.grad, torch.tanh(MEAN - 0.5))
    assert_equal(x.hess_diag, 1 - torch.tanh(MEAN - 0.5) ** 2)


def test_a_subclass_of_a_loss_shares_its_operation():
    class Halved(losses.MSELoss):
        def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
            return 0.5 * super().forward(predictions, targets)

    (x,) = armed(MEAN)
    Halved("sum")(x, ACTIONS).backward()
    assert Halved.operation is losses.MSELoss.operation
    assert_equal(x.hess_diag, torch.ones_like(MEAN))


@pytest.mark.parametrize("method", ["hesscale", "hesscale_gn", "bl89"])
def test_every_method_is_exact(method):
    (x,) = armed(LOGITS, method=method)
    losses.CrossEntropyLoss()(x, CHOICES).backward()
    assert_equal(x.hess_diag, losses.cross_entropy(LOGITS, CHOICES).hess)


def test_inside_a_checkpoint():
    mean, log_std = armed(MEAN, LOG_STDS["(1, K)"])
    loss = losses.GaussianNLLLoss()
    checkpoint(loss, mean, log_std, ACTIONS, use_reentrant=False).backward()
    terms = losses.gaussian_nll(MEAN, LOG_STDS["(1, K)"], ACTIONS)
    assert_equal(mean.hess_diag, terms.hess_mean)
    assert_equal(log_std.hess_diag, terms.hess_log_std)


@pytest.mark.parametrize("index", [0, 1])
def test_a_frozen_input_leaves_the_curvature_of_the_other(index):
    inputs = [MEAN, LOG_STDS["(1, K)"]]
    (inputs[index],) = armed(inputs[index])
    losses.GaussianNLLLoss()(*inputs, ACTIONS).backward()
    terms = losses.gaussian_nll(MEAN, LOG_STDS["(1, K)"], ACTIONS)
    assert_equal(inputs[index].hess_diag, (terms.hess_mean, terms.hess_log_std)[index])


@pytest.mark.parametrize("f", [lambda loss: loss, torch.square], ids=["alone", "squared"])
@pytest.mark.parametrize(("outputs", "data"), PRECISIONS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_outputs_of_another_precision_than_the_data(case, outputs, data, f):
    """As under autocast: derivatives have the precision of their outputs, near the exact ones."""
    cast = lambda x, dtype: x.to(dtype) if x.is_floating_point() else x  # noqa: E731
    inputs = armed(*(cast(x, outputs) for x in case.inputs))
    exact = armed(*case.inputs)
    constants = [cast(x, data) for x in case.constants]
    for leaves, given in ((inputs, constants), (exact, case.constants)):
        loss = case.module()(*leaves, *given)
        f(loss[0] if isinstance(loss, tuple) else loss).backward()
    low = torch.bfloat16 in (outputs, data)
    for x, y in zip(inputs, exact, strict=True):
        assert x.grad.dtype == x.hess_diag.dtype == outputs
        for got, expected in ((x.grad, y.grad), (x.hess_diag, y.hess_diag)):
            assert (got - expected).norm() <= (0.3 if low else 1e-5) * expected.norm()


def test_a_copy_of_a_module_is_the_same_loss():
    loss = losses.CrossEntropyLoss(torch.rand(3, dtype=torch.float64), label_smoothing=0.1)
    assert_equal(copy.deepcopy(loss)(LOGITS, CLASSES), loss(LOGITS, CLASSES))


def test_without_a_gradient_there_is_no_graph():
    assert losses.CrossEntropyLoss()(LOGITS, CHOICES).grad_fn is None
    with torch.no_grad():
        assert losses.MSELoss()(*armed(MEAN), ACTIONS).grad_fn is None
