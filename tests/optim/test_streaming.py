"""Streaming steps: the published equations, traces over episodes, and what η promises."""

import functools
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from hesrl.curvature import give_curvature
from hesrl.optim import IntentionalKL, IntentionalPolicy, IntentionalValue, ObGD
from tests.optim.streaming_reference import Reference

FORMS = {"value": IntentionalValue, "policy": IntentionalPolicy, "kl": IntentionalKL, "obgd": ObGD}
INTENTIONAL = [IntentionalValue, IntentionalPolicy, IntentionalKL]
EACH = pytest.mark.parametrize("optimizer_class", FORMS.values(), ids=lambda cls: cls.__name__)


@functools.cache
def features(step):
    """Two layers' worth of gradients, of very different size, and seldom an entry of zero."""
    generator = torch.Generator().manual_seed(step)
    x, y = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (4, 3))
    return [(1e-2 * x * (x > -1)).view(2, 2), 3.0 * y]


def output(thetas, step):
    pairs = zip(thetas, features(step), strict=True)
    return sum((theta.detach() * x).sum().item() for theta, x in pairs)


def td_error(thetas, step):
    """δ of a reward that is now and then a hundred times as large."""
    reward = math.sin(step) * (100.0 if step % 211 == 210 else 1.0)
    return reward + 0.99 * output(thetas, step + 1) - output(thetas, step)


def start(dtype):
    torch.manual_seed(0)
    return [torch.randn(2, 2).to(dtype), torch.randn(3).to(dtype)]


@functools.cache
def published(form):
    """Return δ of a thousand steps of the reference, and where these end."""
    reference, deltas = Reference([p.double() for p in start(torch.float32)], form, eta=0.1), []
    for step in range(1000):
        deltas.append(td_error(reference.thetas, step))
        reference.step([-g for g in features(step)], deltas[-1], step % 73 == 72)
    return deltas, reference.thetas


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_thousand_steps_are_those_of_the_published_equations(form, capturable, dtype, tolerance):
    """A linear value function, that of the reference, over episodes of 73 steps."""
    params = [nn.Parameter(theta) for theta in start(dtype)]
    deltas, expected = published(form)
    eta = {} if form == "obgd" else {"eta": 0.1}
    optimizer = FORMS[form](params, capturable=capturable, **eta)
    for step, delta in enumerate(deltas):
        reset = step % 73 == 72
        for p, g in zip(params, features(step), strict=True):
            p.grad = -g.to(dtype)
        if capturable:
            optimizer.step(torch.tensor(delta, dtype=torch.float64), torch.tensor(reset))
        else:
            optimizer.step(delta, reset)
        assert all((optimizer.state[p]["eligibility_trace"] == 0).all() == reset for p in params)
    ends = [p.detach().double() for p in params]
    torch.testing.assert_close(ends, expected, rtol=tolerance, atol=tolerance)
    assert not torch.allclose(params[1], start(dtype)[1], rtol=1e-2)


@pytest.mark.parametrize("source", ["gradient", "hesscale_gn"])
@pytest.mark.parametrize(
    "settings", [{}, {"power": 1.0, "damping": 0.1}, {"power": 0.0}, {"power": 0.25}], ids=str
)
@pytest.mark.parametrize("form", ["value", "policy", "kl"])
def test_each_source_goes_with_each_power_and_scaling(form, settings, source):
    params = [nn.Parameter(theta) for theta in start(torch.float64)]
    settings |= dict(eta=0.3, gamma=0.9, lamda=0.5, beta2=0.9, td_beta=0.95, td_clip=2.0, lr=0.5)
    reference = Reference([p.detach().clone() for p in params], form, **settings)
    optimizer = FORMS[form](params, source=source, **settings)
    for step in range(50):
        grads, samples = features(step), None
        if source != "gradient":
            samples = [g.roll(1) * 2 for g in features(step + 1000)]  # of both signs
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            p.grad = g.clone()
            if samples is not None:
                give_curvature(p, samples[i])
        delta = td_error(params, step)
        optimizer.step(delta, step == 30)
        reference.step(grads, delta, step == 30, samples)
    torch.testing.assert_close([p.detach() for p in params], reference.thetas, rtol=1e-10, atol=0)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def test_one_update_of_a_network_is_that_of_its_own_derivatives():
    """Traces of three transitions, gradients by torch.func, curvature by Jacobians."""
    model, names = network(), [name for name, _ in network().named_parameters()]
    optimizer = IntentionalValue(model.parameters(), source="hesscale_gn", power=1.0, damping=0.1)
    thetas = {name: p.detach().clone() for name, p in model.named_parameters()}
    reference = Reference(list(thetas.values()), "value", eta=0.5, power=1.0, damping=0.1)

    def value(params, x):
        return torch.func.functional_call(model, params, (x,)).squeeze()

    for step, delta in enumerate((0.7, -1.5, 0.2)):
        x = torch.linspace(-1, 1, 3, dtype=torch.float64) + step
        slopes = torch.func.grad(value)({k: v.clone() for k, v in thetas.items()}, x)
        v = model(x)
        optimizer.zero_grad()
        # The gradient of -v, and J² for curvature.
        (0.5 * (v - v.detach() - 1).square()).sum().backward()
        optimizer.step(delta)
        grads = [-slopes[name] for name in names]
        reference.step(grads, delta, samples=[g * g for g in grads])
    moved = [p.detach() for p in model.parameters()]
    torch.testing.assert_close(moved, reference.thetas, rtol=1e-11, atol=1e-13)


def test_the_value_moves_by_eta_of_the_td_error():
    """Without a trace, and where Σ g²/d is what it always was, Cauchy and Schwarz is exact."""
    weight, x = nn.Parameter(torch.zeros(3).double()), torch.tensor([1.0, -2.0, 0.5]).double()
    optimizer = IntentionalValue([weight], eta=0.25, lamda=0.0)
    for delta in (2.0, -8.0, 0.5):
        before = (weight @ x).item()
        optimizer.zero_grad()
        (-(weight @ x)).backward()
        optimizer.step(delta)
        assert (weight @ x).item() - before == pytest.approx(0.25 * delta, rel=1e-6)


def test_the_log_probability_moves_by_eta_where_the_td_error_is_of_mean_size():
    logits = nn.Parameter(torch.zeros(5).double())
    optimizer = IntentionalPolicy([logits], eta=1e-3, lamda=0.0)
    for action in (2, 2, 2):
        before = logits.log_softmax(0)[action].item()
        optimizer.zero_grad()
        (-logits.log_softmax(0)[action]).backward()
        optimizer.step(7.0)
        change = logits.log_softmax(0)[action].item() - before
        assert change == pytest.approx(1e-3, rel=5e-3)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_half_the_square_of_eta_bounds_the_quadratic_divergence(power):
    """½ Σ ν̂ u² is that, at most; with a TD error below its mean it is less, as the square."""
    params = [nn.Parameter(theta) for theta in start(torch.float64)]
    optimizer = IntentionalKL(params, eta=0.02, power=power)
    found = []
    for step, delta in enumerate((1.0, -1.0, 1.0, 50.0, -0.1)):
        before = [p.detach().clone() for p in params]
        for p, g in zip(params, features(step), strict=True):
            p.grad = g
        optimizer.step(delta)
        total = 0.0
        for p, b in zip(params, before, strict=True):
            fisher = optimizer.state[p]["exp_fisher"] / (1 - 0.999 ** (step + 1))
            total += 0.5 * (fisher * (p.detach() - b) ** 2).sum().item()
        found.append(total)
    assert found[:4] == pytest.approx([0.5 * 0.02**2] * 4, rel=1e-9)
    assert found[4] < 1e-3 * found[3]


def test_the_sum_runs_over_a_group():
    """Two groups are two networks; one optimizer of both is two of one each."""
    params, others = start(torch.float64), start(torch.float64)
    params, others = ([nn.Parameter(p) for p in ps] for ps in (params, others))
    both = IntentionalPolicy([{"params": params[:1]}, {"params": params[1:], "eta": 0.2}])
    single = [IntentionalPolicy(others[:1]), IntentionalPolicy(others[1:], eta=0.2)]
    for step in range(10):
        for ps in (params, others):
            for p, g in zip(ps, features(step), strict=True):
                p.grad = g.clone()
        both.step(math.cos(step), reset=step == 4)
        for optimizer in single:
            optimizer.step(math.cos(step), reset=step == 4)
    assert all(map(torch.equal, params, others))


@EACH
def test_maximize_and_one_parameter_at_a_time_are_the_same_steps(optimizer_class):
    ends = []
    for options in ({}, {"maximize": True}, {"foreach": False}):
        params = [nn.Parameter(theta) for theta in start(torch.float64)]
        optimizer = optimizer_class(params, weight_decay=0.01, **options)
        for step in range(5):
            for p, g in zip(params, features(step), strict=True):
                p.grad = -g if "maximize" in options else g
            optimizer.step(math.sin(step))
        ends.append(params)
    for other in ends[1:]:
        torch.testing.assert_close(ends[0], other, rtol=1e-13, atol=0)


@pytest.mark.parametrize("optimizer_class", INTENTIONAL)
def test_a_lazy_run_keeps_the_diagonal_between_curvatures(optimizer_class):
    model = network()
    options = dict(eta=1e-3, source="hesscale_gn", curvature_every=3)
    optimizer = optimizer_class(model.parameters(), **options)
    kept = []
    for step in range(7):
        v = model(torch.full((3,), 0.1 + step).double())
        optimizer.zero_grad()
        (0.5 * (v - v.detach() - 1).square()).sum().backward()
        optimizer.step(1.0)
        kept.append(optimizer.state[model[0].weight]["exp_fisher"].clone())
    same = [torch.equal(a, b) for a, b in pairwise(kept)]
    assert same == [True, True, False, True, True, False]
    assert optimizer.state[model[0].weight]["hess_count"] == 3


def test_the_fisher_of_the_page_has_the_gradient_of_the_loss_and_a_curvature_of_its_own():
    """A Gaussian policy, exact in the last layer."""
    page = Path(__file__).parents[2] / "docs" / "optimizers.md"
    (code,) = re.findall(r"```python\n(def with_fisher.*?)```", page.read_text(), flags=re.DOTALL)
    exec(code, names := {"torch": torch})
    torch.manual_seed(0)
    hidden, last = nn.Linear(3, 4).double(), nn.Linear(4, 2).double()
    x, action = torch.ones(1, 3).double(), torch.tensor([[0.3]]).double()

    def policy():
        mean, raw = last(hidden(x).tanh()).chunk(2, 1)
        gaussian = torch.distributions.Normal(mean, nn.functional.softplus(raw))
        return mean, raw, (-gaussian.log_prob(action) - 0.01 * gaussian.entropy()).sum()

    params = [*hidden.parameters(), *last.parameters()]
    expected = torch.autograd.grad(policy()[-1], params)
    optimizer = IntentionalPolicy(params, source="hesscale_gn")
    mean, raw, loss = policy()
    std = nn.functional.softplus(raw).detach()
    fisher = [1 / std.square(), 2 * (raw.detach().sigmoid() / std).square()]
    names["with_fisher"](loss, [mean, raw], fisher).backward()
    torch.testing.assert_close([p.grad for p in params], list(expected), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        last.bias.hess_diag, torch.cat(fisher, 1).squeeze(), rtol=1e-12, atol=0
    )
    assert all((p.hess_diag >= 0).all() for p in params)
    optimizer.step(1.0)
