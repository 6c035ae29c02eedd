"""Actor and critic as groups of their own, for optimizers within a trust region."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from hesrl.optim import AdaHesScale, ScaledAdaHesScale
from hesrl.sb3 import CnnPolicy, MlpPolicy, MultiInputPolicy, SeparateGroups, param_groups
from tests.sb3.toys import NETWORKS, PPO_SETTINGS, Toy, make

SCALED = {"optimizer_class": ScaledAdaHesScale, "optimizer_kwargs": {"eps": 1e-3, "delta": 1e-6}}


def groups_of(model):
    return {group["name"]: group["params"] for group in model.policy.optimizer.param_groups}


@pytest.mark.parametrize("actions", ["box", "discrete", "multi-discrete", "multi-binary"])
@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_every_parameter_is_in_the_group_of_its_network(algorithm, actions):
    model = make(algorithm, MlpPolicy, actions, policy_kwargs=SCALED).learn(64)
    groups, policy = groups_of(model), model.policy
    assert set(groups) == {"actor", "critic"}
    assert len(groups["actor"] + groups["critic"]) == len(list(policy.parameters()))
    assert any(policy.action_net.weight is p for p in groups["actor"])
    assert any(policy.value_net.weight is p for p in groups["critic"])


@pytest.mark.parametrize(
    ("policy", "name"), [(CnnPolicy, "CnnPolicy"), (MultiInputPolicy, "MultiInputPolicy")]
)
@pytest.mark.parametrize("shared", [True, False])
def test_a_shared_features_extractor_is_the_third_group(policy, name, shared):
    kwargs = {**SCALED, **NETWORKS[name], "share_features_extractor": shared}
    model = PPO(policy, Toy(name), policy_kwargs=kwargs, device="cpu", **PPO_SETTINGS).learn(32)
    assert ("shared" in groups_of(model)) == shared
    assert sum(map(len, groups_of(model).values())) == len(list(model.policy.parameters()))


def test_noise_that_depends_on_the_state_belongs_to_the_actor():
    model = make(PPO, MlpPolicy, use_sde=True, policy_kwargs=SCALED).learn(32)
    assert any(model.policy.log_std is p for p in groups_of(model)["actor"])


def test_each_group_keeps_within_its_trust_region():
    excess = []

    class Watched(ScaledAdaHesScale):
        def step(self, closure=None):
            before = [[p.clone() for p in group["params"]] for group in self.param_groups]
            super().step(closure)
            for group, old in zip(self.param_groups, before, strict=True):
                change = sum(
                    (self.state[p]["exp_hess_sq"].sqrt() * (p - q).square()).sum()
                    for p, q in zip(group["params"], old, strict=True)
                )
                excess.append((0.5 * change / group["delta"]).item())

    policy = {**SCALED, "optimizer_class": Watched}
    make(PPO, MlpPolicy, policy_kwargs=policy, learning_rate=0.1).learn(64)
    assert len(excess) == 16
    for network in (excess[::2], excess[1::2]):
        assert 0.999 < max(network) < 1.001


def test_without_scaling_groups_change_nothing():
    one, other = (make(PPO, policy).learn(64).policy for policy in ("MlpPolicy", MlpPolicy))
    assert type(other.optimizer) is AdaHesScale and len(other.optimizer.param_groups) == 2
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_errors_name_the_parameter():
    model = make(PPO, MlpPolicy, policy_kwargs=SCALED).learn(32)
    del model.policy.optimizer.param_groups[0]["params"][0].grad
    first = model.policy.action_net.weight
    first.grad = torch.ones_like(first)
    with pytest.raises(RuntimeError, match=r"action_net.weight of shape \(2, 5\) has a gradient"):
        model.policy.optimizer.step()


class WithTrunk(SeparateGroups, ActorCriticPolicy):
    """A policy with a layer that no rule of `param_groups` knows."""

    def _build(self, lr_schedule):
        self.trunk = nn.Linear(3, 3)
        super()._build(lr_schedule)


class WithKnownTrunk(WithTrunk):
    def param_groups(self):
        return [{"params": list(self.parameters()), "name": "all"}]


def test_parameter_of_no_network_is_refused():
    with pytest.raises(ValueError, match=r"WithTrunk.trunk.weight is in none of action_net, .*ove"):
        make(PPO, WithTrunk)


def test_policy_can_say_its_groups_itself():
    model = make(PPO, WithKnownTrunk, policy_kwargs=SCALED)
    assert [group["name"] for group in model.policy.optimizer.param_groups] == ["all"]


def test_param_groups_takes_stock_policies():
    policy = make(PPO).policy
    assert [len(group["params"]) for group in param_groups(policy)] == [7, 6]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epsilon": 1e-3}, TypeError, "AdaHesScale has no option 'epsilon'"),
        ({"eps": -1.0}, ValueError, "AdaHesScale: eps must be a number from 0 up, not -1.0"),
        ({"lr": 1.0}, TypeError, "multiple values for keyword argument 'lr'"),
    ],
)
@pytest.mark.parametrize("policy", ["MlpPolicy", MlpPolicy])
def test_bad_options_stop_the_construction(policy, options, error, message):
    with pytest.raises(error, match=message):
        make(PPO, policy, policy_kwargs={"optimizer_kwargs": options})
