"""Evaluation of an agent during and after training, and videos of it."""

from __future__ import annotations

import contextlib
from statistics import fmean
from typing import Any, Protocol

from hesrl.envs.evaluation import Evaluator
from hesrl.envs.normalized_envs import Episode, NormalizedEnvs
from hesrl.envs.video import VideoRecorder
from hesrl.rl.env_options import EnvSettings, env_options
from hesrl.rl.numpy_forward import Acting
from hesrl.runs import RunDirectory


class Settings(EnvSettings, Protocol):
    """What evaluations need to know of an agent's ``Args``."""

    env_id: str
    num_envs: int
    seed: int
    eval_episodes: int
    capture_video: bool


class Evaluations:
    """Plays the same seeded episodes each time, with the most probable actions.

    In an environment of its own, with the statistics of training as they are; in real time, where
    there is no other, in that of training, when training is over. A context manager, which closes
    the environments.

    Args:
        args: Settings of the agent.
        envs: The environments of training.
        acting: Gives the actions.
        progress: Whether the progress of the episode is appended to the observation.

    Raises:
        UserError: Videos are asked for and cannot be made.
    """

    def __init__(
        self, args: Settings, envs: NormalizedEnvs, acting: Acting, *, progress: bool = False
    ) -> None:
        self._args, self._act = args, acting.act
        # No seed of training's environments, which are seed to seed + num_envs − 1.
        self._seed = args.seed + args.num_envs
        observation, options = envs.observation_normalizer, env_options(args)
        self._evaluator = Evaluator(
            args.env_id,
            observation,
            progress=progress,
            env_options=options,
            env=envs.lend() if envs.real_time else None,
        )
        self._recorder: VideoRecorder | None = None
        if args.capture_video:
            try:
                self._recorder = VideoRecorder(
                    args.env_id, observation, progress=progress, env_options=options
                )
            except BaseException:
                self._evaluator.close()
                raise

    def play(self, run: RunDirectory, global_step: int) -> list[Episode]:
        """Play ``eval_episodes`` episodes, and one more into a video if that is asked for.

        Args:
            run: Gets the video.
            global_step: Environment steps so far.

        Raises:
            UserError: The video cannot be written.
            FloatingPointError: As `Evaluator.play` does.
            EnvironmentFault: As `Evaluator.play` does.
        """
        if self._recorder is not None:
            self._recorder.record(self._act, run.path, step=global_step, seed=self._seed)
        return self._evaluator.play(self._act, episodes=self._args.eval_episodes, seed=self._seed)

    def mean_return(self, run: RunDirectory, global_step: int) -> float:
        """Return the mean return of the episodes that `play` plays."""
        return fmean(episode.episodic_return for episode in self.play(run, global_step))

    def __enter__(self) -> Evaluations:
        """Return the evaluations themselves."""
        return self

    def __exit__(self, *exception: Any) -> None:
        """Close the environments."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._evaluator.close)
            if self._recorder is not None:
                stack.callback(self._recorder.close)
