"""Evaluations of an agent in training: the same episodes each time, and training as it was."""

import contextlib
import copy
import os
import sys
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import pytest
import torch

from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import UserError
from hesrl.rl.actor_critic import Agent
from hesrl.rl.evaluations import Evaluations
from hesrl.rl.numpy_forward import Acting
from hesrl.rl.rollout import rollout
from hesrl.runs import RunDirectory, rng_state
from tests.rl.comparison import assert_same

IMAGES = "tests.rl.tiny_images:TinyImages-v0"


@dataclass
class Args:
    env_id: str = "Hopper-v5"
    env_options: tuple[str, ...] = ()
    robot_host: str | None = None
    num_envs: int = 2
    seed: int = 3
    eval_episodes: int = 3
    capture_video: bool = False


@pytest.fixture
def run(tmp_path):
    names = {"env_id": "Hopper-v5", "agent": "ppo", "optimizer": "adam", "seed": 3, "config": {}}
    with RunDirectory.create(tmp_path, **names) as run:
        yield run


@contextlib.contextmanager
def training(args, progress=False):
    """Environments of training that have been played in, an agent, and its evaluations."""
    torch.manual_seed(0)
    envs = NormalizedEnvs(args.env_id, args.num_envs, seed=args.seed, gamma=0.99, progress=progress)
    with contextlib.closing(envs):
        agent = Agent(envs.observation_space, envs.action_space, hidden_sizes=(4,))
        acting = Acting(agent)
        envs.reset()
        rollout(envs, acting, 20, np.random.default_rng(0))
        with Evaluations(args, envs, acting, progress=progress) as evaluations:
            yield envs, agent, evaluations


def test_episodes_are_the_same_each_time_for_the_same_policy(run):
    with training(Args()) as (_, agent, evaluations):
        first = evaluations.play(run, 100)
        assert len({episode.episodic_return for episode in first}) == 3
        assert evaluations.play(run, 200) == first
        with torch.no_grad():
            agent.actor[-1].bias += 1
        assert evaluations.play(run, 300) != first


def test_the_mean_return_is_that_of_these_episodes(run):
    with training(Args()) as (_, _, evaluations):
        returns = [episode.episodic_return for episode in evaluations.play(run, 100)]
        assert evaluations.mean_return(run, 100) == fmean(returns)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "CartPole-v1", IMAGES])
def test_training_is_left_as_it_was(run, env_id):
    with training(Args(env_id=env_id)) as (envs, _, evaluations):
        before = copy.deepcopy((envs.state_dict(), rng_state()))
        evaluations.play(run, 100)
        assert_same((envs.state_dict(), rng_state()), before)


def test_no_seed_of_training_is_played(run):
    with training(Args(eval_episodes=1)) as (envs, _, evaluations):
        seeds = []
        env = evaluations._evaluator.env
        reset = env.reset
        env.reset = lambda *, seed: (seeds.append(seed), reset(seed=seed))[1]
        evaluations.play(run, 100)
        assert seeds == [5] and not set(seeds) & set(envs._seeds)


def test_the_progress_of_the_episode_is_part_of_what_the_agent_sees(run):
    with training(Args(eval_episodes=1), progress=True) as (envs, _, evaluations):
        assert envs.observation_space.shape == (12,)
        assert evaluations.mean_return(run, 100) > 0


def test_a_video_lies_in_the_run_and_changes_nothing(run):
    pytest.importorskip("imageio_ffmpeg", reason="needs hesrl[video]")
    with training(Args(env_id=IMAGES)) as (_, _, evaluations):
        plain = evaluations.play(run, 100)
    assert not (run.path / "videos").exists()
    with training(Args(env_id=IMAGES, capture_video=True)) as (_, _, evaluations):
        assert evaluations.play(run, 100) == plain
    assert os.listdir(run.path / "videos") == ["step-100.mp4"]


def test_a_video_that_cannot_be_made_closes_what_was_open(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    closed = []
    monkeypatch.setattr("hesrl.rl.evaluations.Evaluator.close", lambda self: closed.append(self))
    missing = pytest.raises(UserError, match=r"pip install 'hesrl\[video\]'")
    with missing, training(Args(capture_video=True)):
        pass
    assert len(closed) == 1
