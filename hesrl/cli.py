"""The ``hesrl`` command: ``hesrl train ppo --env-id HalfCheetah-v5``, ``hesrl bench agents``."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import tyro

from hesrl.errors import EnvironmentFault, UserError
from hesrl.settings import defaults_for

ArgsT = TypeVar("ArgsT")

COMMANDS = {
    "train ppo": ("hesrl.agents.ppo", "train PPO"),
    "train a2c": ("hesrl.agents.a2c", "train A2C"),
    "train stream-ac": ("hesrl.agents.stream_ac", "train an actor–critic that learns every step"),
    "train sb3-ppo": ("hesrl.agents.sb3_ppo", "train PPO of Stable-Baselines3"),
    "train sb3-a2c": ("hesrl.agents.sb3_a2c", "train A2C of Stable-Baselines3"),
    "evaluate run": ("hesrl.rl.evaluate_run", "play episodes with the policy of a run"),
    "bench sb3": ("hesrl.bench.sb3", "Stable-Baselines3's update beside its own Adam"),
    "bench agents": ("hesrl.bench.agents", "steps per second of the agents beside SB3's"),
    "bench envs": ("hesrl.bench.envs", "MuJoCo's tasks in threads beside Gymnasium's classes"),
    "bench exact": ("hesrl.bench.exact", "time of exact diagonals beside BackPACK's"),
    "bench update": ("hesrl.bench.update", "time of one update beside torch's Adam"),
    "bench memory": ("hesrl.bench.memory", "peak memory of one update beside torch's Adam"),
    "bench models": ("hesrl.bench.models", "time and memory on twenty architectures"),
    "bench coverage": ("hesrl.bench.coverage", "model families of other libraries"),
    "bench safety": ("hesrl.bench.safety", "how far the first steps move each parameter"),
    "bench ur5": ("hesrl.bench.ur5", "steps per second of the simulated UR5 Reacher"),
    "bench convergence": ("hesrl.bench.convergence", "steps and seconds to a threshold"),
    "paper fig2": ("hesrl.paper.fig2", "errors of nine estimates of the Hessian diagonal"),
    "paper table1": ("hesrl.paper.table1", "how diagonal the Hessians between the layers are"),
    "paper fig4": ("hesrl.paper.fig4", "CIFAR-100 against epochs and seconds"),
    "paper fig5": ("hesrl.paper.fig5", "learning curves of A2C and PPO, five environments"),
    "paper fig6": ("hesrl.paper.fig6", "PPO's return against the step size, scaled and not"),
    "paper fig7": ("hesrl.paper.fig7", "learning on the simulated UR5 Reacher, three optimizers"),
    "paper fig8": ("hesrl.paper.fig8", "update time against outputs and layers"),
    "paper fig9": ("hesrl.paper.fig9", "CIFAR-100 against the step size"),
    "paper fig10": ("hesrl.paper.fig10", "as fig5, five more environments"),
    "paper fig11": ("hesrl.paper.fig11", "as fig6, A2C"),
    "paper fig12": ("hesrl.paper.fig12", "as fig6, four more environments"),
    "paper fig13": ("hesrl.paper.fig13", "as fig6, Humanoid and HumanoidStandup"),
    "example pruning": ("hesrl.examples.pruning", "prune by curvature and by magnitude"),
    "example upgd": ("hesrl.examples.upgd", "learn tasks one after the other by weights' utility"),
    "ur5 emulator": ("hesrl.envs.ur5.commands.serve_emulator", "emulate the controller of a UR5"),
    "ur5 check": ("hesrl.envs.ur5.commands.check", "read what a UR controller sends"),
    "ur5 timing": ("hesrl.envs.ur5.commands.step_times", "play episodes and see how time is kept"),
    "ur5 jog": ("hesrl.envs.ur5.commands.jog", "move shoulder and elbow slowly"),
    "sweep": ("hesrl.experiments.sweeps.sweep", "the training runs of a grid, from a YAML file"),
    "sweep agents": (
        "hesrl.experiments.sweeps.sweep_agents",
        "a grid of agents and step sizes, by options",
    ),
    "plot curves": ("hesrl.experiments.reports.curves", "learning curves of runs in one picture"),
    "report": ("hesrl.experiments.reports.report", "statistics and figures of a sweep"),
}
"""Module and help line of each command; the module has an ``Args`` dataclass and a ``main``."""


def run_command(
    args_class: type[ArgsT],
    main: Callable[[ArgsT], int],
    argv: Sequence[str] | None = None,
    prog: str | None = None,
) -> int:
    """Parse the command line into ``args_class``, run ``main`` and return the exit status.

    Args:
        args_class: A dataclass of settings.
        main: Takes the settings and returns the exit status.
        argv: The arguments; those of the process if None.
        prog: Name of the command in its help.

    Returns:
        What ``main`` returned; 2 after a mistake in the input and 1 after a number that is not
        finite or an environment that broke, all with one line on standard error.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    preset: dict[str, Any] = {}
    if (defaults := defaults_for(args_class, argv)) is not None:
        preset["default"] = defaults
    try:
        args, unknown = _parse(args_class, argv, prog, preset)
        if unknown:
            raise UserError(unknown_option(unknown[0], args))
        return main(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (FloatingPointError, EnvironmentFault) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("aborted; the last checkpoint is kept", file=sys.stderr)
        return 130


def _parse(
    args_class: type[ArgsT], argv: list[str], prog: str | None, preset: dict[str, Any]
) -> tuple[ArgsT, list[str]]:
    """Return the settings of a command line, and what is none of them.

    Raises:
        UserError: A value is missing or impossible; what tyro says of it in a box, in one line.
        SystemExit: Help was asked for, and has been printed.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(
                args_class, args=argv, prog=prog, return_unknown_args=True, add_help=True, **preset
            )
    except SystemExit as end:
        if not end.code:
            raise
    lines = [line.strip("│ ") for line in box.getvalue().splitlines()[1:]]
    rules = [line for line in lines if not line.strip("─-")]
    text = itertools.dropwhile(rules.__contains__, lines)
    words = " ".join(itertools.takewhile(lambda line: line not in rules, text))
    raise UserError(f"{words.removeprefix('Error ').rstrip('.')}; --help lists the options")


def unknown_option(option: str, args: Any) -> str:
    """Return what is wrong with an option that ``args``, a dataclass of settings, does not have."""
    name = option.split("=")[0]
    if name in (hints := getattr(args, "HINTS", {})):
        return f"unknown option {name}: {hints[name]}"
    known = ["--" + field.replace("_", "-") for field in vars(args)]
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "--help lists the options"
    return f"unknown option {name}: {hint}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` names and return the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for words in (2, 1):
        name = " ".join(argv[:words])
        if name in COMMANDS:
            module = importlib.import_module(COMMANDS[name][0])
            return run_command(module.Args, module.main, argv[words:], prog=f"hesrl {name}")
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: hesrl COMMAND [OPTIONS]; COMMAND --help lists the options\n")
        for command, (_, help_line) in COMMANDS.items():
            print(f"  hesrl {command:17} {help_line}")
        return 0
    name = " ".join(argv[:2])
    near = get_close_matches(name, COMMANDS, n=1, cutoff=0.3)
    hint = f"did you mean hesrl {near[0]}?" if near else "hesrl --help lists the commands"
    print(f"error: unknown command hesrl {name}: {hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
