"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from hesrl.experiments.reports.comparisons import Comparison
from hesrl.experiments.reports.report_words import verdict
from hesrl.experiments.reports.scores import SCORES, Method, Scores
from hesrl.experiments.reports.statistics import Interval, mean_interval, number
from hesrl.runs.figures import SCALED

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f9; color: #1c2430;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 12px 0 16px; }
h2 { font-size: 1.3rem; margin: 0 0 6px; }
p { margin: 6px 0; max-width: 78ch; }
section, .lead { background: #fff; border: 1px solid #e3e7ec; border-radius: 10px;
  padding: 18px 22px 20px; margin: 18px 0; }
.lead { border-left: 5px solid #0072b2; font-size: 1.08rem; }
.lead p { max-width: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 0; }
dt { color: #5a6675; } dd { margin: 0; overflow-wrap: anywhere; }
.note { color: #5a6675; font-size: 0.93rem; }
.wide { overflow-x: auto; margin: 12px -6px 0; padding: 0 6px; }
.wide img { display: block; margin: 0 auto; width: 100%; min-width: 560px; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: #5a6675; border-bottom: 2px solid #d5dbe2; }
th, td { padding: 5px 14px 5px 0; white-space: nowrap; vertical-align: top; }
td { border-bottom: 1px solid #edf0f3; }
th.n, td.n { text-align: right; padding: 5px 0 5px 14px; }
th.group { padding-top: 14px; color: #1c2430; border-bottom: 1px solid #d5dbe2; }
.dot { display: inline-block; width: 0.75em; height: 0.75em; border-radius: 50%;
  border: 2px solid; margin-right: 7px; }
small { color: #5a6675; font-size: 0.86em; }
ul { margin: 6px 0; padding-left: 20px; } li { margin: 3px 0; overflow-wrap: anywhere; }
@media (max-width: 600px) {
  main { padding: 12px 10px 40px; } section, .lead { padding: 14px 14px 16px; }
  h1 { font-size: 1.45rem; } dl { grid-template-columns: 1fr; } dd { margin-bottom: 6px; }
  small { display: block; }
}
"""

METHOD_NOTES = (
    "Normalized scores are 0 at the lowest and 1 at the highest mean of the settings in this "
    "store, in each environment by itself, or at the reference scores that were given.",
    "Final scores are mean returns of the training episodes in the last tenth of a run, or of the "
    "last ones where none ended there; areas are means of the whole curve, evaluations those of "
    "the evaluation episodes.",
    "IQM is the mean of the middle half of all runs; the optimality gap is what is missing to 1, "
    "so that less is better; the median is that of the environments' means.",
    "The probability of improvement is that of a run scoring higher than a run of the other, in "
    "an environment drawn at random.",
    "Intervals hold the truth with probability 95 %. They are of Student's form, with the spread "
    "of a bootstrap stratified by environment; those of shares are Wilson's. Definitions: "
    "Agarwal et al. (2021), arXiv 2108.13264.",
    "Curves are means of the seeds. The time at a step is the mean of the seeds as well.",
)


def page(
    title: str, known: Mapping[str, str], sentences: Mapping[str, Sequence[str]],
    warned: Sequence[str], scores: Scores, several: Sequence[Comparison],
    figures: Mapping[str, tuple[str, bytes]],
) -> str:  # fmt: skip
    """Return the page.

    Args:
        title: Its title.
        known: What was run (`report_words.facts`).
        sentences: Who is best, by the title of the comparison.
        warned: What is missing.
        scores: The scores.
        several: The comparisons.
        figures: Title and SVG by name.
    """
    chosen = f"Settings were chosen by the {scores.chosen_by} seeds; " + (
        f"all that is shown is of the {scores.shown} seeds, which chose nothing."
        if scores.shown != scores.chosen_by
        else "the same seeds are shown."
    )
    if not scores.differing:
        chosen = f"All that is shown is of the {scores.shown} seeds; there was nothing to choose."
    parts = [
        f'<div class="lead">{"".join(map(_said, sentences, sentences.values()))}'
        f"<p class='note'>{escape(chosen)}</p></div>",
        f"<section><h2>What was run</h2><dl>{_pairs(known)}</dl></section>",
        _section("Missing, and how it counts", _list(warned)) if warned else "",
        _section("Scores in each environment", _scores_table(scores, several[0]),
                 f"{several[0].title}, {scores.shown} seeds"),
        *(_figure_section(*figures[name]) for name in figures if name.startswith("curves")),
        *(_figure_section(*figures[name], extra=table)
          for name, table in (("aggregates", _aggregates_table(scores, several)),
                              ("improvement", _improvement_table(scores, several)),
                              ("profiles", ""), ("step-size", "")) if name in figures),
        _section("Settings that were chosen", _choices_table(scores, several),
                 f"by the mean {scores.score} score of the {scores.chosen_by} seeds"),
        _section("How this was computed", _list(METHOD_NOTES)),
    ]  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</main></body></html>\n"
    )


def _said(title: str, words: Sequence[str]) -> str:
    return f"<p><b>{escape(title[0].upper() + title[1:])}.</b> {escape(' '.join(words))}</p>"


def _pairs(known: Mapping[str, str]) -> str:
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(v)}</dd>" for name, v in known.items() if v)


def _section(title: str, content: str, note: str = "") -> str:
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{said}{content}</section>"


def _figure_section(title: str, svg: bytes, extra: str = "") -> str:
    data = base64.b64encode(svg).decode()
    width = re.search(rb'<svg[^>]* width="([\d.]+)pt"', svg)
    assert width is not None, "matplotlib gives the width of an SVG in points"
    image = (
        f'<img alt="{escape(title)}" style="max-width:{1.75 * float(width[1]):.0f}px" '
        f'src="data:image/svg+xml;base64,{data}">'
    )
    return _section(title, f'<div class="wide">{image}</div>{extra}')


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _table(header: Sequence[str], groups: Mapping[str, Sequence[Sequence[str]]], texts: int) -> str:
    """Return a table in groups of rows.

    Args:
        header: Names of the columns.
        groups: Rows by the title of their group, which may be empty; cells are HTML.
        texts: How many columns at the left are text; all others are numbers.
    """

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{'' if i < texts else ' class=n'}>{cell}</{tag}>" for i, cell in enumerate(row)
        )

    lines = []
    for title, rows in groups.items():
        if title:
            lines.append(f"<tr><th class=group colspan={len(header)}>{escape(title)}</th></tr>")
        lines += [f"<tr>{cells(row, 'td')}</tr>" for row in rows]
    head = f"<thead><tr>{cells(header, 'th')}</tr></thead>"
    return f'<div class="wide"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'


def _named(scores: Scores, method: Method) -> str:
    """Return the name of a method after a dot of its colour, a ring for a scaled optimizer."""
    color = scores.styles[method]["color"]
    fill = "#fff" if method.optimizer.startswith(SCALED) else color
    style = f"background:{fill};border-color:{color}"
    return f'<span class="dot" style="{style}"></span>{escape(method.label)}'


def _cell(interval: Interval, form: str = "") -> str:
    """Return a value with its interval in small print."""
    value, bracket, ends = interval.text(form).partition(" (")
    return f"{value} <small>({ends}</small>" if bracket else value


def _scores_table(scores: Scores, comparison: Comparison) -> str:
    groups = {}
    for env_id in scores.env_ids:
        rows, values = [], []
        for method, choice in comparison.choices.items():
            candidate = choice[env_id]
            runs = scores.runs.get((candidate, env_id, scores.shown), {}) if candidate else {}
            if candidate is None or not runs:
                rows.append([_named(scores, method), *["–"] * len(SCORES), "no runs", "0", "", ""])
                values.append(-np.inf)
                continue
            found = {
                name: mean_interval(
                    np.array(list(scores.by_seed(candidate, env_id, scores.shown, name).values()))
                )
                for name in SCORES
            }
            diverged = sum(record.status == "diverged" for record in runs.values())
            minutes = float(np.mean([record.seconds for record in runs.values()])) / 60
            rows.append([
                _named(scores, method), *map(_cell, found.values()),
                escape(scores.label(candidate)), f"{len(runs)}",
                "–" if np.isnan(minutes) else number(minutes), f"{diverged}",
            ])  # fmt: skip
            values.append(float(found[scores.score].value))
        column = 1 + SCORES.index(scores.score)
        if np.isfinite(values).any():
            best = rows[int(np.nanargmax(values))]
            best[column] = f"<b>{best[column]}</b>"
        groups[env_id] = rows
    header = ["method", *SCORES, "settings", "seeds", "minutes", "diverged"]
    return _table(header, groups, texts=1)


def _aggregates_table(scores: Scores, several: Sequence[Comparison]) -> str:
    groups = {
        c.title: [
            [_named(scores, m), *(_cell(column[m], ".2f") for column in c.aggregates.values())]
            for m in c.scores
        ]
        for c in several
    }
    return _table(["method", *several[0].aggregates], groups, texts=1)


def _improvement_table(scores: Scores, several: Sequence[Comparison]) -> str:
    groups = {
        comparison.title: [
            [_named(scores, method), verdict(chance), escape(other.label), _cell(chance, ".2f")]
            for method, (other, chance) in comparison.improvements.items()
        ]
        for comparison in several
    }
    return _table(["method", "is", "than", "probability"], groups, texts=3)


def _choices_table(scores: Scores, several: Sequence[Comparison]) -> str:
    if not scores.differing:
        return "<p>Each method has one setting only.</p>"
    best, *others = several
    rows = []
    for method, choice in best.choices.items():
        cells = [escape(scores.label(choice[env_id])) for env_id in scores.env_ids]
        if others:
            (one,) = {*others[0].choices[method].values()}
            cells.append(escape(scores.label(one)))
        rows.append([_named(scores, method), *cells])
    header = [*map(escape, scores.env_ids), *["all environments"] * len(others)]
    return _table(["method", *header], {"": rows}, texts=len(header) + 1)
