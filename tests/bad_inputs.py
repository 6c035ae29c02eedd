"""Bad inputs, and what ``hesrl`` says to each: the table of docs/bad_input.md.

`python -m tests.bad_inputs` writes the table anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from hesrl.agents import ppo
from hesrl.cli import main
from hesrl.runs.checkpoint import FORMAT

PAGE = Path(__file__).parents[1] / "docs" / "bad_input.md"

COMMANDS = """\
trian ppo
train pop
xyz
train ppo word
train ppo --sed 1
train ppo --seed
train ppo --seed one
train ppo --seed 1.5
train ppo --seed -1
train ppo --seed 4294967296
train ppo --seed 99999999999999999999
train ppo --total-timesteps 0
train ppo --total-timesteps 1e2
train ppo --total-timesteps 1e30
train ppo --total-timesteps 1e-2
train ppo --total-timesteps inf
train ppo --gamma 1.5
train ppo --gamma nan
train ppo --gamma=
train ppo --learning-rate 0
train ppo --learning-rate inf
train ppo --learning-rate 3e-4,1e-3
train ppo --eps -1e-3
train ppo --eps inf
train ppo --ent-coef nan
train ppo --optimizer adamw
train ppo --optimizer adaggnmc
train ppo --optimizer sgd --eps 0.1
train ppo --betas 0.9
train ppo --betas 0.9 1
train ppo --activation gelu
train ppo --compile yes
train ppo --hidden-sizes 64 0
train ppo --hidden-sizes 1e15
train ppo --num-envs 0
train ppo --num-minibatches 7
train ppo --num-minibatches 2048
train ppo --device gpu
train ppo --env-id HalfCheeta-v5
train ppo --env-id no_module:Nothing-v0
train ppo --env-id a:b:c
train ppo --env-id ''
train ppo --env-id Höpper-v5
train ppo --env-id CartPole-v1 --variance-network
train ppo --env-id CartPole-v1 --env-options speed
train ppo --env-id CartPole-v1 --env-options speed=1
train ppo --env-id CartPole-v1 --env-options max_episode_steps=0
train ppo --env-id CartPole-v1 --env-options max_episode_steps=two
train ppo --env-id bad_envs:NaN-v0 --capture-video
train ppo --env-id CartPole-v1 --robot-host localhost
train ppo --env-id bad_envs:Spaces-v0
train ppo --env-id bad_envs:Raising-v0 --num-steps 64
train ppo --env-id bad_envs:Reset-v0
train ppo --env-id bad_envs:Shape-v0 --num-steps 64
train ppo --env-id bad_envs:Values-v0 --num-steps 64
train ppo --env-id bad_envs:Reward-v0 --num-steps 64
train ppo --env-id bad_envs:NaN-v0 --num-steps 64
train ppo --runs-dir /dev/null/runs
train ppo --runs-dir words.yaml
train ppo --resume nowhere
train ppo --resume runs
train ppo --resume words.yaml
train ppo --resume runs/finished --seed 2
train ppo --resume runs/finished --total-timesteps 100
train a2c --resume runs/finished
train ppo --resume runs/damaged
train ppo --resume runs/pickled
train ppo --resume runs/typed
train ppo --resume runs/broken
train ppo --resume runs/foreign
train ppo --resume runs/unsaved
train ppo --config nowhere.yaml
train ppo --config words.yaml
train ppo --config empty.yaml
train ppo --config binary.yaml
train ppo --config folder
train ppo --config typo.yaml
train ppo --config typed.yaml
train ppo --tuned --env-id Pusher-v5
train ppo --tuned --config typed.yaml
train ppo --tuned --paper
train ppo --tuned --resume runs/finished
train sb3-ppo --tuned
train ppo --log-std-init 30
train ppo --env-id CartPole-v1 --log-std-init -1
train ppo --variance-network --log-std-init -1
train ppo --adam-bound 0
train ppo --optimizer adam --adam-bound 3
train ppo --optimizer adam --curvature-average mean
train ppo --curvature-average median
train ppo --curvature-average signed
train ppo --optimizer sgd --damping 0.1
train ppo --damping -1
train ppo --optimizer sgd --reset-time
train ppo --desired-kl 0.01 --anneal-lr
train a2c --env-id CartPole-v1 --variance-learning-rate 1e-3
train ppo --output-curvature gauss
train ppo --optimizer adahessian --output-curvature fisher
train ppo --env-threads 0
train a2c --checkpoint-interval 150
train a2c --env-id HalfCheetah-v5 --total-timesteps 3
train stream-ac --num-envs 4
train stream-ac --learning-rate 1
train stream-ac --gamma 1 --lamda 1
train sb3-ppo --env-id bad_envs:Raising-v0 --num-steps 64
train sb3-ppo --env-id bad_envs:Shape-v0 --num-steps 64
train sb3-a2c --env-id bad_envs:NaN-v0
train sb3-ppo --optimizer kfac
train sb3-ppo --n-steps 5
train sb3-ppo --lstm-size 32
train sb3-ppo --recurrent --lstm-size 0
evaluate nowhere
evaluate runs
evaluate runs/typed
evaluate runs/pickled
evaluate runs/foreign
evaluate runs/text
evaluate runs/folder
evaluate runs/dqn
evaluate runs/finished --env-id Acrobot-v1
evaluate runs/finished --episodes 0
evaluate runs/finished --max-episode-steps 0
evaluate runs/finished --seed -1
evaluate runs/finished --env-options speed=2
evaluate runs/unsaved
play runs/finished --video run.gif
play runs/arm --video folder.mp4
play runs/arm --video words.yaml/run.mp4
play runs/finished --max-episode-steps -1
play runs/damaged
export runs/finished --formats pickle
export runs/finished --formats
export runs/finished --out words.yaml
export runs/unsaved
sweep
sweep nowhere.yaml
sweep words.yaml
sweep folder
sweep binary.yaml
sweep twice.yaml
sweep axis.yaml
sweep seed.yaml
sweep task.yaml
sweep good.yaml --jobs 0
sweep good.yaml --jobs many
sweep good.yaml --out words.yaml
sweep good.yaml --out store
sweep good.yaml --executor slurm
sweep agents --agents pop
sweep agents --folder runs
sweep agents --seeds 0
sweep agents --learning-rates nan
sweep agents --optimizers adam adam
sweep agents --options=--config=typed.yaml
sweep agents --options=--gamma=hello
sweep agents --options=--seed=1
report nowhere
report runs
report store
report folder
plot curves nowhere
plot curves runs/finished --out curves.doc
plot curves runs/finished --out words.yaml/curves.png
plot curves runs/broken
bench agents --total-timesteps 10
bench agents --agents nobody
bench update --tasks nothing
bench update --out folder
bench update --out words.yaml/update.csv
paper fig5 --scale tiny
paper fig99
paper fig5 --out words.yaml
ur5 check
ur5 check --host localhost --port 70000
ur5 check --host localhost --seconds nan
ur5 emulator --speed 0
ur5 jog --host localhost --elbow nan
ur5 jog --host localhost --elbow 99
ur5 jog --host localhost --shoulder inf
doctor --jason
completion tcsh
""".splitlines()
"""Arguments of ``hesrl``, in a folder that `prepared` fills."""

ENVS = """
import gymnasium as gym
import numpy as np

class Bad(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (2,))
    steps = 0

    def __init__(self, fault):
        self.fault = fault
        if fault == "Spaces":
            self.action_space = gym.spaces.Sequence(gym.spaces.Discrete(3))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(4 if self.fault == "Reset" else 3), {}

    def step(self, action):
        self.steps += 1
        fault = self.fault if self.steps == 10 else None
        if fault == "Raising":
            raise ValueError("joint limit\\nof joint 3")
        obs = np.zeros(4 if fault == "Shape" else 3)
        reward = {"Reward": None, "NaN": np.nan}.get(fault, 1.0)
        return (obs, reward, False, False, {})[: 4 if fault == "Values" else 5]

for fault in ("Spaces", "Raising", "Reset", "Shape", "Values", "Reward", "NaN"):
    gym.register(f"{fault}-v0", entry_point=Bad, kwargs={"fault": fault})
"""


GRID = """\
agent: ppo
settings:
  env_id: CartPole-v1
  total_timesteps: 2048
"""
GRIDS = {
    "good": "test_seeds: [1]\n",
    "twice": "  gamma: 0.9\n  gamma: 0.8\ntest_seeds: [1]\n",
    "axis": "  gamma: [0.9, .nan]\ntest_seeds: [1]\n",
    "seed": "test_seeds: [99999999999999999999]\n",
    "task": "  env_options: [[speed=1]]\ntest_seeds: [1]\n",
}
"""Files of grids, by name; all but the first have a mistake."""


BROKEN = (
    "damaged", "pickled", "typed", "broken", "foreign", "unsaved", "text", "folder", "dqn",
)  # fmt: skip
"""Runs with a mistake, by the names of their folders."""


class Outcome(NamedTuple):
    """What a command leaves."""

    command: str
    """Its arguments."""
    status: int
    """Exit status."""
    lines: list[str]
    """What it has said on standard error."""


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Work in a folder with environments, runs and files that something is wrong with."""
    before, paths = os.getcwd(), list(sys.path)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        try:
            _fill()
            yield
        finally:
            os.chdir(before)
            sys.path[:] = paths
            torch.set_flush_denormal(False)


def _fill() -> None:
    Path("bad_envs.py").write_text(ENVS)
    Path("words.yaml").write_text("just words\n")
    Path("typo.yaml").write_text("gama: 0.9\n")
    Path("typed.yaml").write_text("gamma: hello\n")
    Path("empty.yaml").touch()
    Path("binary.yaml").write_bytes(bytes(range(256)))
    for name, lines in GRIDS.items():
        Path(f"{name}.yaml").write_text(GRID + lines)
    for name in ("folder", "folder.mp4", "store"):
        Path(name).mkdir()
    Path("store/results.sqlite").write_text("no database\n" * 100)
    args = ppo.Args(
        env_id="CartPole-v1", total_timesteps=256, num_steps=256, num_minibatches=2,
        eval_episodes=1, compile="off", hidden_sizes=(4,),
    )  # fmt: skip
    runs = {"finished": args, "arm": replace(args, env_id="hesrl/UR5Reacher-v0")}
    for name, settings in runs.items():
        with contextlib.redirect_stdout(io.StringIO()):
            assert ppo.main(settings) == 0
        (made,) = Path("runs").glob("*__*")
        made.rename(f"runs/{name}")
    finished = Path("runs/finished")
    for name in BROKEN:
        shutil.copytree(finished, f"runs/{name}")
        Path(f"runs/{name}/summary.json").unlink()
    saved = Path("runs/damaged/checkpoint.pt")
    saved.write_bytes(saved.read_bytes()[:-1000])
    code = io.BytesIO()
    torch.save({"format": FORMAT, "state": Path}, code)
    data = code.getvalue()
    Path("runs/pickled/checkpoint.pt").write_bytes(data + hashlib.sha256(data).digest())
    config = (finished / "config.yaml").read_text()
    Path("runs/typed/config.yaml").write_text(config.replace("gamma: 0.99", "gamma: hello"))
    Path("runs/broken/config.yaml").write_text("settings: [")
    Path("runs/foreign/config.yaml").write_text("name: someone else's\n")
    Path("runs/dqn/config.yaml").write_text(config.replace("agent: ppo", "agent: dqn"))
    Path("runs/unsaved/checkpoint.pt").unlink()
    Path("runs/text/checkpoint.pt").write_text("hello")
    Path("runs/folder/checkpoint.pt").unlink()
    Path("runs/folder/checkpoint.pt").mkdir()


def outcomes() -> list[Outcome]:
    """Return what each command leaves, run one after the other in this process."""
    found = []
    with prepared():
        for command in COMMANDS:
            err = io.StringIO()
            with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
                status = main(shlex.split(command))
            found.append(Outcome(command, status, err.getvalue().splitlines()))
    return found


HEAD = """\
# What goes wrong, and what is said

A mistake in the input is one line on standard error, which says what is wrong, where, and what to
do. The exit status is 2 for a mistake in the input, and 1 for an environment that broke or a number
that is not finite; a run is kept up to its last checkpoint. A process that SIGINT or SIGTERM has
stopped ends with 130 or 143.

`tests/test_bad_inputs.py` gives each of these {number} commands, in a folder with broken
environments, runs and files, and holds status and message. `python -m tests.bad_inputs` writes this
page.

| `hesrl …` | status | message |
|---|---:|---|
"""


def page(found: list[Outcome]) -> str:
    """Return the page."""
    rows = [f"| `{o.command}` | {o.status} | {_cell(' '.join(o.lines))} |" for o in found]
    return HEAD.format(number=len(found)) + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(outcomes()), encoding="utf-8")
    print(PAGE)
