"""Figure 10: learning curves of A2C and PPO, see `hesrl.paper.learning_curves`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hesrl.paper.learning_curves import make_figure
from hesrl.paper.rl_command import FigureArgs


@dataclass
class Args(FigureArgs):
    """Train A2C and PPO by several optimizers and step sizes (Figure 10 of the paper)."""

    out: Path = Path("results/paper/fig10")
    """where figure, data and report go"""


def main(args: Args) -> int:
    """Run what the store lacks and write the page."""
    return make_figure("fig10", args)
