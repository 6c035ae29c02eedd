"""The learner: non-finite numbers, clipping and its state."""

import copy
import math

import pytest
import torch

from hesrl.actor_critic import Agent
from hesrl.learner import Learner


def learner_after_a_step(optimizer: str, scale: float = 1.0, **settings: float) -> Learner:
    torch.manual_seed(0)
    learner = Learner(Agent(3, 2), optimizer, lr=1e-3, **settings)
    obs = torch.randn(4, 3)
    outputs = {
        "mean": torch.empty_like(learner.actor.forward(obs)),
        "log_std": torch.empty(1, 2),
        "values": torch.empty_like(learner.critic.forward(obs)[:, 0]),
    }
    learner.backward(
        **{name: (torch.randn_like(x) * scale, torch.randn_like(x)) for name, x in outputs.items()}
    )
    learner.step(max_grad_norm=math.inf)
    return learner


@pytest.mark.parametrize("optimizer", ["adam", "adahesscale"])
def test_finite_update_passes(optimizer):
    learner_after_a_step(optimizer).check_finite(1.0, 64)


@pytest.mark.parametrize(
    ("optimizer", "state", "message"),
    [
        ("adam", "exp_avg", "the gradient is not finite at step 64"),
        ("adam", "exp_avg_sq", "the squared gradient is not finite at step 64"),
        ("adahesscale", "exp_hess_sq", "the squared curvature is not finite at step 64"),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_number_that_is_not_finite_is_named(optimizer, state, message, value):
    learner = learner_after_a_step(optimizer)
    (moments,) = learner.optimizer.state.values()
    moments[state][7] = value
    with pytest.raises(FloatingPointError, match=message):
        learner.check_finite(1.0, 64)


def test_loss_that_is_not_finite_is_named():
    with pytest.raises(FloatingPointError, match="the loss is not finite at step 64"):
        learner_after_a_step("adam").check_finite(math.nan, 64)


@pytest.mark.parametrize("optimizer", ["adam", "adahesscale"])
def test_state_goes_over_to_a_fresh_learner(optimizer):
    learner = learner_after_a_step(optimizer)
    other = Learner(Agent(3, 2), optimizer, lr=1e-3)
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    obs = torch.randn(1, 3)
    torch.testing.assert_close(other.act(obs.numpy()), learner.act(obs.numpy()), rtol=0, atol=0)
    torch.testing.assert_close(
        torch.from_numpy(other.act(obs.numpy())), other.agent.actor_mean(obs).detach()
    )


def test_curvature_metrics_are_those_of_the_parameters():
    learner = learner_after_a_step("adahesscale")
    hess = torch.cat([p.hess_diag.flatten() for p in learner.agent.parameters()])
    metrics = learner.curvature_metrics()
    assert metrics["curvature/norm"] == pytest.approx(hess.norm().item())
    assert metrics["curvature/negative_share"] == pytest.approx((hess < 0).float().mean().item())
    assert metrics["curvature/largest"] == pytest.approx(hess.abs().max().item())
    assert learner_after_a_step("adam").curvature_metrics() == {}
