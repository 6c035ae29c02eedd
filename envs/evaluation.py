"""The evaluations of a training run: the same episodes each time, and videos."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import gymnasium as gym

from hesrl.envs.episode_player import Act, EpisodePlayer
from hesrl.envs.normalize import Observations
from hesrl.envs.steps import Episode
from hesrl.envs.video_recorder import VideoRecorder


class Evaluator:
    """Plays the same episodes of a policy each time, during and after training.

    A context manager, which closes the environments.

    Args:
        act: The policy, with its most probable actions.
        env_id: As `EpisodePlayer` takes it.
        observation: As `EpisodePlayer` takes it.
        episodes: How many to play.
        seed: Seed of the first episode.
        progress: As `EpisodePlayer` takes it.
        env_options: As `EpisodePlayer` takes them.
        env: In real time the environment of training, which may play when training is over.
        video: Whether one more episode is recorded each time.

    Raises:
        UserError: The environment is impossible, or a video is asked for and cannot be made.
    """

    def __init__(
        self,
        act: Act,
        env_id: str,
        observation: Observations,
        *,
        episodes: int,
        seed: int,
        progress: bool = False,
        env_options: Mapping[str, Any] | None = None,
        env: gym.Env[Any, Any] | None = None,
        video: bool = False,
    ) -> None:
        self._act, self._episodes, self._seed = act, episodes, seed
        settings: dict[str, Any] = {"progress": progress, "env_options": env_options}
        with contextlib.ExitStack() as stack:
            self._player = EpisodePlayer(env_id, observation, env=env, **settings)
            stack.callback(self._player.close)
            self._recorder = VideoRecorder(env_id, observation, **settings) if video else None
            if self._recorder is not None:
                stack.callback(self._recorder.close)
            self._stack = stack.pop_all()

    def play(self, run: Path, global_step: int) -> list[Episode]:
        """Play the episodes, and one more into a video if that is asked for.

        Args:
            run: Directory of the run, which gets the video.
            global_step: Environment steps so far.

        Raises:
            UserError: The video cannot be written.
            FloatingPointError: As `EpisodePlayer.play` does.
            EnvironmentFault: As `EpisodePlayer.play` does.
        """
        if self._recorder is not None:
            self._recorder.record(self._act, run, step=global_step, seed=self._seed)
        return self._player.play(self._act, episodes=self._episodes, seed=self._seed)

    def mean_return(self, run: Path, global_step: int) -> float:
        """Return the mean return of the episodes that `play` plays."""
        return fmean(episode.episodic_return for episode in self.play(run, global_step))

    def __enter__(self) -> Evaluator:
        """Return the evaluator itself."""
        return self

    def __exit__(self, *exception: Any) -> None:
        """Close the environments."""
        self._stack.close()
