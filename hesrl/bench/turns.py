"""How contenders are measured: in turns, in processor time, and by what they allocate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from torch.profiler import ProfilerActivity, profile

from hesrl.measuring.updates import Update
from hesrl.runs.atomic import require_writable
from hesrl.runs.machine import describe_machine

TURN = 0.1
"""Shortest time that a turn takes (s)."""


def begin(out: Path | None = None) -> Console:
    """Return where to print, after a line on the machine.

    Args:
        out: File that the results are to go to.

    Raises:
        UserError: The file cannot be written.
    """
    require_writable(out)
    console = Console()
    console.print(describe_machine(), highlight=False)
    return console


def processor_seconds(update: Update) -> float:
    """Return the processor's seconds for one update, the mean over a turn."""
    count, start = 0, time.thread_time()
    while True:
        update()
        count += 1
        seconds = time.thread_time() - start
        if seconds > TURN:
            return seconds / count


def take_turns(
    contenders: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: bool = False
) -> dict[str, list[float]]:
    """Measure every contender once in each round, so that all meet a change of the machine's speed.

    Args:
        contenders: What measures each contender, by name.
        rounds: How many rounds.
        warm_up: Whether a round that does not count comes first.

    Returns:
        The measurements of each contender, one for each round.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-warm_up, rounds):
        for name, measure in contenders.items():
            value = measure()
            if number >= 0:
                found[name].append(value)
    return found


def ratios(values: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Return the ratio to the baseline within each round."""
    return [value / base for value, base in zip(values, baseline, strict=True)]


def median_ratio(values: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the median of the ratios within the rounds."""
    return median(ratios(values, baseline))


def peak_allocation(update: Update, count: int = 1) -> int:
    """Return the most bytes that PyTorch holds on the CPU in some updates, beyond those before."""
    # Without `acc_events` PyTorch 2.11 warns that it would forget a second recording.
    cpu = [ProfilerActivity.CPU]
    with profile(activities=cpu, profile_memory=True, acc_events=True) as profiler:
        for _ in range(count):
            update()
    results = profiler.profiler
    assert results is not None and results.kineto_results is not None
    held = peak = 0
    for event in sorted(results.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak
