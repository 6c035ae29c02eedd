"""The closed-form losses against autodiff of the same losses written with torch."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.distributions import Normal
from torch.func import grad, jacrev

from hesrl.curvature import arm
from hesrl.losses import GaussianSurrogateLoss, ValueLoss, gaussian_surrogate, value_loss

CLIP = 0.2
LOG_RATIOS = (-3.0, -0.3, -0.1, 0.0, 0.1, 0.3, 3.0)
ADVANTAGES = (1.5, 0.0, -0.7)
NONLINEAR = {"square": torch.square, "exp": torch.exp, "tanh": torch.tanh}


def assert_equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13)


def hess_diag(function, x):
    return jacrev(grad(function))(x).reshape(x.numel(), x.numel()).diagonal().view_as(x)


def plain_surrogate(mean, log_std, actions, old_logprobs, advantages):
    logprobs = Normal(mean, log_std.exp(), validate_args=False).log_prob(actions).sum(-1)
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    return -torch.min(ratio * advantages, clipped * advantages).mean()


def plain_value_loss(values, returns, old_values, clip_coef):
    error = (values - returns) ** 2
    if clip_coef is not None:
        clipped = old_values + torch.clamp(values - old_values, -clip_coef, clip_coef)
        error = torch.max(error, (clipped - returns) ** 2)
    return 0.5 * error.mean()


def surrogate_inputs(log_std_shape=(1, 3), seed=0):
    """Every log-ratio with every advantage, K = 3; the first sample lies far from its mean."""
    generator = torch.Generator().manual_seed(seed)
    logratio, advantages = torch.cartesian_prod(
        torch.tensor(LOG_RATIOS, dtype=torch.float64), torch.tensor(ADVANTAGES, dtype=torch.float64)
    ).unbind(1)
    mean, actions = torch.randn(2, len(logratio), 3, generator=generator, dtype=torch.float64)
    actions[0] += 5
    log_std = torch.randn(log_std_shape, generator=generator, dtype=torch.float64)
    logprobs = Normal(mean, log_std.exp().expand_as(mean)).log_prob(actions).sum(-1)
    return mean, log_std, actions, logprobs - logratio, advantages


def value_inputs(seed=0, n=60):
    """Values V, returns and V_old, of which some V lie within ±CLIP of V_old and others not."""
    generator = torch.Generator().manual_seed(seed)
    returns, old_values, change = torch.randn(3, n, generator=generator, dtype=torch.float64)
    return old_values + 0.3 * change, returns, old_values


def armed(*tensors):
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    arm(leaves)
    return leaves


@pytest.mark.parametrize("shape", [(3,), (1, 3), (21, 3)])
def test_surrogate_equals_autodiff(shape):
    mean, log_std, *constants = surrogate_inputs(shape)
    terms = gaussian_surrogate(mean, log_std, *constants, CLIP)
    of_mean = lambda x: plain_surrogate(x, log_std, *constants)  # noqa: E731
    of_log_std = lambda x: plain_surrogate(mean, x, *constants)  # noqa: E731
    assert_equal(terms.loss, of_mean(mean))
    assert_equal(terms.grad_mean, grad(of_mean)(mean))
    assert_equal(terms.hess_mean, hess_diag(of_mean, mean))
    assert_equal(terms.grad_log_std, grad(of_log_std)(log_std))
    assert_equal(terms.hess_log_std, hess_diag(of_log_std, log_std))


def test_surrogate_is_flat_exactly_where_it_is_clipped():
    inputs = surrogate_inputs((21, 3))
    terms, advantages = gaussian_surrogate(*inputs, CLIP), inputs[-1]
    logratio = torch.tensor(LOG_RATIOS, dtype=torch.float64).repeat_interleave(len(ADVANTAGES))
    assert_equal(terms.logratio, logratio)
    ratio = logratio.exp()
    flat = ((advantages > 0) & (ratio > 1 + CLIP)) | ((advantages < 0) & (ratio < 1 - CLIP))
    flat |= advantages == 0
    assert flat.sum() == 11
    for derivative in terms[2:]:
        assert torch.equal((derivative == 0).all(1), flat)


def test_curvature_of_the_surrogate_has_both_signs():
    terms = gaussian_surrogate(*surrogate_inputs(), CLIP)
    assert (terms.hess_mean < 0).any()
    assert (terms.hess_mean > 0).any()


def test_a_clipped_ratio_may_overflow():
    mean, log_std, actions, old_logprobs, advantages = surrogate_inputs()
    old_logprobs[0] = -1000.0
    terms = gaussian_surrogate(mean, log_std, actions, old_logprobs, advantages, CLIP)
    assert advantages[0] > 0
    assert all(term.isfinite().all() for term in terms)
    assert (terms.hess_mean[0] == 0).all()


@pytest.mark.parametrize("clip_coef", [None, CLIP])
def test_value_loss_equals_autodiff(clip_coef):
    values, *constants = value_inputs()
    terms = value_loss(values, *constants, clip_coef)
    plain = lambda x: plain_value_loss(x, *constants, clip_coef)  # noqa: E731
    assert_equal(terms.loss, plain(values))
    assert_equal(terms.grad, grad(plain)(values))
    assert_equal(terms.hess, hess_diag(plain, values))


def test_value_loss_moves_unless_the_clipped_error_is_larger():
    values, returns, old_values = value_inputs()
    terms = value_loss(values, returns, old_values, CLIP)
    change = values - old_values
    clipped = old_values + change.clamp(-CLIP, CLIP)
    outside, worse = change.abs() > CLIP, (clipped - returns).abs() > (values - returns).abs()
    for case in (outside & worse, outside & ~worse, change > CLIP, change < -CLIP, ~outside):
        assert case.sum() > 5
    assert_equal(terms.hess, (~(outside & worse)).double() / 60)


def test_rounding_within_the_clip_does_not_stop_a_value():
    values, returns, old_values = (x.float() for x in value_inputs(n=100_000))
    change = values - old_values
    inside = change.abs() <= CLIP
    rounded = old_values + change - returns
    assert (rounded.abs() > (values - returns).abs())[inside].any()
    assert (value_loss(values, returns, old_values, CLIP).hess[inside] > 0).all()


@pytest.mark.parametrize("shape", [(3,), (1, 3), (21, 3)])
@pytest.mark.parametrize("factor", [1.0, -2.5])
def test_surrogate_module_equals_the_torch_form_in_the_engine(shape, factor):
    mean, log_std, *constants = surrogate_inputs(shape)
    ours, theirs = armed(mean, log_std), armed(mean, log_std)
    loss, _ = GaussianSurrogateLoss(CLIP)(*ours, *constants)
    (factor * loss).backward()
    (factor * plain_surrogate(*theirs, *constants)).backward()
    for x, y in zip(ours, theirs, strict=True):
        assert_equal(x.grad, y.grad)
        assert_equal(x.hess_diag, y.hess_diag)


@pytest.mark.parametrize("clip_coef", [None, CLIP])
@pytest.mark.parametrize("factor", [1.0, -2.5])
def test_value_module_equals_the_torch_form_in_the_engine(clip_coef, factor):
    values, *constants = value_inputs()
    (ours,), (theirs,) = armed(values), armed(values)
    (factor * ValueLoss(clip_coef)(ours, *constants)).backward()
    (factor * plain_value_loss(theirs, *constants, clip_coef)).backward()
    assert_equal(ours.grad, theirs.grad)
    assert_equal(ours.hess_diag, theirs.hess_diag)


def test_two_losses_of_the_same_outputs_add_up():
    mean, log_std, *constants = surrogate_inputs()
    others = [constants[0] + 0.5, constants[1] - 0.1, constants[2].flip(0)]
    x = armed(mean, log_std)
    module = GaussianSurrogateLoss(CLIP)
    (module(*x, *constants)[0] + 2 * module(*x, *others)[0]).backward()
    first = gaussian_surrogate(mean, log_std, *constants, CLIP)
    second = gaussian_surrogate(mean, log_std, *others, CLIP)
    assert_equal(x[0].hess_diag, first.hess_mean + 2 * second.hess_mean)
    assert_equal(x[1].hess_diag, first.hess_log_std + 2 * second.hess_log_std)


@pytest.mark.parametrize("name", NONLINEAR)
def test_nonlinear_function_of_the_surrogate(name):
    f = NONLINEAR[name]
    mean, log_std, *constants = surrogate_inputs()
    x = armed(mean, log_std)
    f(GaussianSurrogateLoss(CLIP)(*x, *constants)[0]).backward()
    assert_equal(
        x[0].hess_diag, hess_diag(lambda v: f(plain_surrogate(v, log_std, *constants)), mean)
    )
    assert_equal(
        x[1].hess_diag, hess_diag(lambda v: f(plain_surrogate(mean, v, *constants)), log_std)
    )


@pytest.mark.parametrize("name", NONLINEAR)
def test_nonlinear_function_of_the_value_loss(name):
    f = NONLINEAR[name]
    values, *constants = value_inputs()
    (x,) = armed(values)
    f(ValueLoss(CLIP)(x, *constants)).backward()
    assert_equal(x.hess_diag, hess_diag(lambda v: f(plain_value_loss(v, *constants, CLIP)), values))


def test_the_modules_equal_the_torch_form_below_a_network():
    mean, log_std, *constants = surrogate_inputs()
    values, returns, old_values = value_inputs(n=21)
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    theirs = copy.deepcopy(ours)
    arm([*ours.parameters(), *theirs.parameters()])
    out = ours(mean)
    loss, _ = GaussianSurrogateLoss(CLIP)(out[:, :3], log_std, *constants)
    (loss + 0.5 * ValueLoss(CLIP)(out[:, 3] + values, returns, old_values)).backward()
    out = theirs(mean)
    loss = plain_surrogate(out[:, :3], log_std, *constants)
    (loss + 0.5 * plain_value_loss(out[:, 3] + values, returns, old_values, CLIP)).backward()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_equal(p.grad, q.grad)
        assert_equal(p.hess_diag, q.hess_diag)


def test_a_frozen_mean_leaves_the_curvature_of_log_std():
    mean, log_std, *constants = surrogate_inputs()
    (x,) = armed(log_std)
    GaussianSurrogateLoss(CLIP)(mean, x, *constants)[0].backward()
    assert_equal(x.hess_diag, gaussian_surrogate(mean, log_std, *constants, CLIP).hess_log_std)


def test_the_logratio_carries_no_gradient():
    mean, log_std, *constants = surrogate_inputs()
    _, logratio = GaussianSurrogateLoss(CLIP)(*armed(mean, log_std), *constants)
    assert not logratio.requires_grad
    assert torch.equal(logratio, gaussian_surrogate(mean, log_std, *constants, CLIP).logratio)


def assert_differentiable_twice(module, plain, x):
    leaf, direction = x.clone().requires_grad_(), torch.linspace(-1, 1, x.numel()).view_as(x)
    (first,) = torch.autograd.grad(module(leaf), leaf, create_graph=True)
    (product,) = torch.autograd.grad((first * direction).sum(), leaf)
    assert_equal(product, grad(lambda v: (grad(plain)(v) * direction).sum())(x))


@pytest.mark.parametrize("name", ["linear", *NONLINEAR])
def test_the_surrogate_can_be_differentiated_twice(name):
    f = NONLINEAR.get(name, lambda loss: -2 * loss)
    mean, log_std, *constants = surrogate_inputs()
    module = GaussianSurrogateLoss(CLIP)
    assert_differentiable_twice(
        lambda v: f(module(v, log_std, *constants)[0]),
        lambda v: f(plain_surrogate(v, log_std, *constants)),
        mean,
    )
    assert_differentiable_twice(
        lambda v: f(module(mean, v, *constants)[0]),
        lambda v: f(plain_surrogate(mean, v, *constants)),
        log_std,
    )


@pytest.mark.parametrize("name", ["linear", *NONLINEAR])
@pytest.mark.parametrize("clip_coef", [None, CLIP])
def test_the_value_loss_can_be_differentiated_twice(name, clip_coef):
    f = NONLINEAR.get(name, lambda loss: -2 * loss)
    values, *constants = value_inputs()
    assert_differentiable_twice(
        lambda v: f(ValueLoss(clip_coef)(v, *constants)),
        lambda v: f(plain_value_loss(v, *constants, clip_coef)),
        values,
    )


@pytest.mark.parametrize("clip_coef", [0, -0.2, float("nan")])
@pytest.mark.parametrize("loss", [GaussianSurrogateLoss, ValueLoss])
def test_clip_coef_must_be_positive(loss, clip_coef):
    with pytest.raises(ValueError, match=f"clip_coef must be above 0, not {clip_coef}"):
        loss(clip_coef)


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (0, (21,), r"mean must have shape \(N, K\), not \(21,\)"),
        (1, (21, 1), r"log_std .* \(21, 3\), \(1, 3\) or \(3,\) .* not \(21, 1\)"),
        (1, (), r"log_std .* not \(\)"),
        (2, (1, 3), r"actions must have shape \(21, 3\) to go with mean, not \(1, 3\)"),
        (3, (21, 1), r"old_logprobs must have shape \(21,\) to go with mean, not \(21, 1\)"),
        (4, (1,), r"advantages must have shape \(21,\) to go with mean, not \(1,\)"),
    ],
)
def test_surrogate_shapes_that_would_broadcast_are_refused(index, shape, message):
    inputs = list(surrogate_inputs())
    inputs[index] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        GaussianSurrogateLoss(CLIP)(*inputs)


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (0, (60, 1), r"values must have shape \(N,\), not \(60, 1\)"),
        (1, (60, 1), r"returns must have shape \(60,\) to go with values, not \(60, 1\)"),
        (2, (1,), r"old_values must have shape \(60,\) to go with values, not \(1,\)"),
    ],
)
def test_value_shapes_that_would_broadcast_are_refused(index, shape, message):
    inputs = list(value_inputs())
    inputs[index] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        ValueLoss(CLIP)(*inputs)


@pytest.mark.parametrize(
    ("module", "make", "index", "name"),
    [
        (GaussianSurrogateLoss(CLIP), surrogate_inputs, 2, "actions"),
        (GaussianSurrogateLoss(CLIP), surrogate_inputs, 3, "old_logprobs"),
        (GaussianSurrogateLoss(CLIP), surrogate_inputs, 4, "advantages"),
        (ValueLoss(), value_inputs, 1, "returns"),
        (ValueLoss(CLIP), value_inputs, 2, "old_values"),
    ],
)
def test_a_constant_that_requires_a_gradient_is_refused(module, make, index, name):
    inputs = list(make())
    inputs[index].requires_grad_()
    with pytest.raises(ValueError, match=f"^{name} of shape .* requires a gradient"):
        module(*inputs)


def test_the_gradient_of_the_modules_passes_gradcheck():
    mean, log_std, *constants = surrogate_inputs()
    x = mean.requires_grad_(), log_std.requires_grad_()
    assert gradcheck(lambda *x: GaussianSurrogateLoss(CLIP)(*x, *constants)[0], x)
