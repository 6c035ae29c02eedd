"""No entry moves more than a few times as far as Adam would move it."""

import copy
import math

import pytest
import torch

from hesrl import optim
from hesrl.bench.coverage_examine import seeded, wanted
from hesrl.bench.safety import distances
from hesrl.bench.safety_cases import LOSSES, NETWORKS, build
from hesrl.curvature import give_curvature
from hesrl.optim import AdaHesScale, AdaHessian, ScaledAdaHesScale
from tests.optim.problems import assert_same_parameters, network, train

CASES = list(zip([*NETWORKS] * 2, [*LOSSES, *[*LOSSES][3:], *[*LOSSES][:3]], strict=True))
"""Each network with two of the losses, each loss with two of the networks."""


def farthest_ratio(network, loss, **options):
    """The largest ratio of a parameter's distance from its start to the same with Adam."""

    def farthest(make, **settings):
        case = seeded(lambda: build(network, loss))
        return distances(case, make(wanted(case.model), lr=1e-3, **settings), 30)[1]

    ours, theirs = farthest(AdaHesScale, **options), farthest(torch.optim.Adam)
    return max(a / b if b else a for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("network", "loss"), CASES, ids="-".join)
def test_30_default_steps_stay_near_those_of_adam(network, loss):
    assert farthest_ratio(network, loss) < 10


@pytest.mark.parametrize("loss", ["L1", "hinge", "Wasserstein critic", "MSE", "cross-entropy"])
def test_without_a_bound_they_do_not(loss):
    assert not farthest_ratio("tanh", loss, adam_bound=math.inf) < 10


@pytest.mark.parametrize("cls", [AdaHesScale, AdaHessian])
@pytest.mark.parametrize("options", [{}, {"capturable": True}, {"curvature_every": 4}], ids=str)
def test_where_the_loss_is_linear_it_is_so_many_steps_of_adam(cls, options):
    ours, theirs = (torch.nn.Parameter(torch.zeros(4, dtype=torch.float64)) for _ in range(2))
    optimizer = cls([ours], lr=0.01, betas=(0.8, 0.95), eps=1e-12, adam_bound=2.5, **options)
    adam = torch.optim.Adam([theirs], lr=2.5 * 0.01, betas=(0.8, 0.95), eps=0.0)
    for step in range(20):
        random = torch.Generator().manual_seed(step)
        ours.grad = torch.randn(4, dtype=torch.float64, generator=random)
        theirs.grad = ours.grad.clone()
        if step % options.get("curvature_every", 1) == 0:
            give_curvature(ours, torch.zeros_like(ours))
        optimizer.step()
        adam.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


def test_where_the_curvature_is_large_it_makes_no_difference():
    model, twin = network(), network()
    for net, bound in ((model, 1e9), (twin, math.inf)):
        train(net, AdaHesScale(net.parameters(), lr=1e-2, adam_bound=bound), range(20))
    assert_same_parameters(model, twin, 0)


@pytest.mark.parametrize("cls", [AdaHesScale, ScaledAdaHesScale])
def test_without_a_bound_no_squared_gradient_is_kept(cls):
    model = network()
    optimizer = cls(model.parameters(), adam_bound=math.inf)
    train(model, optimizer, range(2))
    assert all("exp_grad_sq" not in state for state in optimizer.state.values())


def test_a_state_of_before_there_was_a_bound_goes_on_without_one():
    model, other = network(), network()
    optimizer = AdaHesScale(model.parameters(), adam_bound=math.inf)
    train(model, optimizer, range(3))
    other.load_state_dict(model.state_dict())
    saved = copy.deepcopy(optimizer.state_dict())
    del saved["param_groups"][0]["adam_bound"]
    resumed = AdaHesScale(other.parameters())
    resumed.load_state_dict(saved)
    for net, method in ((model, optimizer), (other, resumed)):
        train(net, method, range(3, 6))
    assert_same_parameters(model, other, 0)


def test_a_bound_that_is_switched_on_in_a_run_begins_with_the_next_gradient():
    model = network()
    optimizer = AdaHesScale(model.parameters(), lr=1e-3, adam_bound=math.inf)
    train(model, optimizer, range(3))
    optimizer.param_groups[0]["adam_bound"] = 1e-3
    before = [p.detach().clone() for p in model.parameters()]
    train(model, optimizer, range(3, 4))
    for p, start in zip(model.parameters(), before, strict=True):
        assert 0 < (p - start).abs().max() < 1e-5


@pytest.mark.parametrize("bound", [0, -1.0, math.nan, "3", None])
def test_impossible_bounds_are_refused(bound):
    with pytest.raises(ValueError, match=r"adam_bound must be a number above 0, or math\.inf"):
        AdaHesScale([torch.nn.Parameter(torch.zeros(1))], adam_bound=bound)


def test_adam_has_none():
    with pytest.raises(TypeError, match="Adam has no option 'adam_bound'"):
        optim.Adam([torch.nn.Parameter(torch.zeros(1))], adam_bound=3.0)
