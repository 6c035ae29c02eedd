"""Videos: read back by ffmpeg; what is missing is named before anything is written."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest

from hesrl.envs.episode_player import EpisodePlayer
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.envs.video_recorder import VideoRecorder
from hesrl.errors import UserError
from hesrl.runs.checkpoint import rng_state

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs hesrl[video]")

TRY_EGL = """
import os
os.environ["MUJOCO_GL"] = "egl"
from mujoco.egl import GLContext
GLContext(8, 8).free()
"""


@pytest.fixture(scope="module")
def egl():
    """Skips where EGL is missing, and lets nobody but the test see the setting."""
    tried = subprocess.run([sys.executable, "-c", TRY_EGL], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no EGL: {tried.stderr.splitlines()[-1]}")
    before = os.environ.pop("MUJOCO_GL", None)
    yield
    os.environ.pop("MUJOCO_GL", None)
    if before is not None:
        os.environ["MUJOCO_GL"] = before


def still(obs):
    return np.zeros((1, 1), dtype=np.float32)


@pytest.fixture
def observation():
    return NormalizedEnvs("InvertedPendulum-v5", 1, seed=0, gamma=0.99).observation_normalizer


def pictures_of(path):
    """Return the pictures of a video, as grey values (pictures, 480, 480)."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path)]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, 480, 480)


@pytest.mark.parametrize("fps", [25, 60])
def test_a_video_shows_the_episode_that_would_be_played(
    egl, tmp_path, observation, monkeypatch, fps
):
    env = "InvertedPendulum-v5"
    with closing(EpisodePlayer(env, observation)) as player:
        (played,) = player.play(still, episodes=1, seed=5)
    before = repr(rng_state())
    with closing(VideoRecorder(env, observation)) as recorder:
        recorder._stride = stride = max(1, round(fps / 30))
        paths = [recorder.record(still, tmp_path, step=step, seed=5) for step in (100, 200)]
    assert repr(rng_state()) == before
    assert [path.name for path in paths] == ["step-100.mp4", "step-200.mp4"]
    assert sorted((tmp_path / "videos").iterdir()) == paths
    first, second = map(pictures_of, paths)
    assert len(first) == -(-(played.episodic_length + 1) // stride)
    assert np.array_equal(first, second)
    assert len(set(map(bytes, first))) > len(first) / 2 and first[0].std() > 10


def test_a_mistake_in_the_policy_leaves_no_video(egl, tmp_path, observation):
    with closing(VideoRecorder("InvertedPendulum-v5", observation)) as recorder:
        with pytest.raises(FloatingPointError, match="an action is NaN"):
            recorder.record(lambda obs: still(obs) * np.nan, tmp_path, step=1, seed=0)
        assert list((tmp_path / "videos").iterdir()) == []


def test_a_folder_or_an_encoder_that_fails_is_named(egl, tmp_path, observation, full_disk):
    with closing(VideoRecorder("InvertedPendulum-v5", observation)) as recorder:
        full_disk(300)
        with pytest.raises(UserError, match=r"cannot write .*step-1.mp4: \w.*; check") as caught:
            recorder.record(still, tmp_path, step=1, seed=0)
        assert "\n" not in str(caught.value) and list((tmp_path / "videos").iterdir()) == []
        full_disk(1_000_000)
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"cannot write .*step-1.mp4: Not a directory"):
            recorder.record(still, tmp_path / "file", step=1, seed=0)


def test_a_machine_without_opengl_is_told_so():
    code = (
        "from hesrl.envs.normalize import ObservationNormalizer as N\n"
        "from hesrl.envs.video_recorder import VideoRecorder\n"
        "from hesrl.errors import UserError\n"
        "try: VideoRecorder('InvertedPendulum-v5', N(4))\n"
        "except UserError as error: print(error)"
    )
    broken = {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **broken}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("--capture-video: cannot draw InvertedPendulum-v5: ")
    assert "install EGL" in done.stdout and done.stdout.count("\n") == 1


def test_a_missing_extra_is_named(monkeypatch, observation):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"needs imageio-ffmpeg: pip install 'hesrl\[video\]'"):
        VideoRecorder("InvertedPendulum-v5", observation)


@pytest.mark.filterwarnings("ignore:.*render_mode")
def test_an_environment_that_cannot_be_drawn_is_named(monkeypatch):
    class Dark(gym.Env):
        observation_space = gym.spaces.Box(-1, 1, (2,))
        action_space = gym.spaces.Discrete(2)
        metadata = {}  # noqa: RUF012

        def __init__(self, render_mode=None):
            pass

    spec = gym.envs.registration.EnvSpec("Dark-v0", entry_point=Dark)
    monkeypatch.setitem(gym.registry, "Dark-v0", spec)
    with pytest.raises(UserError, match="environment Dark-v0 cannot be drawn"):
        VideoRecorder("Dark-v0", observation=None)
