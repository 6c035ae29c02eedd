"""Figure 7: learning curves of PPO on the UR5 Reacher, here on the simulated arm.

Every run is `hesrl train ppo` with its preset for the UR5, and without what keeps step sizes small
near the end of a run: annealing, and the clipping of gradients and values.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from hesrl.agents import ppo
from hesrl.errors import UserError
from hesrl.experiments.sweeps.executors import run_in_process
from hesrl.experiments.sweeps.trial import Trial, settings_of
from hesrl.experiments.sweeps.trial_process import opened_run
from hesrl.measuring.collect import collect
from hesrl.measuring.report import Claim, Report, write_report
from hesrl.measuring.tables import markdown_table, mean_cell
from hesrl.paper.fig7_curves import EPISODES, GOOD, SMOOTHED, Curve, Row, curves, means
from hesrl.paper.fig7_plot import plot_curves
from hesrl.runs.metrics import read_metric
from hesrl.settings import MAX_STEPS, Scale, require_between

PAPER_OPTIONS = (
    "--no-anneal-lr", "--max-grad-norm=inf", "--no-clip-vloss", "--variance-network",
)  # fmt: skip
"""What the paper's PPO has besides the preset."""
ADAM, SCALED_ADAM = "adam", "scaled-adam"


@dataclass
class Args:
    """Train PPO on the simulated UR5 Reacher by several optimizers (Figure 7 of the paper)."""

    SCALES: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "optimizers": (ADAM,),
            "seeds": 1,
            "total_timesteps": 10_000,
            "options": ("--num-minibatches=1", "--update-epochs=1", "--compile=off"),
        },
        "small": {"seeds": 2},
    }

    scale: Scale = "paper"
    """smoke (seconds), small (an hour) or paper (all seeds); it stands for what is not given"""
    optimizers: tuple[str, ...] = (ADAM, SCALED_ADAM, "scaled-adahesscale")
    """optimizers by name"""
    seeds: int = 5
    """runs of each optimizer, with the seeds from 1"""
    total_timesteps: int = 150_000
    """length of each run (environment steps, 100 to an episode)"""
    options: tuple[str, ...] = ()
    """further options of every run, such as --options=--learning-rate=3e-3"""
    jobs: int = 1
    """runs at the same time; each keeps one core busy"""
    out: Path = Path("results/paper/fig7")
    """where figure, data and report go; finished runs in it are not repeated"""


def main(args: Args) -> int:
    """Make the runs that are missing and write the report.

    Raises:
        UserError: A setting is impossible, a run failed, or the folder cannot be used.
    """
    _check(args)
    # Seed after seed, so that a part of them shows all optimizers.
    runs = [f"{name}-{seed}" for seed in range(1, args.seeds + 1) for name in args.optimizers]
    identity = {"steps": args.total_timesteps, "options": args.options}
    collected = collect(partial(measure, args), runs, Row, args.out, identity, args.jobs)
    found = curves(collected.rows)
    options = " ".join((*PAPER_OPTIONS, *args.options))
    report = Report(
        "fig7",
        "Figure 7: PPO on the UR5 Reacher",
        f"Returns of training episodes, {args.seeds} run(s) of {args.total_timesteps:,} steps for "
        "each optimizer, in simulation; the paper's are on an arm. Each run is `hesrl train ppo "
        f"--ur5 {options}`. Every point of the data is the mean of {EPISODES} episodes; curves and "
        f"numbers are means of the last {EPISODES * SMOOTHED} episodes. At random a return is "
        "−96 ± 110 (standard deviation), by a controller that knows the Jacobian 299 ± 107.",
        list(find_claims(found)),
        [_summary_table(found), _run_table(found)],
    )
    write_report(report, args, collected, plot_curves(found))
    return 0


def _check(args: Args) -> None:
    require_between(args, "seeds jobs", 1, float("inf"))
    shortest = 100 * EPISODES * SMOOTHED
    require_between(args, "total_timesteps", shortest, MAX_STEPS)
    for name in args.optimizers:
        if name not in ppo.DEFAULTS:
            raise UserError(f"--optimizers {name}: choose from {', '.join(ppo.DEFAULTS)}")
    if not args.optimizers or len(set(args.optimizers)) < len(args.optimizers):
        raise UserError("--optimizers must be one or more different names")


def measure(args: Args, run: str) -> list[Row]:
    """Return the learning curve of one run, named ``<optimizer>-<seed>``.

    Raises:
        UserError: It failed; the message has its last line.
    """
    optimizer, _, seed = run.rpartition("-")
    with tempfile.TemporaryDirectory(prefix="hesrl-fig7-") as folder:
        options = (
            "--ur5", "--optimizer", optimizer, "--total-timesteps", str(args.total_timesteps),
            "--eval-episodes", "1", *PAPER_OPTIONS, *args.options,
        )  # fmt: skip
        settings = tuple(sorted(settings_of("ppo", options).items()))
        record = run_in_process(Trial("ppo", settings, int(seed)), Path(folder))
        if record.status != "done":
            raise UserError(f"the run {run} failed: {record.line}")
        steps, returns = read_metric(opened_run(Path(folder)), "charts/episodic_return")
    if len(returns) < EPISODES * SMOOTHED:
        raise UserError(
            f"the run {run} had {len(returns)} episodes; a curve needs {EPISODES * SMOOTHED}: "
            "raise --total-timesteps"
        )
    return [
        Row(optimizer, int(seed), int(step), round(float(mean), 2))
        for step, mean in zip(steps[EPISODES - 1 :: EPISODES], means(returns), strict=True)
    ]


def find_claims(found: dict[str, list[Curve]]) -> Iterator[Claim]:
    """Yield what the paper says about Figure 7, and whether it is so."""
    for optimizer, several in ((ADAM, True), (SCALED_ADAM, False)):
        runs = found.get(optimizer)
        if runs:
            worse = sum(curve.deteriorates for curve in runs)
            drops = ", ".join(f"{curve.drop:.0f}" for curve in runs)
            yield Claim(
                "Adam's policy deteriorates after its peak in several runs"
                if several
                else "Scaled Adam's policy does not deteriorate",
                worse > 1 if several else worse == 0,
                f"{worse} of {len(runs)} runs; from peak to end they lose {drops}",
            )


def _summary_table(found: dict[str, list[Curve]]) -> str:
    rows = []
    for optimizer, runs in found.items():
        good = [curve.steps_to_good for curve in runs]
        reached = [step for step in good if step is not None]
        steps = f"{sum(reached) / len(reached):,.0f}" if reached else "–"
        worse = sum(curve.deteriorates for curve in runs)
        counts = f"{len(reached)} of {len(runs)}", f"{worse} of {len(runs)}"
        rows.append([optimizer, mean_cell([curve.final for curve in runs], ".0f"), steps, *counts])
    header = ["optimizer", "return at the end", f"steps to {GOOD:+}", "reached", "deteriorated"]
    return "Means of the runs, with 95 % intervals.\n\n" + markdown_table(header, rows)


def _run_table(found: dict[str, list[Curve]]) -> str:
    rows = []
    for optimizer, runs in found.items():
        for curve in runs:
            peak = f"{curve.peak:.0f}", f"{curve.peak_step:,}"
            end = f"{curve.final:.0f}", f"{curve.drop:.0f}"
            rows.append([f"{optimizer}, seed {curve.seed}", *peak, *end])
    return markdown_table(["run", "peak", "at step", "end", "drop"], rows)
