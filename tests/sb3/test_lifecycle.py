"""Saving, loading, copying and going on with training, as with Adam."""

from __future__ import annotations

import copy
import gc
import io
import json
import subprocess
import sys
import zipfile

import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor

from hesrl.curvature import is_armed
from hesrl.optim import AdaHesScale, Adam, ScaledAdaHesScale
from hesrl.sb3 import MlpPolicy
from tests.sb3.toys import (
    NETWORKS,
    OFF_POLICY_SETTINGS,
    PPO_SETTINGS,
    Toy,
    make,
    same_parameters,
)

SCALED = {"optimizer_class": ScaledAdaHesScale, "optimizer_kwargs": {"delta": 1e-4}}


def assert_same_state(optimizer, other):
    one, two = optimizer.state_dict(), other.state_dict()
    assert one["param_groups"] == two["param_groups"] and one["state"].keys() == two["state"].keys()
    for key, state in one["state"].items():
        assert state.keys() == two["state"][key].keys()
        assert all(torch.equal(value, two["state"][key][name]) for name, value in state.items())


def go_on(model):
    set_random_seed(7)
    model.set_env(model.get_env())  # begins a new episode
    return model.learn(64, reset_num_timesteps=False)


@pytest.mark.parametrize(
    ("algorithm", "policy", "policy_kwargs"),
    [(PPO, "MlpPolicy", {}), (A2C, "MlpPolicy", {}), (PPO, MlpPolicy, SCALED)],
)
def test_loaded_model_goes_on_as_if_never_saved(tmp_path, algorithm, policy, policy_kwargs):
    model = make(algorithm, policy, policy_kwargs=policy_kwargs).learn(64)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=model.get_env())
    assert type(loaded.policy.optimizer) is type(model.policy.optimizer)
    assert_same_state(loaded.policy.optimizer, model.policy.optimizer)
    go_on(model)
    go_on(loaded)
    assert same_parameters(model, loaded)
    assert_same_state(loaded.policy.optimizer, model.policy.optimizer)


@pytest.mark.parametrize(("algorithm", "actions"), [(SAC, "box"), (DQN, "discrete")])
def test_loaded_off_policy_model_has_the_state_of_every_optimizer(tmp_path, algorithm, actions):
    model = make(algorithm, "MlpPolicy", actions, **OFF_POLICY_SETTINGS).learn(40)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=model.get_env())
    owners = ("actor", "critic") if algorithm is SAC else ("q_net",)
    for name in owners:
        one = getattr(model.policy, name) if algorithm is SAC else model.policy
        other = getattr(loaded.policy, name) if algorithm is SAC else loaded.policy
        assert one.optimizer.state_dict()["state"]
        assert_same_state(one.optimizer, other.optimizer)
    loaded.learn(20)


def test_set_parameters_takes_over_a_model_in_place(tmp_path):
    model, other = make(PPO).learn(64), make(PPO)
    model.save(tmp_path / "model")
    other.set_parameters(tmp_path / "model")
    assert same_parameters(model, other)
    assert_same_state(model.policy.optimizer, other.policy.optimizer)
    assert all(is_armed(param) for param in other.policy.parameters())


def test_state_of_another_optimizer_is_refused():
    model = make(PPO).learn(32)
    settings = {**PPO_SETTINGS, "policy_kwargs": NETWORKS["MlpPolicy"]}
    adam = PPO("MlpPolicy", Toy(), device="cpu", **settings)
    parameters = adam.learn(32).get_parameters()
    with pytest.raises(ValueError, match="cannot load the state of another optimizer"):
        model.set_parameters(parameters)


def test_saved_files_hold_plain_tensors_only(tmp_path):
    model = make(PPO).learn(32)
    model.save(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        for name in ("policy.pth", "policy.optimizer.pth"):
            state = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            assert not any(is_armed(value) for value in state.values() if isinstance(value, Tensor))


def test_copied_model_learns_by_itself():
    model = make(PPO).learn(32)
    model.predict(model.get_env().observation_space.low)  # forgets the distribution of the update
    duplicate = copy.deepcopy(model)
    assert same_parameters(model, duplicate)
    duplicate.learn(32)
    assert not same_parameters(model, duplicate)
    assert all(is_armed(param) for param in duplicate.policy.parameters())


def test_saved_policy_is_armed_again():
    model, file = make(PPO).learn(32), io.BytesIO()
    torch.save(model.policy, file)
    file.seek(0)
    policy = torch.load(file, weights_only=False)
    assert type(policy.optimizer) is AdaHesScale
    assert_same_state(policy.optimizer, model.policy.optimizer)
    assert all(is_armed(param) for param in policy.parameters())


def test_policy_with_groups_is_built_again_from_its_own_file(tmp_path):
    model = make(PPO, MlpPolicy, policy_kwargs=SCALED).learn(32)
    model.policy.save(tmp_path / "policy.pt")
    loaded = MlpPolicy.load(tmp_path / "policy.pt")
    assert [group["name"] for group in loaded.optimizer.param_groups] == ["actor", "critic"]
    pairs = zip(loaded.parameters(), model.policy.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_normalization_evaluation_and_checkpoints(tmp_path):
    training, evaluation = (
        VecNormalize(DummyVecEnv([lambda: Monitor(Toy())] * 2), training=training)
        for training in (True, False)
    )
    settings = {"policy_kwargs": {"optimizer_class": AdaHesScale}, "device": "cpu"}
    model = PPO("MlpPolicy", training, **PPO_SETTINGS, **settings)
    callbacks = [
        EvalCallback(evaluation, eval_freq=16, verbose=0, best_model_save_path=str(tmp_path)),
        CheckpointCallback(32, str(tmp_path), save_vecnormalize=True),
    ]
    model.learn(128, callbacks)
    best = PPO.load(tmp_path / "best_model")
    assert best.predict(training.reset())[0].shape == (2, 2)
    assert PPO.load(tmp_path / "rl_model_64_steps", env=training).learn(64).num_timesteps == 64


def test_schedule_sets_the_step_size_of_every_group():
    settings = {"learning_rate": lambda remaining: 0.5 + remaining, "policy_kwargs": SCALED}
    model = make(PPO, MlpPolicy, **settings)
    assert [group["lr"] for group in model.policy.optimizer.param_groups] == [1.5, 1.5]
    model.learn(64)  # the last update comes when no step remains
    assert [group["lr"] for group in model.policy.optimizer.param_groups] == [0.5, 0.5]


def test_adam_of_hesrl_trains_as_that_of_torch():
    policy = {"optimizer_kwargs": {"eps": 1e-5}}
    ours, torchs = (
        make(PPO, policy_kwargs={**policy, "optimizer_class": adam}).learn(64)
        for adam in (Adam, torch.optim.Adam)
    )
    for a, b in zip(ours.policy.parameters(), torchs.policy.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a2c_keeps_the_optimizer_that_is_given():
    assert type(make(A2C).policy.optimizer) is AdaHesScale


def count_tensors():
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_no_tensor_stays_behind(algorithm):
    model = make(algorithm).learn(32)
    before = count_tensors()
    for _ in range(10):
        model.learn(32)
    assert count_tensors() <= before


WITHOUT_HESRL = """
import sys, warnings
sys.modules["hesrl"] = None
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.save_util import load_from_zip_file
"""


def run_without_hesrl(script):
    script = WITHOUT_HESRL + script
    command = [sys.executable, "-W", "error", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_hesrl_the_weights_load_with_adam(tmp_path):
    model = make(PPO).learn(32)
    model.save(tmp_path / "model.zip")
    expected = model.predict(model.get_env().observation_space.low, deterministic=True)[0]
    result = run_without_hesrl(f"""
model = PPO.load({str(tmp_path / "model.zip")!r}, device="cpu",
                 custom_objects={{"policy_kwargs": {{"net_arch": [4, 5]}}}})
model.policy.optimizer = torch.optim.Adam(model.policy.parameters(), lr=3e-4, eps=1e-5)
print(model.predict(model.observation_space.low, deterministic=True)[0].tolist())
""")
    assert result.stderr == ""
    torch.testing.assert_close(torch.tensor(json.loads(result.stdout)), torch.tensor(expected))


def test_without_hesrl_a_policy_with_groups_loads_by_its_weights(tmp_path):
    model = make(PPO, MlpPolicy, policy_kwargs=SCALED).learn(32)
    model.save(tmp_path / "model.zip")
    expected = model.predict(model.get_env().observation_space.low, deterministic=True)[0]
    result = run_without_hesrl(f"""
_, saved, _ = load_from_zip_file({str(tmp_path / "model.zip")!r}, load_data=False)
from gymnasium.spaces import Box
policy = ActorCriticPolicy(Box(-1, 1, (3,)), Box(-1, 1, (2,)), lambda _: 3e-4, net_arch=[4, 5])
policy.load_state_dict(saved["policy"])
print(policy.predict(policy.observation_space.low, deterministic=True)[0].tolist())
""")
    assert result.stderr == ""
    torch.testing.assert_close(torch.tensor(json.loads(result.stdout)), torch.tensor(expected))


def test_without_hesrl_a_plain_load_names_it(tmp_path):
    make(PPO).save(tmp_path / "model.zip")
    result = run_without_hesrl(f"PPO.load({str(tmp_path / 'model.zip')!r})")
    assert "ModuleNotFoundError" in result.stderr and "hesrl" in result.stderr
