"""Evaluate the policy of a run: in its environment, or in another one of the same spaces."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import tyro

from hesrl.envs.evaluation import EpisodePlayer
from hesrl.envs.normalize import CLIP
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import UserError
from hesrl.rl.actor_critic import Agent
from hesrl.rl.env_options import env_options
from hesrl.rl.numpy_forward import Acting
from hesrl.rl.threads import limit_threads
from hesrl.runs import RunDirectory, load_checkpoint
from hesrl.runs.summary import counted
from hesrl.settings import require_between, require_positive

AGENTS = ("ppo", "a2c", "stream-ac")
"""Agents whose runs hold a policy that can be played."""

NETWORK_SETTINGS = (
    "hidden_sizes", "activation", "shared_trunk", "variance_network", "layer_norm", "sparse_init",
    "orthogonal_init",
)  # fmt: skip
"""Settings of an agent that are arguments of `hesrl.rl.actor_critic.Agent`, under the same name."""


@dataclass
class Args:
    """Play episodes with the policy of a run's last checkpoint, which stays as it is."""

    run: tyro.conf.Positional[Path]
    """directory of a run of ppo, a2c or stream-ac"""
    env_id: str | None = None
    """Gymnasium id of the environment; None: the environment of the run"""
    env_options: tuple[str, ...] = ()
    """arguments of the environment, such as max_episode_steps=500; none: the arguments of the run,
    if it has the same environment"""
    robot_host: str | None = None
    """address of the robot's controller; None: the address in HESRL_UR5_HOST"""
    episodes: int = 10
    """episodes to play, with the most probable actions and frozen statistics"""
    seed: int = 10_000
    """seed of the first episode, at least 0; the others follow from it"""
    threads: int = 1
    """threads of PyTorch and NumPy"""


def main(args: Args) -> int:
    """Play, and print the return of each episode, their mean and standard deviation.

    Raises:
        UserError: The run has no policy to play, or the environment is impossible.
        FloatingPointError: As `EpisodePlayer.play` does.
        EnvironmentFault: As `EpisodePlayer.play` does.
    """
    require_positive(args, "episodes threads")
    require_between(args, "seed", 0, float("inf"))
    limit_threads(args.threads)
    run = RunDirectory.open(args.run, read_only=True)
    if run.agent not in AGENTS:
        raise UserError(
            f"{run.path} is a run of {run.agent}; those of {', '.join(AGENTS)} can be evaluated"
        )
    if not run.checkpoint.exists():
        raise UserError(f"{run.path} has no checkpoint yet: wait, or train anew")
    settings, state = run.settings, load_checkpoint(run.checkpoint)
    env_id = args.env_id or settings["env_id"]
    given, robot_host = args.env_options, args.robot_host
    if env_id == settings["env_id"]:
        given = given or tuple(settings["env_options"])
        robot_host = robot_host or settings["robot_host"]
    progress, options = settings.get("progress", False), env_options(given, robot_host)
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
        act = _policy(run, env_id, envs, state).act
        player = EpisodePlayer(
            env_id,
            envs.observation_normalizer,
            progress=progress,
            env_options=options,
            env=envs.lend() if envs.real_time else None,
        )
        with contextlib.closing(player):
            episodes = player.play(act, episodes=args.episodes, seed=args.seed)
    returns = [episode.episodic_return for episode in episodes]
    print("returns:", " ".join(f"{value:.1f}" for value in returns))
    print(
        f"{env_id}, policy of step {state['global_step']:,}: mean return of "
        f"{counted(len(returns), 'episode')} {fmean(returns):.1f}, standard deviation "
        f"{pstdev(returns):.1f}"
    )
    return 0


def _policy(run: RunDirectory, env_id: str, envs: NormalizedEnvs, state: dict[str, Any]) -> Acting:
    """Return the networks of a checkpoint, and put its statistics into the environments."""
    options = {name: run.settings[name] for name in NETWORK_SETTINGS if name in run.settings}
    options["softplus_std"] = run.agent == "stream-ac"
    agent = Agent(envs.observation_space, envs.action_space, **options)
    expected = {name: tuple(tensor.shape) for name, tensor in agent.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state["agent"].items()}
    if expected != found:
        raise UserError(
            f"{env_id}: observations or actions are others than those of "
            f"{run.settings['env_id']}, in which {run.path} was trained"
        )
    agent.load_state_dict(state["agent"])
    statistics = state["envs"]["observation_statistics"]
    envs.observation_normalizer.load_state_dict(statistics)
    return Acting(agent)
