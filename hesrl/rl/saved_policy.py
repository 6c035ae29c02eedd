"""The policy of a run's last checkpoint, ready to play."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro

from hesrl.envs.episode_player import MAX_EPISODE_STEPS, Act
from hesrl.envs.normalize import CLIP, Observations
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.envs.spaces import other_spaces
from hesrl.errors import UserError
from hesrl.rl.actor_critic import Agent, network_settings
from hesrl.rl.env_options import env_options
from hesrl.rl.numpy_forward import Acting
from hesrl.rl.threads import limit_threads
from hesrl.runs.checkpoint import load_checkpoint
from hesrl.runs.directory import RunDirectory
from hesrl.settings import MAX_SEED, require_between, require_positive
from hesrl.settings_from_yaml import typed_settings

OWN_AGENTS = ("ppo", "a2c", "stream-ac")
SB3_AGENTS = ("sb3-ppo", "sb3-a2c")
"""Agents whose runs hold a policy that can be played."""


@dataclass
class PlayingSettings:
    """Settings of the commands that play episodes with the policy of a run."""

    run: tyro.conf.Positional[Path]
    """directory of a run of ppo, a2c, stream-ac, sb3-ppo or sb3-a2c"""
    env_id: str | None = None
    """Gymnasium id of the environment; None: the environment of the run"""
    env_options: tuple[str, ...] = ()
    """arguments of the environment, such as max_episode_steps=500; none: the arguments of the run,
    if it has the same environment"""
    robot_host: str | None = None
    """address of the robot's controller; None: the address in HESRL_UR5_HOST"""
    episodes: int = 10
    """episodes to play, with the most probable actions and frozen statistics"""
    max_episode_steps: int = MAX_EPISODE_STEPS
    """steps after which an episode is cut that has not ended"""
    seed: int = 10_000
    """seed of the first episode, at least 0; the others follow from it"""
    threads: int = 1
    """threads of PyTorch and NumPy"""


@dataclass
class SavedPolicy:
    """The policy of a checkpoint, and the environment that it plays in.

    Attributes:
        run: The run.
        env_id: Gymnasium id of the environment.
        act: The most probable action for a normalized observation.
        observation: Normalizes observations, by frozen statistics.
        player_settings: What `hesrl.envs.episode_player.EpisodePlayer` takes besides.
        halt: Brings the environment to rest at once if it is one in real time, else None.
        global_step: Environment steps of training.
        networks: The actor and critic, of hesrl or Stable-Baselines3.
        spaces: Of observations and actions.
    """

    run: RunDirectory
    env_id: str
    act: Act
    observation: Observations
    player_settings: dict[str, Any]
    halt: Callable[[], None] | None
    global_step: int
    networks: Any
    spaces: tuple[gym.Space[Any], gym.Space[Any]]


@contextlib.contextmanager
def saved_policy(args: PlayingSettings) -> Iterator[SavedPolicy]:
    """Load the policy of a run's last checkpoint; the run stays as it is.

    Raises:
        UserError: A setting or the environment is impossible, or the run has no policy to play.
    """
    require_positive(args, "episodes max_episode_steps threads")
    require_between(args, "seed", 0, MAX_SEED)
    limit_threads(args.threads)
    run = RunDirectory.open(args.run, read_only=True)
    if run.agent not in OWN_AGENTS + SB3_AGENTS:
        agents = ", ".join(OWN_AGENTS + SB3_AGENTS)
        raise UserError(f"{run.path} is a run of {run.agent}; those of {agents} can be played")
    if not run.checkpoint.exists():
        raise UserError(f"{run.path} has no checkpoint yet: wait, or train anew")
    args_class = import_module(f"hesrl.agents.{run.agent.replace('-', '_')}").Args
    known = {field.name for field in dataclasses.fields(args_class)}
    # A run of an earlier version may have settings that there are no more.
    typed_settings(
        args_class, {n: v for n, v in run.settings.items() if n in known}, str(run.config)
    )
    settings, state = run.settings, load_checkpoint(run.checkpoint)
    env_id = args.env_id or settings["env_id"]
    given, robot_host = args.env_options, args.robot_host
    if env_id == settings["env_id"]:
        given = given or tuple(settings["env_options"])
        robot_host = robot_host or settings["robot_host"]
    options = env_options(given, robot_host)
    if run.agent in SB3_AGENTS:
        # It takes a second to import, which the others do without.
        from hesrl.sb3.models import load_policy

        with load_policy(run, env_id, options, state) as (act, networks, spaces):
            observation = Observations(np.float32)
            settings = {"env_options": options, "env": None}
            step = state["global_step"]
            yield SavedPolicy(run, env_id, act, observation, settings, None, step, networks, spaces)
        return
    progress = settings.get("progress", False)
    envs = NormalizedEnvs(
        env_id,
        1,
        seed=args.seed,
        gamma=settings["gamma"],
        normalize_observations=settings["normalize_observations"],
        progress=progress,
        clip=settings.get("normalization_clip", CLIP),
        env_options=options,
    )
    with contextlib.closing(envs):
        agent = _agent(run, env_id, envs, state)
        env = envs.lend() if envs.real_time else None
        yield SavedPolicy(
            run,
            env_id,
            Acting(agent).act,
            envs.observation_normalizer,
            {"progress": progress, "env_options": options, "env": env},
            envs.halt,
            state["global_step"],
            agent,
            (envs.observation_space, envs.action_space),
        )


def _agent(run: RunDirectory, env_id: str, envs: NormalizedEnvs, state: dict[str, Any]) -> Agent:
    """Return the networks of a checkpoint, and put its statistics into the environments."""
    options = {**network_settings(run.settings), "softplus_std": run.agent == "stream-ac"}
    agent = Agent(envs.observation_space, envs.action_space, **options)
    expected = {name: tuple(tensor.shape) for name, tensor in agent.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state["agent"].items()}
    if expected != found:
        raise UserError(other_spaces(env_id, run.settings["env_id"], run.path))
    agent.load_state_dict(state["agent"])
    statistics = state["envs"]["observation_statistics"]
    envs.observation_normalizer.load_state_dict(statistics)
    return agent
