"""Tables of the benchmark of agents: speeds, parts of a step, and start-up."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from rich.table import Table

from hesrl.bench.agent_parts import PARTS, Parts
from hesrl.bench.turns import median_ratio


class Row(NamedTuple):
    """A contender, its speeds over the rounds, and where its time went in the last one."""

    env_id: str
    num_envs: int
    contender: str
    steps_per_second: str
    """Median over the rounds."""
    lowest: str
    highest: str
    ratio: str
    """Median over the rounds of the ratio to the fastest of theirs; empty without one."""
    ratio_to_first: str
    """The same, to the first one of hesrl."""
    parts: str
    """Microseconds per step, by the names of `PARTS`; empty for theirs."""


CORES = (16, 64)
"""Cores for which the speed is computed from the measured parts."""


def speed_rows(
    speeds: dict[str, list[float]], parts: dict[str, Parts], env_id: str, num_envs: int
) -> list[Row]:
    """Return a row for each contender.

    Args:
        speeds: Steps per second of each contender, over the rounds.
        parts: Seconds per step of those that have parts, in the last round.
        env_id: Gymnasium id of the environment.
        num_envs: Environments.
    """
    rows = []
    for name, values in speeds.items():
        agent = name.split()[1]
        of_agent = [other for other in speeds if other.split()[1] == agent]
        theirs = [other for other in of_agent if not other.startswith("hesrl")]
        ours = [other for other in of_agent if other.startswith("hesrl")]
        seconds = parts.get(name, {})
        to_theirs, to_ours = (
            f"{median_ratio(values, speeds[other]):.2f}" if other else ""
            for other in (_fastest(theirs, speeds), ours[0] if ours else None)
        )
        rows.append(
            Row(
                env_id=env_id,
                num_envs=num_envs,
                contender=name,
                steps_per_second=f"{median(values):.0f}",
                lowest=f"{min(values):.0f}",
                highest=f"{max(values):.0f}",
                ratio=to_theirs,
                ratio_to_first=to_ours,
                parts=" ".join(f"{x}={1e6 * seconds[x]:.1f}" for x in PARTS if x in seconds),
            )
        )
    return rows


def speed_table(rows: Sequence[Row], title: str) -> Table:
    """Return the speeds and their ratios."""
    table = Table(
        "contender", "steps/s", "range", "µs", "to their fastest", "to our first", title=title
    )
    table.columns[0].no_wrap = table.columns[2].no_wrap = True
    for row in rows:
        speed, lowest, highest = map(int, (row.steps_per_second, row.lowest, row.highest))
        table.add_row(
            row.contender,
            f"{speed:,}",
            f"{lowest:,}–{highest:,}",
            f"{1e6 / speed:.1f}",
            row.ratio or "–",
            row.ratio_to_first or "–",
        )
    return table


def _fastest(names: list[str], speeds: dict[str, list[float]]) -> str | None:
    return max(names, key=lambda name: median(speeds[name]), default=None)


def parts_table(parts: dict[str, Parts], num_envs: int, threads: int) -> Table:
    """Return where the time goes, and of several environments the speed on more cores.

    By Amdahl's law: physics, which took ``threads``, is divided among the cores, the rest is not.
    """
    names = [name.removeprefix("hesrl ").replace(",", "") for name in parts]
    table = Table("µs per step, last round", *names)
    for part in PARTS:
        columns = (seconds.get(part) for seconds in parts.values())
        table.add_row(part, *("–" if part is None else f"{1e6 * part:.1f}" for part in columns))
    table.add_row("sum", *(f"{1e6 * sum(seconds.values()):.1f}" for seconds in parts.values()))
    for number in CORES if num_envs > 1 else ():
        gains = (
            seconds["physics"] * (1 - threads / min(number, num_envs)) for seconds in parts.values()
        )
        speeds = (
            1 / (sum(seconds.values()) - gain)
            for seconds, gain in zip(parts.values(), gains, strict=True)
        )
        table.add_row(f"steps/s, {number} cores", *(f"{speed:,.0f}" for speed in speeds))
    return table
