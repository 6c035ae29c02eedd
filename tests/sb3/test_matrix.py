"""Every algorithm with every policy and action space trains, each parameter with curvature."""

from __future__ import annotations

from typing import Any

import pytest
import stable_baselines3 as sb3
from torch import nn

from hesrl import optim
from hesrl.curvature import MissingRuleError
from tests.sb3.toys import (
    ACTIONS,
    NETWORKS,
    OFF_POLICY_SETTINGS,
    Checked,
    assert_every_step_had_curvature,
    make,
)

CHECKED = {"optimizer_class": Checked}


def train(algorithm: Any, *args: str, steps: int, **settings: Any) -> Any:
    settings["policy_kwargs"] = {**CHECKED, **settings.get("policy_kwargs", {})}
    model = make(algorithm, *args, **settings).learn(steps)
    assert_every_step_had_curvature(model)
    return model


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("policy", NETWORKS)
@pytest.mark.parametrize("algorithm", [sb3.PPO, sb3.A2C])
def test_on_policy(algorithm, policy, actions):
    train(algorithm, policy, actions, steps=64, ent_coef=0.01)


@pytest.mark.parametrize("policy", NETWORKS)
@pytest.mark.parametrize(
    ("algorithm", "actions"),
    [(sb3.SAC, "box"), (sb3.TD3, "box"), (sb3.DDPG, "box"), (sb3.DQN, "discrete")],
)
def test_off_policy(algorithm, policy, actions):
    train(algorithm, policy, actions, steps=40, **OFF_POLICY_SETTINGS)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.ELU])
@pytest.mark.parametrize("networks", [[6], {"pi": [5], "vf": [4, 3]}, []])
def test_networks(activation, networks):
    policy = {"net_arch": networks, "activation_fn": activation}
    train(sb3.PPO, steps=64, policy_kwargs=policy)


@pytest.mark.parametrize("policy", ["CnnPolicy", "MultiInputPolicy"])
def test_features_of_their_own(policy):
    own = {**NETWORKS[policy], "share_features_extractor": False}
    train(sb3.PPO, policy, steps=64, policy_kwargs=own)


@pytest.mark.parametrize(
    "policy",
    [{}, {"squash_output": True}, {"full_std": False, "use_expln": True}],
)
@pytest.mark.parametrize("algorithm", [sb3.PPO, sb3.A2C])
def test_state_dependent_exploration(algorithm, policy):
    train(algorithm, steps=64, use_sde=True, sde_sample_freq=4, policy_kwargs=policy)


@pytest.mark.parametrize("settings", [{"use_sde": True}, {"ent_coef": 0.1}])
def test_options_of_sac(settings):
    train(sb3.SAC, steps=40, **OFF_POLICY_SETTINGS, **settings)


def test_options_of_ppo():
    settings = {"clip_range_vf": 0.1, "target_kl": 1e-4, "ent_coef": 0.01, "learning_rate": 0.1}
    model = train(sb3.PPO, steps=200, **settings)
    assert len(model.policy.optimizer.checks) < 28  # the limit on KL ended updates early


USABLE = [name for name in optim.known() if optim.get(name).curvature != "ggn_mc"]


@pytest.mark.parametrize("name", USABLE)
@pytest.mark.parametrize(("algorithm", "actions"), [(sb3.PPO, "box"), (sb3.DQN, "discrete")])
def test_every_optimizer(algorithm, actions, name):
    settings = {} if algorithm is sb3.PPO else OFF_POLICY_SETTINGS
    policy = {"optimizer_class": optim.get(name), "optimizer_kwargs": {}}
    model = make(algorithm, "MlpPolicy", actions, policy_kwargs=policy, **settings)
    before = [param.clone() for param in model.policy.parameters()]
    model.learn(40)
    after = list(model.policy.parameters())
    assert all(param.isfinite().all() for param in after)
    assert any((a != b).any() for a, b in zip(after, before, strict=True))


def test_gauss_newton_by_sampling_needs_a_likelihood():
    policy = {"optimizer_class": optim.AdaGGNMC}
    with pytest.raises(ValueError, match="needs the likelihood of the model"):
        make(sb3.PPO, policy_kwargs=policy).learn(32)


class Mantissa(nn.Module):
    """An activation that has no rule."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x.frexp()[0]


def test_operation_without_a_rule_stops_before_any_step():
    model = make(sb3.PPO, policy_kwargs={"net_arch": [4], "activation_fn": Mantissa})
    before = [param.clone() for param in model.policy.parameters()]
    with pytest.raises(MissingRuleError, match=r"FrexpBackward0 .*\(4, 3\).*register_rule"):
        model.learn(32)
    after = list(model.policy.parameters())
    assert all((a == b).all() for a, b in zip(after, before, strict=True))
    assert all(param.grad is None for param in after)
