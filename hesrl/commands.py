"""The commands of ``hesrl`` by name, and lists of them with an example each."""

from __future__ import annotations

import textwrap
from typing import NamedTuple


class Command(NamedTuple):
    """What a command is."""

    module: str
    """Its module, which has an ``Args`` dataclass and a ``main``."""
    summary: str
    """What it does, in one line."""
    example: str
    """Arguments with which it does something useful."""


FAMILIES = {
    "train": "train an agent",
    "bench": "measure speed and memory side by side",
    "paper": "measure the figures of the paper again",
    "example": "other uses of curvature",
    "ur5": "the controller of a UR5 arm, emulated or real",
    "plot": "draw runs",
}
"""The first words that several commands share."""

COMMANDS = {
    "train ppo": Command(
        "hesrl.agents.ppo", "train PPO", "--env-id Hopper-v5 --total-timesteps 1e6"
    ),
    "train a2c": Command("hesrl.agents.a2c", "train A2C", "--env-id CartPole-v1 --num-envs 8"),
    "train stream-ac": Command(
        "hesrl.agents.stream_ac",
        "train an actor–critic that learns every step",
        "--env-id HalfCheetah-v5 --total-timesteps 300_000",
    ),
    "train sb3-ppo": Command(
        "hesrl.agents.sb3_ppo",
        "train PPO of Stable-Baselines3",
        "--env-id Hopper-v5 --optimizer adam",
    ),
    "train sb3-a2c": Command(
        "hesrl.agents.sb3_a2c", "train A2C of Stable-Baselines3", "--env-id CartPole-v1"
    ),
    "evaluate": Command(
        "hesrl.rl.evaluate_run", "returns of the policy of a run", "runs/RUN --episodes 50"
    ),
    "play": Command("hesrl.rl.play_run", "watch the policy of a run", "runs/RUN --video run.mp4"),
    "export": Command(
        "hesrl.rl.export_run", "the policy of a run as ONNX, torch.export or SB3", "runs/RUN"
    ),
    "sweep": Command(
        "hesrl.experiments.sweeps.sweep", "the training runs of a grid", "grid.yaml --jobs 2"
    ),
    "sweep agents": Command(
        "hesrl.experiments.sweeps.sweep_agents",
        "a grid of agents and step sizes, by options",
        "--agents ppo --env-ids Hopper-v5 --optimizers adam adahesscale --seeds 5",
    ),
    "plot curves": Command(
        "hesrl.experiments.reports.curves",
        "learning curves of runs in one picture",
        "runs --out curves.png",
    ),
    "report": Command(
        "hesrl.experiments.reports.report", "statistics and figures of a sweep", "runs/sweep"
    ),
    "doctor": Command(
        "hesrl.doctor", "what works on this machine, what is missing, how to get it", "--json"
    ),
    "completion": Command(
        "hesrl.shell_completion", "print what completes commands and options in a shell", "bash"
    ),
    "ur5 emulator": Command(
        "hesrl.envs.ur5.commands.serve_emulator", "emulate the controller of a UR5", "--speed 1"
    ),
    "ur5 check": Command(
        "hesrl.envs.ur5.commands.check",
        "read what a UR controller sends",
        "--host 192.168.1.10 --seconds 5",
    ),
    "ur5 verify": Command(
        "hesrl.envs.ur5.commands.verify",
        "try out a controller or URSim: a table of checks",
        "--host 192.168.1.10 --backend rtde",
    ),
    "ur5 timing": Command(
        "hesrl.envs.ur5.commands.step_times",
        "play episodes and see how time is kept",
        "--host 192.168.1.10 --episodes 2",
    ),
    "ur5 home": Command(
        "hesrl.envs.ur5.commands.home",
        "show the way to the start, and go it slowly",
        "--host 192.168.1.10",
    ),
    "ur5 guards": Command(
        "hesrl.envs.ur5.commands.guard_check",
        "see in simulation what guards allow",
        "--episodes 100",
    ),
    "ur5 jog": Command(
        "hesrl.envs.ur5.commands.jog",
        "move shoulder and elbow slowly",
        "--host 192.168.1.10 --elbow 0.1",
    ),
    "bench agents": Command(
        "hesrl.bench.agents", "steps per second of the agents beside SB3's", "--agents ppo"
    ),
    "bench envs": Command(
        "hesrl.bench.envs", "MuJoCo's tasks in threads beside Gymnasium's classes", "--num-envs 16"
    ),
    "bench sb3": Command(
        "hesrl.bench.sb3", "Stable-Baselines3's update beside its own Adam", "--agents ppo"
    ),
    "bench update": Command(
        "hesrl.bench.update", "time of one update beside torch's Adam", "--tasks ppo"
    ),
    "bench compile": Command(
        "hesrl.bench.compile", "time to compile a training step, cold and warm", "--rounds 1"
    ),
    "bench memory": Command(
        "hesrl.bench.memory", "peak memory of one update beside torch's Adam", "--out memory.csv"
    ),
    "bench models": Command(
        "hesrl.bench.models", "time and memory on twenty architectures", "--models vae ppo"
    ),
    "bench coverage": Command(
        "hesrl.bench.coverage", "model families of other libraries", "--out coverage.csv"
    ),
    "bench safety": Command(
        "hesrl.bench.safety", "how far the first steps move each parameter", "--steps 20"
    ),
    "bench exact": Command(
        "hesrl.bench.exact", "time of exact diagonals beside BackPACK's", "--rounds 3"
    ),
    "bench convergence": Command(
        "hesrl.bench.convergence", "steps and seconds to a threshold", "--problems quadratic"
    ),
    "bench ur5": Command(
        "hesrl.bench.ur5", "steps per second of the simulated UR5 Reacher", "--rounds 3"
    ),
    "paper fig2": Command(
        "hesrl.paper.fig2", "errors of nine estimates of the Hessian diagonal", "--scale smoke"
    ),
    "paper table1": Command(
        "hesrl.paper.table1", "how diagonal the Hessians between the layers are", "--scale smoke"
    ),
    "paper fig4": Command(
        "hesrl.paper.fig4", "CIFAR-100 against epochs and seconds", "--scale smoke"
    ),
    "paper fig5": Command(
        "hesrl.paper.fig5", "learning curves of A2C and PPO, five environments", "--scale small"
    ),
    "paper fig6": Command(
        "hesrl.paper.fig6", "PPO's return against the step size, scaled and not", "--scale small"
    ),
    "paper fig7": Command(
        "hesrl.paper.fig7",
        "learning on the simulated UR5 Reacher, three optimizers",
        "--scale smoke",
    ),
    "paper fig8": Command(
        "hesrl.paper.fig8", "update time against outputs and layers", "--scale smoke"
    ),
    "paper fig9": Command("hesrl.paper.fig9", "CIFAR-100 against the step size", "--scale smoke"),
    "paper fig10": Command(
        "hesrl.paper.fig10", "as fig5, five more environments", "--scale small --jobs 2"
    ),
    "paper fig11": Command("hesrl.paper.fig11", "as fig6, A2C", "--scale small --jobs 2"),
    "paper fig12": Command(
        "hesrl.paper.fig12", "as fig6, four more environments", "--scale small --jobs 2"
    ),
    "paper fig13": Command(
        "hesrl.paper.fig13", "as fig6, Humanoid and HumanoidStandup", "--scale small --jobs 2"
    ),
    "example pruning": Command(
        "hesrl.examples.pruning", "prune by curvature and by magnitude", "--epochs 2"
    ),
    "example upgd": Command(
        "hesrl.examples.upgd", "learn tasks one after the other by weights' utility", "--tasks 5"
    ),
}


def listing(family: str | None = None) -> str:
    """Return what there is: of all commands, or of those that begin with one word.

    Args:
        family: A key of `FAMILIES`; None for all.
    """
    if family is not None:
        names = [name for name in COMMANDS if name.split()[0] == family]
        lines = [f"usage: hesrl {family} COMMAND [OPTIONS]", "", f"{FAMILIES[family]}:"]
        for name in names:
            command = COMMANDS[name]
            lines += ["", f"  hesrl {name:18} {command.summary}"]
            lines += [f"      hesrl {name} {command.example}"]
        return "\n".join([*lines, "", f"hesrl {names[0]} --help lists the options of one."])
    lines = ["usage: hesrl COMMAND [OPTIONS]"]
    for name, command in COMMANDS.items():
        first, *rest = name.split()
        if rest and first in FAMILIES:
            names = [other for other in COMMANDS if other.split()[0] == first]
            if name != names[0]:
                continue
            words = " | ".join(other.split()[1] for other in names)
            lines += ["", *textwrap.wrap(
                f"{first:15} {FAMILIES[first]}: {words}", 100, initial_indent="  hesrl ",
                subsequent_indent=" " * 24, break_on_hyphens=False,
            )]  # fmt: skip
        else:
            lines += ["", f"  hesrl {name:15} {command.summary}"]
        lines += [f"      hesrl {name} {command.example}"]
    return "\n".join([*lines, "", "hesrl --version; hesrl train; hesrl train ppo --help"])
