"""Episodes in a window: what is refused, and that closing the window ends them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import types
from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest

from hesrl.envs.normalize import Observations
from hesrl.envs.window import Window
from hesrl.errors import UserError


class Shown(gym.Env):
    """Episodes of four steps; a window in which someone may press a button after some steps."""

    metadata = {"render_modes": ["human"], "render_fps": 30}  # noqa: RUF012
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode=None, broken=False):
        self.render_mode, self.broken, self.steps = render_mode, broken, 0
        self.press = lambda: None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.broken:
            raise OSError("no colours")
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        self.press()
        return np.zeros(2, np.float32), 1.0, self.steps % 4 == 0, False, {}


gym.register("Shown-v0", entry_point=Shown)


@pytest.fixture
def screen(monkeypatch):
    """Pretend that there is a screen, on which nothing of Pygame is shown."""
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setitem(sys.modules, "pygame", None)


def shown(window, episodes=5):
    """Play episodes, and return the lengths of those that came to their end."""
    act = lambda obs: np.zeros(1, np.int64)  # noqa: E731
    return [e.episodic_length for e in window.show(act, episodes=episodes, seed=1)]


def test_episodes_are_shown(screen):
    with closing(Window("Shown-v0", Observations())) as window:
        assert window.env.unwrapped.render_mode == "human"
        assert shown(window) == [4] * 5


def test_closing_a_window_of_pygame_ends_the_episodes(screen, monkeypatch):
    with closing(Window("Shown-v0", Observations())) as window:
        env = window.env.unwrapped
        pygame = types.SimpleNamespace(
            QUIT=256,
            display=types.SimpleNamespace(get_init=lambda: True),
            event=types.SimpleNamespace(peek=lambda kind: kind == 256 and env.steps == 10),
        )
        monkeypatch.setitem(sys.modules, "pygame", pygame)
        assert shown(window) == [4, 4]
        assert env.steps == 10


def test_closing_a_window_of_mujoco_ends_the_episodes(screen, monkeypatch):
    import glfw

    with closing(Window("Shown-v0", Observations())) as window:
        env, pressed = window.env.unwrapped, []
        env.mujoco_renderer = types.SimpleNamespace(viewer=types.SimpleNamespace(window="it"))
        monkeypatch.setattr(
            glfw, "set_window_close_callback", lambda window, act: pressed.append((window, act))
        )
        env.press = lambda: pressed[0][1](pressed[0][0]) if env.steps == 10 else None
        assert shown(window) == [4, 4]
        assert [window for window, _ in pressed] == ["it"]


def test_what_cannot_be_shown_is_refused(monkeypatch, screen):
    with pytest.raises(UserError, match=r"^cannot show Shown-v0: no colours; or give --video FILE"):
        Window("Shown-v0", Observations(), env_options={"broken": True})
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, "")
    with pytest.raises(UserError, match=r"^there is no screen \(DISPLAY\): give --video FILE.mp4$"):
        Window("Shown-v0", Observations())


def test_a_screen_that_does_not_answer_is_refused(monkeypatch, screen):
    import glfw

    def init():
        glfw._handle_glfw_errors(65550, b"X11: Failed to open display :0")
        return False

    monkeypatch.setattr(glfw, "init", init)
    with pytest.raises(UserError, match=r"^the screen cannot be used: .*open display :0.*--video"):
        Window("InvertedPendulum-v5", Observations())


CLOSED = """
import ctypes, glfw, numpy as np
from hesrl.envs.normalize import Observations
from hesrl.envs.window import Window

class Message(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("serial", ctypes.c_ulong), ("sent", ctypes.c_int),
                ("display", ctypes.c_void_p), ("window", ctypes.c_ulong), ("what", ctypes.c_ulong),
                ("format", ctypes.c_int), ("data", ctypes.c_long * 5), ("rest", ctypes.c_long * 24)]

x = ctypes.CDLL("libX11.so.6")
x.XOpenDisplay.restype, x.XInternAtom.restype = ctypes.c_void_p, ctypes.c_ulong
x.XInternAtom.argtypes = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
number, pointer = ctypes.c_ulong, ctypes.c_void_p
x.XSendEvent.argtypes = pointer, number, ctypes.c_int, ctypes.c_long, pointer
x.XFlush.argtypes = ctypes.c_void_p,
display = x.XOpenDisplay(None)
atoms = [x.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")]

window = Window("InvertedPendulum-v5", Observations())
taken = 0

def act(obs):
    global taken
    taken += 1
    if taken == 3:
        id = glfw.get_x11_window(window.env.unwrapped.mujoco_renderer.viewer.window)
        message = Message(33, 0, 1, display, id, atoms[0], 32, (atoms[1], 0, 0, 0, 0))
        x.XSendEvent(display, id, 0, 0, ctypes.byref(message))
        x.XFlush(display)
    return np.zeros((1, 1), np.float32)

print(len(list(window.show(act, episodes=1000, seed=1))) < 1000)
window.close()
"""


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb (apt install xvfb)")
def test_the_button_of_a_real_window_ends_the_episodes():
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "640x480x24"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        display = f":{server.stdout.readline().strip()}"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", CLOSED],
            env={**os.environ, "DISPLAY": display}, capture_output=True, text=True,
        )  # fmt: skip
    finally:
        server.kill()
        server.communicate()
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
