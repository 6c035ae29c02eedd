"""The policy of a run, watched: in a window or as a video."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from hesrl.agents import ppo, sb3_ppo
from hesrl.errors import UserError
from hesrl.rl.play_run import Args, main
from tests.agents.processes import ROOT
from tests.rl.test_evaluate_run import train

ENDLESS = """
import os
from pathlib import Path

import gymnasium as gym
import numpy as np

class Endless(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (3,))
    action_space = gym.spaces.Box(-1, 1, (1,))
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, dtype=np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 100:
            Path(str(os.getpid())).touch()
        return np.zeros(3, dtype=np.float32), 0.0, False, False, {}

gym.register("Endless-v0", entry_point=Endless)
"""


@pytest.mark.skipif(find_spec("imageio_ffmpeg") is None, reason="needs hesrl[video]")
@pytest.mark.parametrize("agent", [ppo, sb3_ppo])
def test_a_video_shows_the_episodes(tmp_path, capsys, agent):
    settings = {"env_options": ("max_episode_steps=30",), "env_id": "hesrl/UR5Reacher-v0"}
    path, returns = train(agent, tmp_path, num_minibatches=4, **settings)
    video = tmp_path / "some" / "run.mp4"
    assert main(Args(run=path, episodes=2, seed=6, video=video)) == 0
    out = capsys.readouterr().out.splitlines()[-3:]
    assert out[0] == f"episode 1: return {returns[0]:.1f}, 30 steps" and out[2] == str(video)
    assert video.stat().st_size > 1000


def test_a_window_shows_the_episodes(tmp_path, monkeypatch, capsys):
    path, _ = train(ppo, tmp_path, env_id="tests.envs.test_window:Shown-v0", num_minibatches=4)
    monkeypatch.setenv("DISPLAY", ":0")
    capsys.readouterr()
    assert main(Args(run=path)) == 0
    assert capsys.readouterr().out == "".join(
        f"episode {n}: return 4.0, 4 steps\n" for n in (1, 2, 3)
    )


def test_input_is_refused_before_the_screen(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"^--video a.gif: must end with .mp4$"):
        main(Args(run=tmp_path, video=Path("a.gif")))
    with pytest.raises(UserError, match=r"^--max-episode-steps 0: must be greater than zero$"):
        main(Args(run=tmp_path, max_episode_steps=0))
    with pytest.raises(UserError, match=r"^no run directory nowhere: "):
        main(Args(run=Path("nowhere")))


def started(tmp_path, *words):
    """Start a command as a user does, where the module of the endless environment is found."""
    (tmp_path / "endless.py").write_text(ENDLESS)
    path = os.pathsep.join((str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, "-m", "hesrl.cli", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, text=True,
        stdout=pipe, stderr=pipe,
    )  # fmt: skip


def wait_for_steps(tmp_path, process):
    """Wait until the endless environment has taken steps in a process."""
    while not (tmp_path / str(process.pid)).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


SMALL = ["--num-steps=128", "--num-minibatches=2", "--total-timesteps=256", "--compile=off"]


def test_one_sigterm_stops_an_episode_that_does_not_end(tmp_path):
    training = started(tmp_path, "train", "ppo", "--env-id=endless:Endless-v0", *SMALL)
    while not (found := list(tmp_path.glob("runs/*/checkpoint.pt"))):
        assert training.poll() is None, training.communicate()
        time.sleep(0.05)
    time.sleep(1)
    training.send_signal(signal.SIGTERM)
    out, err = training.communicate(timeout=300)
    assert training.returncode == 143 and err in ("stopping\n", "stopping after this update; "
        "press Ctrl-C again to abort at once\n"), err  # fmt: skip
    run = found[0].parent
    assert f"--resume {run.relative_to(tmp_path)}" in out
    evaluation = started(tmp_path, "evaluate", str(run), "--max-episode-steps=1000000000")
    wait_for_steps(tmp_path, evaluation)
    evaluation.send_signal(signal.SIGTERM)
    assert evaluation.communicate(timeout=300)[1] == "stopping\n"
    assert evaluation.returncode == 143
    cut = started(tmp_path, "evaluate", str(run), "--max-episode-steps=50", "--episodes=1")
    out, err = cut.communicate(timeout=300)
    assert cut.returncode == 0 and "mean return of 1 episode 0.0" in out and "cut, since" in err
