"""Episodes that a policy plays, shown in a window."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from gymnasium.envs.mujoco import MujocoEnv

from hesrl.envs.episode_player import Act, EpisodePlayer
from hesrl.envs.normalize import Observations
from hesrl.envs.steps import Episode
from hesrl.errors import UserError, one_line

INSTEAD = "give --video FILE.mp4"


class _Closed(BaseException):
    """The window has been closed; no fault of the environment, in whose step that shows."""


class Window(EpisodePlayer):
    """An environment that shows itself in a window while a policy plays.

    Args:
        env_id: As `EpisodePlayer` takes it.
        observation: As `EpisodePlayer` takes it.
        **settings: As `EpisodePlayer` takes them; not ``env``.

    Raises:
        UserError: There is no screen, or the environment cannot be shown.
    """

    def __init__(
        self,
        env_id: str,
        observation: Observations,
        *,
        env_options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        if sys.platform == "linux" and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))):
            raise UserError(f"there is no screen (DISPLAY): {INSTEAD}")
        options = {**(env_options or {}), "render_mode": "human"}
        with warnings.catch_warnings():
            # Gymnasium shows the pictures of an environment that has no window of its own, and
            # what cannot be drawn is refused here.
            warnings.filterwarnings("ignore", ".*'human' rendering|.*with render_mode=")
            super().__init__(env_id, observation, env_options=options, **settings)
        self._listens = False
        try:
            self._open(env_id)
        except UserError:
            self.close()
            raise

    def _open(self, env_id: str) -> None:
        """Open the window, so that what is missing shows before an episode."""
        if isinstance(self.env.unwrapped, MujocoEnv):
            _check_screen()
        try:
            self.env.reset(seed=0)
        # Whatever the libraries that draw raise where something is missing.
        except Exception as error:
            raise UserError(f"cannot show {env_id}: {one_line(error)}; or {INSTEAD}") from error

    def show(self, act: Act, *, episodes: int, seed: int) -> Iterator[Episode]:
        """Play episodes until the window is closed; yield each that has been played to its end.

        Args:
            act: The policy.
            episodes: How many to play.
            seed: Seed of the first episode; the others follow from it.

        Raises:
            FloatingPointError: As `EpisodePlayer.play` does.
            EnvironmentFault: As `EpisodePlayer.play` does.
        """
        try:
            yield from self.each(act, episodes=episodes, seed=seed, watch=self._look)
        except _Closed:
            return

    def _look(self) -> None:
        """Listen to the button that closes the window.

        Gymnasium draws on in a window of MuJoCo that is closed, and lets Pygame's open.
        """
        viewer = getattr(getattr(self.env.unwrapped, "mujoco_renderer", None), "viewer", None)
        if viewer is not None and not self._listens:
            import glfw

            glfw.set_window_close_callback(viewer.window, _end)
            self._listens = True
        pygame = sys.modules.get("pygame")
        if pygame is not None and pygame.display.get_init() and pygame.event.peek(pygame.QUIT):
            raise _Closed


def _end(window: object) -> None:
    raise _Closed


def _check_screen() -> None:
    """Refuse a screen that MuJoCo's window cannot be opened on: that would end the process."""
    import glfw

    with warnings.catch_warnings(record=True) as words:
        warnings.simplefilter("always")
        if not glfw.init():
            why = one_line(str(words[0].message)) if words else "no reason given"
            raise UserError(f"the screen cannot be used: {why}: {INSTEAD}")
