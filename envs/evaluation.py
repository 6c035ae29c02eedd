"""Play whole episodes with a fixed policy and fixed statistics, and record them as videos."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from numpy.typing import NDArray

from hesrl.envs.env_errors import check_numbers, check_shape, malformed, raised
from hesrl.envs.mujoco import make_env
from hesrl.envs.normalize import Observations
from hesrl.envs.normalized_envs import Episode
from hesrl.envs.spaces import actions_for
from hesrl.errors import EnvironmentFault, UserError, one_line
from hesrl.runs.atomic import cannot_write
from hesrl.runs.checkpoint import rng_state, set_rng_state

Act = Callable[[NDArray[Any]], NDArray[Any]]
"""From an observation (1, …) to an action (1, act_dim), or to the number of one (1,)."""

MAX_FPS = 30
"""Pictures per second of video: environments with more steps per second skip some of them."""


class EpisodePlayer:
    """An environment, made once, in which policies play between updates.

    Playing leaves no trace in training: the statistics and the random generators of Python, NumPy
    and torch are afterwards as they were before. There is no state to save either, because episodes
    begin from a seed.

    Args:
        env_id: Gymnasium id.
        observation: Makes of raw observations what the policy sees. Its statistics stay as they
            are.
        progress: Whether the progress of the episode is appended to the observation.
        env_options: Arguments of the environment, as `make_env` takes them.
        env: The environment where there is only one; None makes one.

    Attributes:
        env: The environment.

    Raises:
        UserError: The environment is impossible.
    """

    def __init__(
        self,
        env_id: str,
        observation: Observations,
        *,
        progress: bool = False,
        env_options: Mapping[str, Any] | None = None,
        env: gym.Env[Any, Any] | None = None,
    ) -> None:
        self._env_id, self._observation = env_id, observation
        if env is None:
            generators = rng_state()
            env = make_env(env_id, progress=progress, **(env_options or {}))
            set_rng_state(generators)
        self.env: gym.Env[Any, Any] = env
        self._actions_for_env = actions_for(env_id, self.env.action_space)
        space = self.env.observation_space
        self._any_obs: NDArray[Any] = np.empty(space.shape or (), space.dtype)

    def play(
        self, act: Act, *, episodes: int, seed: int, watch: Callable[[], None] | None = None
    ) -> list[Episode]:
        """Play episodes and return them, with unscaled returns.

        Args:
            act: The policy. Continuous actions are clipped to the environment's bounds.
            episodes: How many to play.
            seed: Seed of the first episode; the others follow from it.
            watch: Called after every reset and step, such as to take a picture.

        Raises:
            FloatingPointError: An action or a number that the environment gave is not finite.
            EnvironmentFault: The environment raised, returned what is no step of its spaces, or a
                fault cut an episode short; the message says when.
        """
        generators = rng_state()
        try:
            return [
                self._episode(act, seed if episode == 0 else None, seed, watch)
                for episode in range(episodes)
            ]
        finally:
            set_rng_state(generators)

    def _episode(
        self, act: Act, reset_seed: int | None, seed: int, watch: Callable[[], None] | None
    ) -> Episode:
        """Play one episode, from a new seed or on from the last one."""
        episodic_return, length, ended = 0.0, 0, False
        try:
            obs, _ = self.env.reset(seed=reset_seed)
        except Exception as error:
            raise raised(self._where(seed, length), error) from error
        check_shape(self._where(seed, length), obs, self._any_obs)
        check_numbers(self._where(seed, length), np.asarray(obs), 0.0)
        if watch is not None:
            watch()
        while not ended:
            action = self._actions_for_env(act(self._observation.normalize(obs[None])))[0]
            length += 1
            try:
                returned = self.env.step(action)
            except Exception as error:
                raise raised(self._where(seed, length), error) from error
            try:
                obs, reward, terminated, truncated, info = returned
                episodic_return += float(reward)
                fault = info.get("fault")
            except (TypeError, ValueError, AttributeError) as error:
                raise malformed(self._where(seed, length), returned, self._any_obs) from error
            if fault is not None:  # what is left of the episode is no measure of the policy
                raise EnvironmentFault(f"{self._where(seed, length)} {fault}")
            check_shape(self._where(seed, length), obs, self._any_obs)
            check_numbers(self._where(seed, length), np.asarray(obs), float(reward))
            if watch is not None:
                watch()
            ended = terminated or truncated
        return Episode(0, episodic_return, length)

    def _where(self, seed: int, length: int) -> str:
        when = f"step {length} of its episode" if length else "reset"
        return f"{self._env_id}, evaluation (seed {seed}), {when}:"

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


class VideoRecorder(EpisodePlayer):
    """An environment that is drawn while a policy plays.

    On Linux, MuJoCo draws by EGL, which needs no screen, unless ``MUJOCO_GL`` says otherwise.
    Without a graphics card one picture takes some 50 ms.

    The arguments are those of `EpisodePlayer`.

    Raises:
        UserError: The extra ``video`` is not installed, or the environment cannot be drawn.
    """

    def __init__(
        self,
        env_id: str,
        observation: Observations,
        *,
        progress: bool = False,
        env_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._ffmpeg = _find_ffmpeg()
        if sys.platform == "linux":
            os.environ.setdefault("MUJOCO_GL", "egl")
        rendering = {"render_mode": "rgb_array"}
        super().__init__(
            env_id, observation, progress=progress, env_options={**(env_options or {}), **rendering}
        )
        generators = rng_state()
        try:
            self._try_to_draw(env_id)
        except UserError:
            self.close()
            raise
        set_rng_state(generators)

    def _try_to_draw(self, env_id: str) -> None:
        """Draw one picture, so that what is missing shows before training."""
        env = self.env
        if "rgb_array" not in env.metadata.get("render_modes", []):
            raise UserError(f"--capture-video: environment {env_id} cannot be drawn (rgb_array)")
        try:
            if isinstance(env.unwrapped, MujocoEnv) and os.environ.get("MUJOCO_GL") == "egl":
                from mujoco.egl import GLContext  # type: ignore[import-untyped]

                GLContext(8, 8).free()
            env.reset(seed=0)
            height, width, _ = self._draw().shape
        # Whatever OpenGL, its libraries and MuJoCo raise where one of them is missing.
        except Exception as error:
            raise UserError(
                f"--capture-video: cannot draw {env_id}: {one_line(error)}; install EGL (Debian, "
                "Ubuntu: apt install libegl1), set MUJOCO_GL, or leave the option out"
            ) from error
        self._size = f"{width}x{height}"
        steps_per_second = env.metadata.get("render_fps", MAX_FPS)
        self._stride = max(1, round(steps_per_second / MAX_FPS))
        self._fps = steps_per_second / self._stride

    def _draw(self) -> NDArray[np.uint8]:
        """Return a picture (H, W, 3)."""
        return np.asarray(self.env.render(), dtype=np.uint8)

    def record(self, act: Act, run: Path, *, step: int, seed: int) -> Path:
        """Play one episode and write it to ``<run>/videos/step-<step>.mp4``, which is returned.

        Args:
            act: The policy.
            run: Directory of the run.
            step: Environment steps so far.
            seed: Seed of the episode.

        Raises:
            UserError: The video cannot be written; none is left then.
            FloatingPointError: As `EpisodePlayer.play` does.
            EnvironmentFault: As `EpisodePlayer.play` does.
        """
        path = run / "videos" / f"step-{step}.mp4"
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(exist_ok=True)
            try:
                with self._encode_to(temporary) as ffmpeg:
                    self._play_into(ffmpeg, act, seed)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error
        return path

    def _encode_to(self, path: Path) -> subprocess.Popen[bytes]:
        source = f"-f rawvideo -pix_fmt rgb24 -s {self._size} -r {self._fps} -i -"
        # Players want H.264 with colours at half the resolution, hence even sizes.
        target = "-an -c:v libx264 -pix_fmt yuv420p -vf pad=ceil(iw/2)*2:ceil(ih/2)*2 -f mp4"
        return subprocess.Popen(
            [self._ffmpeg, "-v", "error", "-y", *source.split(), *target.split(), str(path)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C stops training after an update, not the video.
        )

    def _play_into(self, ffmpeg: subprocess.Popen[bytes], act: Act, seed: int) -> None:
        """Play an episode into the encoder.

        Raises:
            OSError: The encoder failed; in its own words.
        """
        assert ffmpeg.stdin is not None
        stdin, shown = ffmpeg.stdin, 0

        def watch() -> None:
            nonlocal shown
            if shown % self._stride == 0:
                stdin.write(self._draw().tobytes())
            shown += 1

        broken = None
        try:
            self.play(act, episodes=1, seed=seed, watch=watch)
        except BrokenPipeError as error:
            broken = error
        _, words = ffmpeg.communicate()
        if broken is not None or ffmpeg.returncode:
            reason = one_line(words.decode(errors="replace"))
            raise OSError(0, reason or f"ffmpeg ended with status {ffmpeg.returncode}") from broken


def _find_ffmpeg() -> str:
    """Return the path of the encoder."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise UserError(
            "--capture-video needs imageio-ffmpeg: pip install 'hesrl[video]', or leave the "
            "option out"
        ) from error
    path: str = imageio_ffmpeg.get_ffmpeg_exe()
    return path


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
