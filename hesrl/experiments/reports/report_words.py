"""What a report says in words: what was run, who is best, and what is missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from hesrl.experiments.reports.comparisons import Comparison, improvement
from hesrl.experiments.reports.curves_plot import seeds_text
from hesrl.experiments.reports.scores import FINISHED, Method, Scores, value_of
from hesrl.experiments.reports.statistics import Interval, mean_interval
from hesrl.experiments.sweeps.store import Record

IN_ORDER = ("done", "diverged", "failed", "running", "pending")
LISTED = 20
"""Most lines of failed runs on the page."""


def facts(scores: Scores, records: Sequence[Record]) -> dict[str, str]:
    """Return what was run, by its name."""
    finished = [record for record in records if record.status in FINISHED]
    seeds = {
        role: seeds_text({r.trial.seed for r in finished if r.trial.role == role})
        for role in sorted({record.trial.role for record in finished}, reverse=True)
    }
    steps = sorted({record.trial["total_timesteps"] for record in finished})
    counts = Counter(record.status for record in records)
    hours = sum(r.seconds for r in records if not math.isnan(r.seconds)) / 3600
    return {
        "environments": ", ".join(scores.env_ids),
        "compared": ", ".join(method.label for method in scores.methods),
        **{f"{role} {text.split()[0]}": text.split(" ", 1)[1] for role, text in seeds.items()},
        "steps of a run": " or ".join(f"{step:,}" for step in steps),
        "runs": ", ".join(f"{counts[s]:,} {s}" for s in IN_ORDER if counts[s]),
        "time of training": f"{hours:,.1f} h in all" if hours else "",
        "hesrl": ", ".join(sorted({record.version for record in finished if record.version})),
    }


def caption_of(known: dict[str, str]) -> str:
    """Return the facts that stand in every figure."""
    names = ("environments", "tuning seeds", "tuning seed", "test seeds", "test seed")
    words = [f"{name} {known[name]}" if "seed" in name else known[name]
             for name in names if name in known]  # fmt: skip
    return " · ".join([*words, f"{known['steps of a run']} steps", f"hesrl {known['hesrl']}"])


def verdict(interval: Interval) -> str:
    """Return what a probability of improvement says: better, worse, or undecided."""
    return {True: "better", False: "worse", None: "undecided"}[interval.is_above(0.5)]


def summary(scores: Scores, several: Sequence[Comparison]) -> dict[str, list[str]]:
    """Return sentences on who is best, and with what probability, by the comparison's title."""
    said = {}
    for comparison in several:
        ranked = sorted(
            comparison.aggregates["IQM"].items(), key=lambda item: float(-item[1].value)
        )
        if len(ranked) < 2:
            said[comparison.title] = _alone(scores, comparison)
            continue
        (best, value), (second, _), *_ = ranked
        against = dict.fromkeys([second])
        if best in comparison.improvements:
            against[comparison.improvements[best][0]] = None
        said[comparison.title] = [
            f"{best.label} has the largest IQM, {value.text('.2f')}.",
            *(_improves(comparison, best, other) for other in against),
        ]
    return said


def _alone(scores: Scores, comparison: Comparison) -> list[str]:
    """Return what each method reaches, where there is no second one to compare it with."""
    sentences = ["There is nothing to compare."]
    for method, choice in comparison.choices.items():
        for env_id, candidate in choice.items():
            values = scores.by_seed(candidate, env_id, scores.shown) if candidate else {}
            if values:
                found = mean_interval(np.array(list(values.values())))
                score = f"{scores.score} score in {env_id}: {found.text()}."
                sentences.append(f"{method.label}, {score}")
    return sentences


def _improves(comparison: Comparison, method: Method, other: Method) -> str:
    chance = improvement(comparison.scores, method, other)
    word = {"better": "better than", "worse": "worse than", "undecided": "undecided against"}
    return (
        f"It is {word[verdict(chance)]} {other.label}: a run scores higher with probability "
        f"{chance.text('.2f')}."
    )


def warnings(scores: Scores, several: Sequence[Comparison], records: Iterable[Record]) -> list[str]:
    """Return what a reader has to know: what is missing, and what counts as what."""
    records = list(records)
    lines = []
    if scores.shown == scores.chosen_by and any(len(c) > 1 for c in scores.methods.values()):
        lines.append(
            f"There are {scores.shown} seeds only: settings were chosen by the seeds that are "
            "shown, so that the best ones look better than they are."
        )
    counts = Counter(record.status for record in records)
    diverged = Counter(record.trial.get("optimizer") for record in records
                       if record.status == "diverged")  # fmt: skip
    if diverged:
        who = ", ".join(f"{name} {count}" for name, count in diverged.most_common())
        lines.append(
            f"{_runs(counts['diverged'])} diverged ({who}). A run that diverged is a result: it "
            "has the lowest score of all runs of its environment, and so has its curve from there."
        )
    unfinished = counts["pending"] + counts["running"]
    if unfinished:
        lines.append(f"{_runs(unfinished)} not finished yet and left out.")
    silent = sum(
        record.status == "done" and math.isnan(value_of(record, scores.score)) for record in records
    )
    if silent:
        lines.append(
            f"{_runs(silent)} done without any episode that ended: the score is the lowest of all "
            "runs of the environment."
        )
    lines += _incomplete(scores, several)
    failed = [record for record in records if record.status == "failed"]
    if failed:
        lines.append(f"{_runs(len(failed))} failed and left out (hesrl sweep --retry-failed):")
        lines += [f"{record.trial.label}: {record.line}" for record in failed[:LISTED]]
        lines += [f"… and {len(failed) - LISTED} more"] * (len(failed) > LISTED)
    return lines


def _runs(count: int) -> str:
    return f"{count:,} run{'' if count == 1 else 's'}"


def _incomplete(scores: Scores, several: Sequence[Comparison]) -> list[str]:
    """Return which methods have fewer environments or seeds than others."""
    if scores.flat:
        return ["There is no scale for normalized scores, as all means are equal: --reference."]
    lines = []
    for comparison in several:
        if left := [e for e in scores.env_ids if e not in comparison.env_ids]:
            lines.append(f"{comparison.title}: not every method has runs in {', '.join(left)}; "
                         "aggregates are without.")  # fmt: skip
        missing = [m.label for m in comparison.choices if m not in comparison.scores]
        if missing:
            lines.append(f"{comparison.title}: no seed of {', '.join(missing)} has a run in every "
                         "environment; aggregates are without.")  # fmt: skip
        most = max(map(len, comparison.seeds.values()), default=0)
        for method, seeds in comparison.seeds.items():
            if len(seeds) < most:
                lines.append(f"{comparison.title}: {method.label} has {len(seeds)} of {most} seeds "
                             "in every environment; aggregates are of these.")  # fmt: skip
        if most == 1:
            lines.append(f"{comparison.title}: there is one seed, and so there are no intervals.")
    return lines
