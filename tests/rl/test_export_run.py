"""An exported policy acts as the agent, and says so if it does not."""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib.util import find_spec

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from hesrl.agents import a2c, ppo, sb3_a2c, sb3_ppo, stream_ac
from hesrl.envs.mujoco import make_env
from hesrl.envs.spaces import actions_for
from hesrl.errors import UserError
from hesrl.rl import export_run
from hesrl.rl.export_run import Args, main
from hesrl.rl.saved_policy import PlayingSettings, saved_policy
from tests.agents.processes import IMAGES
from tests.rl.test_evaluate_run import toys, train

ONNX = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs hesrl[export]")
RUNS = [
    (ppo, {"env_id": "HalfCheetah-v5", "num_minibatches": 4, "hidden_sizes": (16,)}),
    (ppo, {"env_id": "CartPole-v1", "num_minibatches": 4, "normalize_observations": False}),
    (ppo, {"env_id": IMAGES, "num_minibatches": 4, "shared_trunk": True}),
    (a2c, {"env_id": "Hopper-v5", "progress": True, "variance_network": True}),
    (stream_ac, {"env_id": "Hopper-v5"}),
    (sb3_ppo, {"env_id": "InvertedPendulum-v5", "num_minibatches": 4}),
    (sb3_a2c, {"env_id": "CartPole-v1", "optimizer": "scaled-adahesscale"}),
    (ppo, {**toys("dict", "choices"), "num_minibatches": 4}),
    (ppo, {**toys("images", "square bits"), "num_minibatches": 4, "shared_trunk": True}),
    (a2c, {**toys("pictures", "discrete"), "hidden_sizes": (8,)}),
    (a2c, {**toys("bits", "half bounded"), "normalize_observations": False}),
    (stream_ac, toys("choices", "choices")),
]


def actions_of_the_agent(path, obs):
    """Return the most probable actions, as the environment gets them."""
    with saved_policy(PlayingSettings(path)) as policy:
        actions = policy.act(policy.observation.normalize(obs))
        return np.asarray(actions_for(policy.env_id, policy.spaces[1])(actions))


def observed(path, steps=40):
    """Return what the environment of a run observes."""
    with saved_policy(PlayingSettings(path)) as policy:
        env_id, settings = policy.env_id, policy.player_settings
    progress = settings.get("progress", False)
    env = make_env(env_id, progress=progress, **settings["env_options"])
    seen = [env.reset(seed=3)[0]]
    for _ in range(steps):
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        seen.append(env.reset()[0] if terminated or truncated else obs)
    return np.array(seen)


EACH_RUN = pytest.mark.parametrize("number", range(len(RUNS)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains one of `RUNS` at its first use, and returns its directory."""

    @cache
    def run(number):
        agent, settings = RUNS[number]
        return train(agent, tmp_path_factory.mktemp("runs"), **settings)[0]

    return run


@EACH_RUN
def test_torch_export_is_the_agent_on_what_is_observed(trained, tmp_path, capsys, number):
    path, settings = trained(number), RUNS[number][1]
    folder = tmp_path / "out"
    assert main(Args(run=path, formats=("torch",), out=folder)) == 0
    out = capsys.readouterr().out
    assert "torch: differs from the agent by" in out and "1,000 observations" in out
    assert sorted(file.name for file in folder.iterdir()) == ["policy.json", "policy.pt2"]
    obs = observed(path)
    policy = torch.export.load(folder / "policy.pt2").module()
    found = policy(torch.from_numpy(obs)).numpy(force=True)
    np.testing.assert_allclose(found, actions_of_the_agent(path, obs), atol=1e-5)
    described = json.loads((folder / "policy.json").read_text())
    kinds = {"dict": "Dict('asked': ", "images": "Dict('asked': ", "bits": "MultiBinary(3)"}
    kind = settings.get("env_options", ("",))[0].removeprefix("observations=")
    assert described.get("obs is flattened from", "").startswith(kinds.get(kind, ""))
    assert described["obs"] == {"shape": ["batch", *obs.shape[1:]], "dtype": str(obs.dtype)}


@ONNX
@EACH_RUN
def test_onnx_is_the_agent_on_what_is_observed(trained, tmp_path, number):
    import onnxruntime

    path = trained(number)
    assert main(Args(run=path, formats=("onnx",), out=tmp_path / "out")) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "policy.onnx"))
    obs = observed(path)
    for part in (obs, obs[:1]):
        (found,) = session.run(["action"], {"obs": part})
        np.testing.assert_allclose(found, actions_of_the_agent(path, part), atol=1e-5)


@pytest.mark.parametrize(("agent", "settings"), [RUNS[0], RUNS[1], RUNS[5], RUNS[6]])
def test_a_model_of_stable_baselines3_needs_nothing_of_hesrl(tmp_path, agent, settings):
    path, _ = train(agent, tmp_path, **settings)
    assert main(Args(run=path, formats=("sb3",))) == 0
    folder = path / "export"
    algorithm = {ppo: PPO, sb3_ppo: PPO}.get(agent, A2C)
    model = algorithm.load(folder / "policy.zip", device="cpu")
    assert type(model.policy.optimizer).__module__.startswith(("torch", "stable_baselines3"))
    envs = DummyVecEnv([lambda: gym.make(settings["env_id"])])
    envs = VecNormalize.load(str(folder / "vecnormalize.pkl"), envs)
    obs = observed(path)
    found, _ = model.predict(envs.normalize_obs(obs).astype(np.float32), deterministic=True)
    np.testing.assert_allclose(found, actions_of_the_agent(path, obs), atol=1e-5)


@pytest.mark.parametrize(
    ("number", "reason"),
    [(2, "convolutions before"), (3, "a network for the variance"), (4, "a deviation that dep")],
)
def test_networks_that_stable_baselines3_has_not_are_named(tmp_path, number, reason):
    agent, settings = RUNS[number]
    path, _ = train(agent, tmp_path, **settings)
    with pytest.raises(UserError, match=f"^--formats sb3: .* has {reason}"):
        main(Args(run=path, formats=("sb3",)))
    assert list((path / "export").iterdir()) == []


def test_what_differs_from_the_agent_is_refused(tmp_path, monkeypatch):
    path, _ = train(ppo, tmp_path, env_id="HalfCheetah-v5", num_minibatches=4)
    exported = export_run.exported

    def other(policy):
        module = exported(policy)
        module.mean += 0.1
        return module

    monkeypatch.setattr(export_run, "exported", other)
    with pytest.raises(FloatingPointError, match=r"differs from the agent by .*; no file is left$"):
        main(Args(run=path, formats=("torch",)))
    assert list((path / "export").iterdir()) == []


def test_impossible_settings_are_refused(tmp_path, monkeypatch):
    path, _ = train(ppo, tmp_path / "runs", env_id="CartPole-v1", num_minibatches=4)
    with pytest.raises(UserError, match=r"^--formats pickle: choose from onnx, torch, sb3$"):
        main(Args(run=path, formats=("pickle",)))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^cannot write .*file/x: Not a directory"):
        main(Args(run=path, formats=("torch",), out=tmp_path / "file" / "x"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'hesrl\[export\]', or give --formats torch$"):
        main(Args(run=path, formats=("onnx",)))
