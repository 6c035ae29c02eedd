"""Episodes that a policy plays, recorded as videos."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from numpy.typing import NDArray

from hesrl.envs.episode_player import Act, EpisodePlayer
from hesrl.envs.normalize import Observations
from hesrl.envs.steps import Episode
from hesrl.errors import UserError, one_line
from hesrl.runs.atomic import cannot_write
from hesrl.runs.checkpoint import rng_state, set_rng_state

MAX_FPS = 30
"""Pictures per second of video: environments with more steps per second skip some of them."""


class VideoRecorder(EpisodePlayer):
    """An environment that is drawn while a policy plays.

    On Linux, MuJoCo draws by EGL, which needs no screen, unless ``MUJOCO_GL`` says otherwise.
    Without a graphics card one picture takes some 50 ms.

    Args:
        env_id: As `EpisodePlayer` takes it.
        observation: As `EpisodePlayer` takes it.
        option: The option that asked for videos, for messages.
        **settings: As `EpisodePlayer` takes them; not ``env``.

    Raises:
        UserError: The extra ``video`` is not installed, or the environment cannot be drawn.
    """

    def __init__(
        self,
        env_id: str,
        observation: Observations,
        *,
        option: str = "--capture-video",
        env_options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self._option, self._ffmpeg = option, _find_ffmpeg(option)
        if sys.platform == "linux":
            os.environ.setdefault("MUJOCO_GL", "egl")
        rendering = {"render_mode": "rgb_array"}
        with warnings.catch_warnings():
            # What cannot be drawn is refused here.
            warnings.filterwarnings("ignore", ".*with render_mode=")
            super().__init__(
                env_id, observation, env_options={**(env_options or {}), **rendering}, **settings
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
            raise UserError(f"{self._option}: environment {env_id} cannot be drawn (rgb_array)")
        try:
            if isinstance(env.unwrapped, MujocoEnv) and os.environ.get("MUJOCO_GL") == "egl":
                from mujoco.egl import GLContext  # type: ignore[import-untyped]

                GLContext(8, 8).free()
            env.reset(seed=0)
            height, width, _ = self._draw().shape
        # Whatever OpenGL, its libraries and MuJoCo raise where one of them is missing.
        except Exception as error:
            remedy = "leave the option out"
            if isinstance(env.unwrapped, MujocoEnv):
                egl = "install EGL (Debian, Ubuntu: apt install libegl1), set MUJOCO_GL"
                remedy = f"{egl}, or {remedy}"
            raise UserError(
                f"{self._option}: cannot draw {env_id}: {one_line(error)}; {remedy}"
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
            UserError: As `write` does.
            FloatingPointError: As `EpisodePlayer.play` does.
            EnvironmentFault: As `EpisodePlayer.play` does.
        """
        path = run / "videos" / f"step-{step}.mp4"
        self.write(path, act, episodes=1, seed=seed)
        return path

    def write(self, path: Path, act: Act, *, episodes: int, seed: int) -> list[Episode]:
        """Play episodes, write them to a file, and return them.

        Args:
            path: The file; its folder is made.
            act: The policy.
            episodes: How many to play.
            seed: Seed of the first episode.

        Raises:
            UserError: The video cannot be written; none is left then.
            FloatingPointError: As `EpisodePlayer.play` does.
            EnvironmentFault: As `EpisodePlayer.play` does.
        """
        if path.is_dir():
            raise UserError(f"{self._option} {path}: is a folder, name a file")
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self._encode_to(temporary) as ffmpeg:
                    played = self._play_into(ffmpeg, act, episodes, seed)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error
        return played

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

    def _play_into(
        self, ffmpeg: subprocess.Popen[bytes], act: Act, episodes: int, seed: int
    ) -> list[Episode]:
        """Play episodes into the encoder.

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

        broken, played = None, []
        try:
            played = self.play(act, episodes=episodes, seed=seed, watch=watch)
        except BrokenPipeError as error:
            broken = error
        _, words = ffmpeg.communicate()
        if broken is not None or ffmpeg.returncode:
            reason = one_line(words.decode(errors="replace"))
            raise OSError(0, reason or f"ffmpeg ended with status {ffmpeg.returncode}") from broken
        return played


def _find_ffmpeg(option: str) -> str:
    """Return the path of the encoder."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise UserError(
            f"{option} needs imageio-ffmpeg: pip install 'hesrl[video]', or leave the option out"
        ) from error
    path: str = imageio_ffmpeg.get_ffmpeg_exe()
    return path
