"""Evaluate the policy of a run: in its environment, or in another one of the same spaces."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from statistics import fmean, pstdev

from hesrl.envs.episode_player import EpisodePlayer
from hesrl.envs.real_time import confirm_motion
from hesrl.rl.saved_policy import PlayingSettings, saved_policy
from hesrl.runs.interrupts import HaltRequest
from hesrl.runs.summary import counted


@dataclass
class Args(PlayingSettings):
    """Play episodes with the policy of a run's last checkpoint, which stays as it is."""

    yes: bool = False
    """whether a robot may move without being asked for at the terminal, for scripts"""


def main(args: Args) -> int:
    """Play, and print the return of each episode, their mean and standard deviation.

    Raises:
        UserError: As `saved_policy` does.
        FloatingPointError: As `EpisodePlayer.play` does.
        EnvironmentFault: As `EpisodePlayer.play` does.
    """
    with saved_policy(args) as policy, HaltRequest(policy.halt):
        if (env := policy.player_settings["env"]) is not None:
            confirm_motion(env, yes=args.yes)
        player = EpisodePlayer(
            policy.env_id,
            policy.observation,
            max_episode_steps=args.max_episode_steps,
            **policy.player_settings,
        )
        with contextlib.closing(player):
            episodes = player.play(policy.act, episodes=args.episodes, seed=args.seed)
    returns = [episode.episodic_return for episode in episodes]
    print("returns:", " ".join(f"{value:.1f}" for value in returns))
    print(
        f"{policy.env_id}, policy of step {policy.global_step:,}: mean return of "
        f"{counted(len(returns), 'episode')} {fmean(returns):.1f}, standard deviation "
        f"{pstdev(returns):.1f}"
    )
    return 0
