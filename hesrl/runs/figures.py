"""Figures that leave matplotlib's global settings and backend alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from hesrl.runs.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, dpi: int = 110) -> Figure:
    """Return an empty figure; its sizes are in inches."""
    # Importing matplotlib takes 0.4 s, which only the end of a run needs.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_png(path: Path, figure: Figure) -> None:
    """Replace ``path`` by a picture of the figure.

    Raises:
        UserError: The file cannot be written.
    """
    image = io.BytesIO()
    figure.savefig(image, format="png")
    write_atomically(path, image.getbuffer())


def style_axes(ax: Axes, grid: str = "y") -> None:
    """Draw grid lines behind the data, and no frame above and at the right."""
    ax.grid(axis=grid, color="0.9")  # type: ignore[arg-type]
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, ax: Axes, columns: int) -> None:
    """Name below the figure what one of its axes shows."""
    figure.legend(
        *ax.get_legend_handles_labels(),
        frameon=False,
        fontsize=11,
        loc="outside lower center",
        ncols=columns,
    )


def label_steps(ax: Axes, fontsize: int = 12) -> None:
    """Make the horizontal axis one of environment steps: 0, 100k, 200k."""
    from matplotlib.ticker import EngFormatter

    ax.set_xlabel("environment steps", fontsize=fontsize)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_xlim(left=0)
