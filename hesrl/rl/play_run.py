"""Watch the policy of a run: in a window, or as a video."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from hesrl.envs.episode_player import EpisodePlayer
from hesrl.envs.video_recorder import VideoRecorder
from hesrl.errors import UserError
from hesrl.rl.saved_policy import PlayingSettings, SavedPolicy, saved_policy
from hesrl.runs.interrupts import HaltRequest
from hesrl.runs.summary import counted


@dataclass
class Args(PlayingSettings):
    """Show episodes of the policy of a run's last checkpoint, in a window or as a video."""

    episodes: int = 3
    """episodes to play, with the most probable actions and frozen statistics"""
    video: Path | None = None
    """file for a video, such as run.mp4; None: a window"""


def main(args: Args) -> int:
    """Play, and print return and length of each episode.

    Raises:
        UserError: As `saved_policy` does; or there is no screen, or no video can be made.
        FloatingPointError: As `EpisodePlayer.play` does.
        EnvironmentFault: As `EpisodePlayer.play` does.
    """
    if args.video is not None and args.video.suffix != ".mp4":
        raise UserError(f"--video {args.video}: must end with .mp4")
    if args.video is None and sys.platform == "linux":
        screens = {"DISPLAY", "WAYLAND_DISPLAY"} & {name for name, on in os.environ.items() if on}
        if not screens:
            raise UserError("there is no screen (DISPLAY): give --video FILE.mp4")
    with saved_policy(args) as policy, HaltRequest(policy.halt):
        if policy.halt is not None:
            raise UserError(f"{policy.env_id} moves an arm, and draws nothing: use hesrl evaluate")
        with contextlib.closing(_player(args, policy)) as player:
            if isinstance(player, VideoRecorder):
                assert args.video is not None
                episodes = player.write(
                    args.video, policy.act, episodes=args.episodes, seed=args.seed
                )
            else:
                episodes = player.play(policy.act, episodes=args.episodes, seed=args.seed)
    for number, episode in enumerate(episodes, start=1):
        steps = counted(episode.episodic_length, "step")
        print(f"episode {number}: return {episode.episodic_return:.1f}, {steps}")
    if args.video is not None:
        print(args.video)
    return 0


def _player(args: Args, policy: SavedPolicy) -> EpisodePlayer:
    settings = {**policy.player_settings, "max_episode_steps": args.max_episode_steps}
    if args.video is not None:
        del settings["env"]
        return VideoRecorder(policy.env_id, policy.observation, option="--video", **settings)
    settings["env_options"] = {**settings["env_options"], "render_mode": "human"}
    return EpisodePlayer(policy.env_id, policy.observation, **settings)
