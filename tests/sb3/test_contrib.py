"""The algorithms of sb3-contrib, where it is installed."""

from __future__ import annotations

import pytest
import torch

from hesrl.optim import ScaledAdaHesScale
from hesrl.sb3 import SeparateGroups
from tests.sb3.toys import OFF_POLICY_SETTINGS, Checked, assert_every_step_had_curvature, make

sb3_contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy  # noqa: E402
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy  # noqa: E402

CHECKED = {"optimizer_class": Checked}
SCALED = {"optimizer_class": ScaledAdaHesScale}
LSTM = {"lstm_hidden_size": 6}
without_onednn = pytest.mark.filterwarnings("ignore:TF32 acceleration")  # `flags` sets that as well


@pytest.mark.parametrize(
    ("name", "actions", "settings"),
    [
        ("TQC", "box", OFF_POLICY_SETTINGS),
        ("CrossQ", "box", OFF_POLICY_SETTINGS),
        ("QRDQN", "discrete", OFF_POLICY_SETTINGS),
        ("MaskablePPO", "discrete", {}),
        ("TRPO", "box", {"n_steps": 32, "batch_size": 16}),
    ],
)
def test_every_step_has_curvature(name, actions, settings):
    algorithm = getattr(sb3_contrib, name)
    model = make(algorithm, "MlpPolicy", actions, policy_kwargs=CHECKED, **settings)
    assert_every_step_had_curvature(model.learn(100))


@without_onednn
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("actions", ["box", "discrete"])
def test_lstm_trains(actions, fused):
    kwargs = {**CHECKED, **LSTM}
    model = make(sb3_contrib.RecurrentPPO, "MlpLstmPolicy", actions, policy_kwargs=kwargs)
    with torch.backends.mkldnn.flags(enabled=fused):
        model.learn(64)
    assert_every_step_had_curvature(model)


class GroupedMaskablePolicy(SeparateGroups, MaskableActorCriticPolicy):
    pass


class GroupedRecurrentPolicy(SeparateGroups, RecurrentActorCriticPolicy):
    pass


def test_masked_policy_with_groups():
    policy = GroupedMaskablePolicy
    model = make(sb3_contrib.MaskablePPO, policy, "discrete", policy_kwargs=SCALED).learn(64)
    assert [group["name"] for group in model.policy.optimizer.param_groups] == ["actor", "critic"]


@without_onednn
@pytest.mark.parametrize(
    ("options", "groups"),
    [
        ({}, ["actor", "critic"]),
        ({"enable_critic_lstm": False}, ["actor", "critic"]),
        ({"enable_critic_lstm": False, "shared_lstm": True}, ["actor", "critic", "shared"]),
    ],
)
def test_recurrent_policy_with_groups(options, groups):
    kwargs = {**SCALED, **LSTM, **options}
    model = make(sb3_contrib.RecurrentPPO, GroupedRecurrentPolicy, policy_kwargs=kwargs)
    with torch.backends.mkldnn.flags(enabled=False):
        model.learn(32)
    assert [group["name"] for group in model.policy.optimizer.param_groups] == groups
