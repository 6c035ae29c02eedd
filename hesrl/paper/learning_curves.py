"""Learning curves of the agents at the best step size of each optimizer (Figures 5 and 10).

The authors choose the step size by the seeds that they report. Their way stands beside runs with
fresh seeds, which nothing was chosen by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hesrl.experiments.reports.statistics import mean_interval
from hesrl.measuring.report import Claim
from hesrl.measuring.tables import markdown_table, mean_cell
from hesrl.paper.rl_command import Kind, Page, Point, points
from hesrl.paper.rl_results import Array, Chosen, Results, Task
from hesrl.paper.verdicts import all_of, difference
from hesrl.runs.figures import label_steps, legend_below, new_figure, optimizer_color, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FASTER = ("Ant-v5", "Walker2d-v5", "HalfCheetah-v5", "Hopper-v5")
"""Where A2C with AdaHesScale is said to learn clearly more than with Adam and AdaHessian."""
SIMILAR = 0.25
"""Difference from Adam's score, as a part of it, up to which two optimizers are called similar."""
WAYS = {"reported": "seeds that chose", "fresh": "fresh seeds"}

Found = Mapping[tuple[Task, str], Mapping[str, Chosen]]
"""Chosen runs by task and optimizer, and by way."""


def draw(results: Results) -> Page:
    """Return the page of runs that have finished."""
    found = chosen_runs(results)
    return Page(
        "Mean return of training episodes, with 95 % intervals over the seeds. Left of each pair: "
        "the authors' way, which reports the seeds by which the step size was chosen, by the mean "
        "return of the whole run and without step sizes at which a seed diverged. Right: seeds "
        "that nothing was chosen by; their step size has the highest mean return in the last tenth "
        "of the runs with the other seeds. Claims are judged by the fresh seeds where there are "
        "any.",
        list(find_claims(results, found)),
        [_table(results, found)],
        list(_points(results, found)),
        _plot(results, found),
    )


def chosen_runs(results: Results) -> dict[tuple[Task, str], dict[str, Chosen]]:
    """Return the chosen runs of each way, where there are any."""
    found = {}
    for task in results.tasks:
        for optimizer in results.optimizers:
            ways = {
                "reported": results.by_reported_seeds(task, optimizer),
                "fresh": results.by_fresh_seeds(task, optimizer),
            }
            found[task, optimizer] = {way: runs for way, runs in ways.items() if runs is not None}
    return found


def _scores(found: Found, task: Task, optimizer: str) -> Any:
    """Return the final scores to judge by, None without any."""
    ways = found.get((task, optimizer), {})
    chosen = ways.get("fresh", ways.get("reported"))
    return None if chosen is None else chosen.final


def find_claims(results: Results, found: Found) -> Iterator[Claim]:
    """Yield what the paper says about the curves, and whether it is so."""
    better: list[bool | None] = []
    for task in results.tasks:
        ours, adam, hessian = (
            _scores(found, task, name) for name in ("adahesscale", "adam", "adahessian")
        )
        if ours is None or adam is None or hessian is None:
            continue
        gains = {"Adam": difference(ours, adam), "AdaHessian": difference(ours, hessian)}
        if task.agent == "ppo":
            better.append(gains["AdaHessian"].is_above())
            yield _similar(task, gains["Adam"], float(np.mean(adam)))
        elif task.env_id in FASTER:
            yield Claim(
                f"{task.label}: AdaHesScale learns more than Adam and AdaHessian",
                all_of(gain.is_above() for gain in gains.values()),
                "; ".join(f"{gain.text('+,.0f')} against {name}" for name, gain in gains.items()),
            )
    if better:
        above, below = better.count(True), better.count(False)
        most = len(better) / 2
        yield Claim(
            "PPO: AdaHesScale learns more than AdaHessian in most environments",
            True if above > most else False if below >= most else None,
            f"more in {above}, less in {below}, undecided in {better.count(None)}",
        )


def _similar(task: Task, gain: Any, adam: float) -> Claim:
    margin = SIMILAR * abs(adam)
    inside = gain.low > -margin and gain.high < margin
    outside = gain.low > margin or gain.high < -margin
    return Claim(
        f"{task.label}: AdaHesScale learns as much as Adam",
        True if inside else False if outside else None,
        f"{gain.text('+,.0f')} against Adam's {adam:,.0f} (similar: up to {SIMILAR:.0%} of it)",
    )


def _table(results: Results, found: Found) -> str:
    header = ["task", "optimizer"]
    for words in WAYS.values():
        header += [f"step size, {words}", f"last tenth, {words}", "diverged"]
    rows = []
    for (task, optimizer), ways in found.items():
        cells = [task.label, optimizer]
        for way in WAYS:
            runs = ways.get(way)
            cells += (
                ["–", "–", "–"]
                if runs is None
                else [
                    f"{runs.learning_rate:g}",
                    mean_cell(runs.final.tolist(), ",.0f"),
                    f"{runs.diverged} of {len(runs.final)}",
                ]
            )
        rows.append(cells)
    return markdown_table(header, rows, names=2)


def _steps(results: Results, task: Task, runs: Chosen) -> Array:
    """Return the environment steps of the points of curves."""
    count = runs.curves.shape[1]
    return results.steps(task) * np.arange(1, count + 1) / count


def _points(results: Results, found: Found) -> Iterator[Point]:
    for (task, optimizer), ways in found.items():
        for way, runs in ways.items():
            curve, steps = mean_interval(runs.curves), _steps(results, task, runs)
            yield from points(task, optimizer, way, steps, curve, digits=1)


def _plot(results: Results, found: Found) -> Figure:
    """Draw a row for each environment: its agents, each with both ways."""
    agents = list(dict.fromkeys(task.agent for task in results.tasks))
    env_ids = list(dict.fromkeys(task.env_id for task in results.tasks))
    columns = [(agent, way) for agent in agents for way in WAYS]
    figure = new_figure(3.6 * len(columns), 2.7 * len(env_ids) + 0.6)
    panels = figure.subplots(len(env_ids), len(columns), sharey="row", squeeze=False)
    for (agent, way), ax in zip(columns, panels[0], strict=True):
        ax.set_title(f"{agent.upper()}, {WAYS[way]}", fontsize=12, loc="left")
    for env_id, row in zip(env_ids, panels, strict=True):
        for (agent, way), ax in zip(columns, row, strict=True):
            for optimizer in results.optimizers:
                runs = found.get((Task(agent, env_id), optimizer), {}).get(way)
                if runs is not None:
                    _draw(ax, optimizer, runs, _steps(results, Task(agent, env_id), runs))
            style_axes(ax)
            label_steps(ax, fontsize=9)
        row[0].set_ylabel(f"return, {env_id}", fontsize=10)
    legend_below(figure, panels[0, 0], columns=4)
    return figure


def _draw(ax: Axes, optimizer: str, runs: Chosen, steps: Array) -> None:
    color, curve = optimizer_color(optimizer), mean_interval(runs.curves)
    ax.plot(steps, curve.value, color=color, linewidth=1.6, label=optimizer)
    ax.fill_between(steps, curve.low, curve.high, color=color, alpha=0.18, linewidth=0)


CURVES = Kind("curves", "learning curves of A2C and PPO", draw)
