"""The curvature in Stable-Baselines3's log."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.logger import KVWriter, Logger

from hesrl.curvature import take_curvature
from hesrl.optim import AdaHesScale, Adam, ScaledAdaHesScale
from hesrl.sb3 import CurvatureCallback, MlpPolicy
from tests.sb3.toys import OFF_POLICY_SETTINGS, make

NAMES = ("norm", "negative_share", "largest")


class Rows(KVWriter):
    """Keeps what is logged."""

    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append(dict(key_values))

    def close(self):
        pass


def logged(model, callback, steps):
    writer = Rows()
    model.set_logger(Logger(None, [writer]))
    model.learn(steps, callback, log_interval=1)
    return writer.rows


def test_values_are_those_of_the_first_step_of_an_update():
    norms = []

    class Watched(AdaHesScale):
        def step(self, closure=None):
            hessians = [take_curvature(p) for p in self.param_groups[0]["params"]]
            norms.append(torch.cat([h.flatten() for h in hessians]).norm().item())
            super().step(closure)

    model = make(PPO, policy_kwargs={"optimizer_class": Watched})
    rows = logged(model, CurvatureCallback(), 96)
    assert [row["curvature/norm"] for row in rows[1:]] == [norms[0], norms[4]]
    assert "curvature/norm" not in rows[0]  # no update yet
    assert 0 < rows[1]["curvature/negative_share"] < 1
    assert 0 < rows[1]["curvature/largest"] <= rows[1]["curvature/norm"]


@pytest.mark.parametrize(
    ("algorithm", "policy", "actions", "settings"),
    [
        (PPO, MlpPolicy, "box", {"policy_kwargs": {"optimizer_class": ScaledAdaHesScale}}),
        (SAC, "MlpPolicy", "box", OFF_POLICY_SETTINGS),
    ],
)
def test_actor_and_critic_have_their_own(algorithm, policy, actions, settings):
    rows = logged(make(algorithm, policy, actions, **settings), CurvatureCallback(), 96)
    for network in ("actor", "critic"):
        assert {f"curvature/{network}_{name}" for name in NAMES} <= rows[-1].keys()


@pytest.mark.parametrize(("algorithm", "settings"), [(A2C, {}), (DQN, OFF_POLICY_SETTINGS)])
def test_single_optimizer_has_one_of_each(algorithm, settings):
    actions = "discrete"
    rows = logged(make(algorithm, "MlpPolicy", actions, **settings), CurvatureCallback(4), 80)
    found = {key for row in rows for key in row if key.startswith("curvature/")}
    assert found == {f"curvature/{name}" for name in NAMES}


def test_rollouts_between_records_have_none():
    rows = logged(make(PPO), CurvatureCallback(every=2), 160)
    assert ["curvature/norm" in row for row in rows] == [False, True, False, True, False]


def test_lazy_steps_are_passed_over():
    options = {"optimizer_kwargs": {"curvature_every": 3}}
    rows = logged(make(PPO, policy_kwargs=options), CurvatureCallback(), 128)
    assert all("curvature/norm" in row for row in rows[1:])


def test_no_hook_stays_behind():
    model = make(PPO)
    for _ in range(2):
        model.learn(32, CurvatureCallback())
        assert not model.policy.optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("optimizer", [Adam, torch.optim.Adam])
def test_optimizer_without_curvature_is_refused(optimizer):
    model = make(PPO, policy_kwargs={"optimizer_class": optimizer})
    with pytest.raises(ValueError, match=r"only Adam: give policy_kwargs=.*AdaHesScale"):
        model.learn(32, CurvatureCallback())


def test_impossible_interval_is_refused():
    with pytest.raises(ValueError, match="every must be at least 1, not 0"):
        CurvatureCallback(every=0)
