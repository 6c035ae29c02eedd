"""Figure 11: return against step size, see `hesrl.paper.sensitivity`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hesrl.paper.rl_command import FigureArgs
from hesrl.paper.sensitivity import make_figure


@dataclass
class Args(FigureArgs):
    """Train with and without scaled steps, by many step sizes (Figure 11 of the paper)."""

    out: Path = Path("results/paper/fig11")
    """where figure, data and report go"""


def main(args: Args) -> int:
    """Run what the store lacks and write the page."""
    return make_figure("fig11", args)
