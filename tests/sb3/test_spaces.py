"""The spaces of hesrl's own agents in runs of Stable-Baselines3, and recurrent policies."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import fields

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary

from hesrl.agents import a2c, ppo, sb3_a2c, sb3_ppo
from hesrl.envs.mujoco import make_env
from hesrl.envs.spaces import actions_for
from hesrl.errors import UserError
from hesrl.rl import evaluate_run, export_run
from hesrl.rl.saved_policy import PlayingSettings, saved_policy
from hesrl.runs.checkpoint import load_checkpoint
from hesrl.runs.metrics import read_metric
from hesrl.sb3.environments import LARGEST, Seen, plain_actions
from tests.rl.comparison import assert_same
from tests.rl.test_evaluate_run import printed_returns, toys
from tests.rl.toy_spaces import ACTIONS
from tests.sb3.test_training import only_run, run
from tests.test_docs import ROOT

RECURRENT = {"recurrent": True, "lstm_size": 6}


def train(folder, agent, observations, actions, **settings):
    """Train on the environment with such spaces; return the run."""
    settings = {"num_envs": 2, "hidden_sizes": (8,), **toys(observations, actions), **settings}
    assert run(folder, agent, eval_episodes=2, **settings) == 0
    return only_run(folder)


@pytest.mark.parametrize(
    ("agent", "observations", "actions", "settings"),
    [
        ("sb3-ppo", "dict", "choices", {}),
        ("sb3-a2c", "images", "bits", {"optimizer": "scaled-adahesscale"}),
        ("sb3-ppo", "pictures", "half bounded", {}),
        ("sb3-ppo", "choices", "unbounded", {"optimizer": "adam"}),
        ("sb3-a2c", "discrete", "discrete", {}),
        ("sb3-ppo", "bits", "square bits", {"normalize_observations": False}),
        ("sb3-ppo", "dict", "bits", RECURRENT),
        ("sb3-ppo", "images", "choices", {**RECURRENT, "optimizer": "scaled-adahesscale"}),
        ("sb3-ppo", "vector", "unbounded", {**RECURRENT, "optimizer": "adahessian"}),
    ],
)
def test_a_run_learns_is_played_again_and_exported(
    tmp_path, capsys, agent, observations, actions, settings
):
    directory = train(tmp_path, agent, observations, actions, **settings)
    expected = evaluations_of(directory)
    assert evaluate_run.main(evaluate_run.Args(run=directory.path, episodes=2, seed=3)) == 0
    assert printed_returns(capsys)[0] == pytest.approx(expected, abs=0.051)
    export = export_run.Args(run=directory.path, formats=("torch",))
    assert export_run.main(export) == 0
    if "recurrent" in settings:
        return  # tests/sb3/test_recurrent_export.py
    env = make_env(directory.settings["env_id"], observations=observations, actions=actions)
    obs = np.array([env.reset(seed=0)[0], env.step(env.action_space.sample())[0]])
    policy = torch.export.load(directory.path / "export" / "policy.pt2").module()
    found = policy(torch.from_numpy(obs)).numpy(force=True)
    with saved_policy(PlayingSettings(directory.path)) as saved:
        acted = np.asarray(actions_for(saved.env_id, saved.spaces[1])(saved.act(obs)))
    np.testing.assert_allclose(found, acted, atol=1e-5)


def evaluations_of(directory):
    return json.loads(directory.summary.read_text())["evaluation_returns"]


@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
def test_actions_are_of_a_kind_that_stable_baselines3_knows(space):
    convert, plain = plain_actions("Test-v0", space)
    assert type(plain).__mro__[-4:] == type(space).__mro__[-4:]
    if isinstance(space, Box):
        assert plain.is_bounded() and plain.high.max() == np.float32(LARGEST)
        far = np.float32([-1e30, 1e30, 5])
        assert np.array_equal(convert(far), far)
        return
    assert len(plain.shape) < 2 and getattr(plain, "start", np.zeros(1)).sum() == 0
    sampled = MultiBinary(plain.n) if isinstance(plain, MultiBinary) else plain
    sampled.seed(0)
    for _ in range(9):
        assert space.contains(convert(sampled.sample().astype(plain.dtype)))


def test_a_dict_is_cut_into_vectors_and_images_with_their_channels_first():
    env = make_env(toys("", "")["env_id"], observations="images")
    seen = Seen(env.observation_space)
    obs = np.stack([env.reset(seed=1)[0], env.step(np.array([0, -1, 3]))[0]])
    parts = seen(obs)
    assert {key: (x.shape, x.dtype) for key, x in parts.items()} == {
        "above": ((2, 1, 36, 37), np.uint8),
        "asked": ((2, 3), np.float32),
        "beside": ((2, 2, 36, 36), np.uint8),
    }
    assert all(seen.space.contains({k: x[n] for k, x in parts.items()}) for n in (0, 1))
    for pixels, image in zip(obs[:, 3 : 3 + 36 * 37], parts["above"], strict=True):
        assert np.array_equal(pixels.reshape(36, 37), image[0])
    tensors = seen.cut(torch.from_numpy(obs))
    assert all(np.array_equal(tensors[key], parts[key]) for key in parts)
    assert Seen(Box(0, 9, (40, 36, 3), np.uint8)).space == Box(0, 255, (3, 40, 36), np.uint8)
    with pytest.raises(UserError, match=r"^images of \(35, 36, 1\) are too small"):
        Seen(Box(0, 255, (35, 36, 1), np.uint8))


def test_only_vectors_are_normalized_and_their_statistics_are_kept(tmp_path):
    directory = train(tmp_path, "sb3-ppo", "images", "bits")
    statistics = load_checkpoint(directory.checkpoint)["statistics"]
    assert statistics.keys() == {"ret_rms", "obs_rms/asked"}
    assert statistics["obs_rms/asked"]["mean"].shape == (3,)
    with saved_policy(PlayingSettings(directory.path)) as saved:
        found = saved.act._made.envs.obs_rms["asked"]
        assert np.array_equal(found.mean, statistics["obs_rms/asked"]["mean"])


class Remember(gym.Env):
    """What the first observation of an episode said is to be answered at its end."""

    observation_space = Box(-1, 1, (1,), np.float64)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.told = 0, int(self.np_random.integers(2))
        return np.array([2.0 * self.told - 1]), {}

    def step(self, action):
        self.steps += 1
        reward = float(self.steps == 2 and action == self.told)
        return np.zeros(1), reward, self.steps == 2, False, {}


gym.register("hesrl-tests/Remember-v0", entry_point=Remember)


def test_a_recurrent_policy_remembers_within_an_episode_alone(tmp_path):
    """Without a memory half of the answers are right."""
    settings = {
        "env": "Remember", "total_timesteps": 4096, "num_steps": 128, "num_envs": 4,
        "num_minibatches": 4, "update_epochs": 8, "eval_episodes": 40, "learning_rate": 5e-3,
        "normalize_observations": False, "anneal_lr": False,
    }  # fmt: skip
    assert run(tmp_path, **settings, recurrent=True, lstm_size=16) == 0
    directory = only_run(tmp_path)
    assert np.mean(evaluations_of(directory)) > 0.95
    norms = read_metric(directory, "curvature/norm")[1]
    assert len(norms) == 8 and all(norms > 0)
    with saved_policy(PlayingSettings(directory.path)) as saved:
        for told in (-1.0, 1.0, -1.0):
            saved.act.begin_episode()
            saved.act(np.array([[told]]))
            assert saved.act(np.zeros((1, 1))) == (told + 1) / 2


@pytest.mark.parametrize("separate", [False, True])
def test_actor_and_critic_of_a_recurrent_policy_are_groups_of_their_own(tmp_path, separate):
    optimizer = "scaled-adahesscale" if separate else "adahesscale"
    directory = train(tmp_path, "sb3-ppo", "vector", "choices", **RECURRENT, optimizer=optimizer)
    state = load_checkpoint(directory.checkpoint)
    assert len(state["optimizer"]["param_groups"]) == 1 + separate
    assert state["policy"]["lstm_actor.weight_hh_l0"].shape == (24, 6)


def test_a_recurrent_run_can_be_extended(tmp_path):
    directory = train(tmp_path, "sb3-ppo", "dict", "choices", **RECURRENT, total_timesteps=64)
    before = load_checkpoint(directory.checkpoint)
    args = sb3_ppo.Args(resume=directory.path, total_timesteps=128)
    assert sb3_ppo.main(args) == 0
    after = load_checkpoint(directory.checkpoint)
    assert (before["global_step"], after["global_step"]) == (64, 128)
    counts = [state["statistics"]["obs_rms/asked"]["count"] for state in (before, after)]
    assert counts[1] > counts[0] + 60


def test_the_same_seed_gives_the_same_recurrent_run(tmp_path):
    states = []
    for name in ("one", "two"):
        directory = train(tmp_path / name, "sb3-ppo", "dict", "bits", **RECURRENT)
        states.append(load_checkpoint(directory.checkpoint)["policy"])
    assert_same(*states)


def test_without_sb3_contrib_a_recurrent_policy_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(UserError, match=r"^--recurrent needs sb3-contrib: pip install 'hesrl\[con"):
        run(tmp_path, **RECURRENT)
    assert list(tmp_path.iterdir()) == []


def test_weights_start_orthogonal_or_as_pytorch_makes_them(tmp_path):
    grams = []
    for name, orthogonal in (("yes", True), ("no", False)):
        settings = {"orthogonal_init": orthogonal, "learning_rate": 1e-9, "total_timesteps": 32}
        run(tmp_path / name, hidden_sizes=(3,), **settings)
        weight = load_checkpoint(only_run(tmp_path / name).checkpoint)["policy"][
            "mlp_extractor.policy_net.0.weight"
        ]
        grams.append(weight @ weight.T)
    torch.testing.assert_close(grams[0], 2 * torch.eye(3), atol=1e-4, rtol=0)
    assert not torch.allclose(grams[1], 2 * torch.eye(3), atol=0.1)


def test_the_page_names_every_option_that_differs():
    page = (ROOT / "docs" / "sb3.md").read_text()
    text = page[page.index("with these exceptions:") : page.index("Three seeds of")]
    missing, more = text.split("are missing")
    pairs = (ppo, sb3_ppo), (a2c, sb3_a2c)
    names = [[{field.name for field in fields(m.Args)} for m in pair] for pair in pairs]
    for part, expected in (
        (missing, set().union(*(ours - theirs for ours, theirs in names))),
        (more, set().union(*(theirs - ours for ours, theirs in names))),
    ):
        found = {option.replace("-", "_") for option in re.findall(r"`--([a-z0-9-]+)", part)}
        assert found == expected
