"""Watch the policy of a run: in a window, or as a video."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hesrl.envs.steps import Episode
from hesrl.envs.video_recorder import VideoRecorder
from hesrl.envs.window import Window
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
    with saved_policy(args) as policy, HaltRequest(policy.halt):
        if policy.halt is not None:
            raise UserError(f"{policy.env_id} moves an arm, and draws nothing: use hesrl evaluate")
        for number, episode in enumerate(_episodes(args, policy), start=1):
            steps = counted(episode.episodic_length, "step")
            print(f"episode {number}: return {episode.episodic_return:.1f}, {steps}", flush=True)
    if args.video is not None:
        print(args.video)
    return 0


def _episodes(args: Args, policy: SavedPolicy) -> Iterator[Episode]:
    settings = {**policy.player_settings, "max_episode_steps": args.max_episode_steps}
    del settings["env"]
    what = policy.env_id, policy.observation
    how = {"episodes": args.episodes, "seed": args.seed}
    if args.video is None:
        with contextlib.closing(Window(*what, **settings)) as window:
            yield from window.show(policy.act, **how)
    else:
        with contextlib.closing(VideoRecorder(*what, option="--video", **settings)) as recorder:
            yield from recorder.write(args.video, policy.act, **how)
