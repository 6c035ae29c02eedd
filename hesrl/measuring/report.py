"""The report of an experiment: figure, data, and a page on what the paper claims and what came."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from hesrl.measuring.collect import Collected
from hesrl.measuring.tables import markdown_table, to_csv
from hesrl.runs.atomic import write_atomically
from hesrl.runs.figures import write_figure
from hesrl.runs.machine import describe_machine
from hesrl.runs.provenance import provenance
from hesrl.settings import flag

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Claim(NamedTuple):
    """Something that is said, as by the paper, and what was found."""

    text: str
    """The claim."""
    holds: bool | None
    """Whether it holds here; None where the numbers leave that open."""
    found: str
    """The numbers that decide."""


_WORDS = {True: "holds", False: "does not hold", None: "undecided"}


class Report(NamedTuple):
    """What a page says besides the settings of the command line."""

    name: str
    """Name of the command and of the files, such as ``"fig2"``."""
    title: str
    """Title of the page."""
    text: str
    """What was measured and how, in Markdown."""
    claims: Sequence[Claim]
    """Claims of the paper, or of others."""
    tables: Sequence[str]
    """Tables of numbers, in Markdown."""
    group: str = "paper"
    """First word of the command, as in ``hesrl paper fig2``."""
    heading: str = "the paper says"
    """Heading of the claims."""


def write_report(report: Report, args: Any, collected: Collected[Any], figure: Figure) -> None:
    """Write ``<name>.png``, ``<name>.csv`` and ``<name>.md`` to ``args.out``; print the claims.

    Args:
        report: The contents of the page.
        args: The settings, a dataclass with the folder ``out``.
        collected: The data.
        figure: The figure.

    Raises:
        UserError: The folder cannot be written.
    """
    page = _page(report, args, collected)
    write_figure(args.out / f"{report.name}.png", figure)
    columns = collected.rows[0]._fields
    write_atomically(args.out / f"{report.name}.csv", to_csv(columns, collected.rows))
    write_atomically(args.out / f"{report.name}.md", page.encode())
    console = Console()
    for claim in report.claims:
        line = f"{_WORDS[claim.holds]}: {claim.text} ({claim.found})"
        console.print(line, highlight=False, markup=False)
    console.print(f"report in {args.out / report.name}.md", highlight=False, soft_wrap=True)


def _page(report: Report, args: Any, collected: Collected[Any]) -> str:
    source = provenance()
    commit = source["commit"] or "unknown"
    state = " with changes" if source["dirty"] else ""
    claims = [
        (
            claim.text,
            _WORDS[claim.holds].replace(_WORDS[False], f"**{_WORDS[False]}**"),
            claim.found,
        )
        for claim in report.claims
    ]
    return "\n".join(
        [
            f"# {report.title}\n",
            f"{report.text}\n",
            f"    {_command(report, args)}\n",
            f"![{report.title}]({report.name}.png)\n",
            markdown_table([report.heading, "here", "numbers"], claims, names=3),
            *report.tables,
            f"Data: [{report.name}.csv]({report.name}.csv). Machine: {describe_machine()}. "
            f"hesrl {source['versions']['hesrl']}, commit {commit[:12]}{state}. "
            f"It took {collected.seconds:,.0f} s.\n",
        ]
    )


def _command(report: Report, args: Any) -> str:
    """Return the command line that gives these settings, without those that are defaults."""
    words = ["hesrl", report.group, report.name]
    for field in dataclasses.fields(args):
        value = getattr(args, field.name)
        if isinstance(value, bool):
            name = flag(field.name)
            words += [] if value == field.default else [name if value else f"--no-{name[2:]}"]
        elif field.name != "out" and value != field.default:
            values = value if isinstance(value, tuple) else (value,)
            words += [flag(field.name), *map(str, values)]
    return shlex.join(words)
