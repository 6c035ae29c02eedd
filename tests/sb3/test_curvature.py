"""Curvature within Stable-Baselines3's own ``learn()``, recomputed from the minibatch it had."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from hesrl.curvature import take_curvature
from hesrl.optim import AdaHesScale
from tests import reference
from tests.curvature.recursion import Recursion
from tests.sb3.toys import make

CLIP, ENT_COEF, VF_COEF = 0.02, 0.01, 0.5


class Captured(NamedTuple):
    """What one step had: the minibatch, the parameters by name, and their curvature."""

    minibatch: Any
    params: dict[str, Tensor]
    hessians: dict[str, Tensor]


class Recording(RolloutBuffer):
    """Keeps the minibatch that it gave last."""

    def get(self, batch_size: int | None = None) -> Any:
        for minibatch in super().get(batch_size):
            self.last = minibatch
            yield minibatch


def capture(algorithm: Any, actions: str, **settings: Any) -> list[Captured]:
    """Train and return all steps, in double precision."""
    steps = []

    class Capturing(AdaHesScale):
        def step(self, closure: Any = None) -> Any:
            named = dict(model.policy.named_parameters())
            steps.append(
                Captured(
                    model.rollout_buffer.last,
                    {name: p.detach().double() for name, p in named.items()},
                    {name: take_curvature(p).double() for name, p in named.items()},
                )
            )
            return super().step(closure)

    model = make(
        algorithm,
        "MlpPolicy",
        actions,
        learning_rate=0.003,
        ent_coef=ENT_COEF,
        vf_coef=VF_COEF,
        rollout_buffer_class=Recording,
        policy_kwargs={"optimizer_class": Capturing, "ortho_init": False},
        **settings,
    )
    model.learn(96)
    return steps


def network(step: Any, p: dict[str, Tensor], x: Tensor, extractor: str, head: str) -> Tensor:
    """Two dense layers with tanh, and a dense head."""
    for layer in ("0", "2"):
        name = f"mlp_extractor.{extractor}.{layer}"
        x = step(torch.tanh, step(F.linear, x, p[f"{name}.weight"], p[f"{name}.bias"]))
    return step(F.linear, x, p[f"{head}.weight"], p[f"{head}.bias"])


def log_prob_and_entropy(outputs: Tensor, log_std: Tensor | None, minibatch: Any) -> Any:
    """Log π(a|s) and the entropy, both (N,); outputs are means, or logits without a log σ."""
    if log_std is None:
        log_q = outputs - outputs.logsumexp(1, keepdim=True)
        taken = log_q.gather(1, minibatch.actions.long())[:, 0]
        return taken, -(log_q.exp() * log_q).sum(1)
    u = ((minibatch.actions - outputs) / log_std.exp()).square()
    entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum().expand(len(outputs))
    return (-0.5 * u - log_std - 0.5 * math.log(2 * math.pi)).sum(1), entropy


def loss_of(algorithm: Any, minibatch: Any, clip_range_vf: float | None) -> Any:
    """The loss as a function of means or logits, values and, if there is one, log σ."""

    def loss(outputs: Tensor, values: Tensor, log_std: Tensor | None = None) -> Tensor:
        log_prob, entropy = log_prob_and_entropy(outputs, log_std, minibatch)
        advantages, values = minibatch.advantages.double(), values[:, 0]
        if algorithm is PPO:
            std, mean = torch.std_mean(minibatch.advantages)
            advantages = (minibatch.advantages - mean).double() / (std + 1e-8)
            ratio = (log_prob - minibatch.old_log_prob).exp()
            clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
            gain = torch.minimum(ratio * advantages, clipped * advantages).mean()
        else:
            gain = (log_prob * advantages).mean()
        if clip_range_vf is not None:
            change = (values - minibatch.old_values).clamp(-clip_range_vf, clip_range_vf)
            values = minibatch.old_values + change
        value_loss = (minibatch.returns - values).square().mean()
        return -gain - ENT_COEF * entropy.mean() + VF_COEF * value_loss

    return loss


def recompute(captured: Captured, loss: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """HesScale by its definition for all parameters, and the exact diagonal of the last layers."""
    params = {name: p.clone().requires_grad_() for name, p in captured.params.items()}
    x, recursion = captured.minibatch.observations.double(), Recursion()
    outputs = network(recursion, params, x, "policy_net", "action_net")
    values = network(recursion, params, x, "value_net", "value_net")
    recursion(loss, outputs, values, *([params["log_std"]] if "log_std" in params else []))
    hesscale = dict(zip(params, recursion.curvature(list(params.values())), strict=True))

    last = [name for name in params if name.split(".")[0] in ("action_net", "value_net", "log_std")]

    def of_last_layers(*changed: Tensor) -> Tensor:
        p = {**params, **dict(zip(last, changed, strict=True))}
        run = lambda function, *inputs: function(*inputs)  # noqa: E731
        outputs = network(run, p, x, "policy_net", "action_net")
        values = network(run, p, x, "value_net", "value_net")
        return loss(outputs, values, *([p["log_std"]] if "log_std" in p else []))

    exact = reference.hess_diag(of_last_layers, *(params[name].detach() for name in last))
    return hesscale, dict(zip(last, exact, strict=True))


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, hess in expected.items():
        scale = hess.abs().max().item()
        assert scale > 0, name
        torch.testing.assert_close(
            actual[name], hess, rtol=1e-3, atol=1e-5 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def share_clipped(captured: Captured) -> float:
    """Share of samples whose probability ratio lies outside of the clip range."""
    p, minibatch = captured.params, captured.minibatch
    x = minibatch.observations.double()
    run = lambda function, *inputs: function(*inputs)  # noqa: E731
    outputs = network(run, p, x, "policy_net", "action_net")
    log_prob, _ = log_prob_and_entropy(outputs, p.get("log_std"), minibatch)
    ratio = (log_prob - minibatch.old_log_prob).exp()
    return ((ratio - 1).abs() > CLIP).double().mean().item()


@pytest.mark.parametrize("clip_range_vf", [None, 0.05])
@pytest.mark.parametrize("actions", ["box", "discrete"])
def test_ppo(actions, clip_range_vf):
    settings = {"clip_range": CLIP, "clip_range_vf": clip_range_vf, "n_epochs": 4}
    steps = capture(PPO, actions, **settings)
    first, clipped = steps[0], max(steps, key=lambda s: 0.25 < share_clipped(s) < 0.75)
    assert share_clipped(first) == 0 and 0.25 < share_clipped(clipped) < 0.75
    for captured in (first, clipped):
        hesscale, exact = recompute(captured, loss_of(PPO, captured.minibatch, clip_range_vf))
        assert_close(captured.hessians, hesscale)
        assert_close(captured.hessians, exact)
    assert min(hess.min() for hess in clipped.hessians.values()) < 0


@pytest.mark.parametrize("actions", ["box", "discrete"])
def test_a2c(actions):
    steps = capture(A2C, actions)
    for captured in (steps[0], steps[-1]):
        hesscale, exact = recompute(captured, loss_of(A2C, captured.minibatch, None))
        assert_close(captured.hessians, hesscale)
        assert_close(captured.hessians, exact)


def test_clipping_the_gradient_leaves_the_curvature():
    (small, *_), (large, *_) = (capture(PPO, "box", max_grad_norm=norm) for norm in (1e-6, 1e6))
    assert all((large.hessians[name] == h).all() for name, h in small.hessians.items())
