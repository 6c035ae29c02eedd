"""A report on the runs of a sweep: one HTML page, and its figures as PNG, PDF and SVG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from hesrl.errors import UserError, one_line
from hesrl.experiments.reports.comparisons import comparisons
from hesrl.experiments.reports.report_figures import draw_figures
from hesrl.experiments.reports.report_page import page
from hesrl.experiments.reports.report_words import caption_of, facts, summary, warnings
from hesrl.experiments.reports.scores import FINISHED, collect
from hesrl.experiments.sweeps.store import Record, Store
from hesrl.runs.atomic import make_folder, write_atomically
from hesrl.runs.figures import FORMATS, picture
from hesrl.safe_yaml import load_yaml


@dataclass
class Args:
    """Report on the runs of a sweep, with statistics over seeds and environments."""

    store: tyro.conf.Positional[Path]
    """folder of a hesrl sweep"""
    out: Path | None = None
    """folder of the report; that of the sweep's folder, report/, if none"""
    score: Literal["final", "area", "evaluation"] = "final"
    """what settings are chosen by and methods compared by"""
    compare: tuple[str, ...] = ("optimizer",)
    """settings whose values are compared; the best of all others are chosen"""
    reference: Path | None = None
    """YAML file with the scores that count as 0 and 1, by environment: {Hopper-v5: [20, 3000]}"""
    figures: bool = True
    """write each figure as PNG, PDF and SVG too"""


def main(args: Args) -> int:
    """Write the page and the figures; print who is best and what is missing.

    Raises:
        UserError: There is no store, no run has finished, or the folder cannot be written.
    """
    with Store.open(args.store, read_only=True) as store:
        records = store.records()
    _check(args, records)
    scores = collect(records, args.score, args.compare, _reference(args.reference))
    several = comparisons(scores)
    known = facts(scores, records)
    sentences, warned = summary(scores, several), warnings(scores, several, records)
    drawn = draw_figures(scores, several, caption_of(known))
    vectors = {name: picture(figure, "svg") for name, (_, figure) in drawn.items()}
    pictures = {name: (title, vectors[name]) for name, (title, _) in drawn.items()}
    title = f"Report on {args.store.resolve().name}"
    text = page(title, known, sentences, warned, scores, several, pictures)
    out = args.out or args.store / "report"
    make_folder(out)
    write_atomically(out / "report.html", text.encode())
    if args.figures:
        for name, (_, figure) in drawn.items():
            for form in FORMATS:
                image = vectors[name] if form == "svg" else picture(figure, form)
                write_atomically(out / f"{name}.{form}", image)
    console = Console()
    spoken = [f"{title}: {' '.join(words)}" for title, words in sentences.items()]
    for line in [*spoken, *warned, f"report in {out / 'report.html'}"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _check(args: Args, records: list[Record]) -> None:
    finished = [record for record in records if record.status in FINISHED]
    if not finished:
        failed = next((record for record in records if record.status == "failed"), None)
        reason = f"; {failed.trial.label} failed: {failed.line}" if failed else ""
        raise UserError(f"no run of {args.store} has finished{reason}")
    for name in args.compare:
        if all(record.trial.get(name) is None for record in finished):
            raise UserError(f"--compare {name}: no run of {args.store} has this setting")


def _reference(path: Path | None) -> Mapping[str, tuple[float, float]] | None:
    """Read the scores that count as 0 and 1.

    Raises:
        UserError: The file cannot be read, or has something else.
    """
    if path is None:
        return None
    try:
        content = load_yaml(path.read_bytes())
        scale = {str(env_id): (float(low), float(high)) for env_id, (low, high) in content.items()}
    except OSError as error:
        raise UserError(f"--reference {path}: cannot be read: {error.strerror}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"--reference {path}: give two numbers for each environment, such as "
            f"{{Hopper-v5: [20, 3000]}} ({one_line(error)})"
        ) from error
    if wrong := [env_id for env_id, (low, high) in scale.items() if not low < high]:
        raise UserError(f"--reference {path}: {wrong[0]}: the first number must be the lower one")
    return scale
