"""Figures that leave matplotlib's global settings alone, and the colours of the optimizers."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hesrl.errors import UserError
from hesrl.runs.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OPTIMIZER_COLORS = {
    "sgd": "#8a6d3b",
    "adam": "#000000",
    "adahessian": "#d55e00",
    "adahesscale": "#0072b2",
    "adahesscalegn": "#56b4e9",
    "adabl89": "#cc79a7",
    "adaggnmc": "#e69f00",
    "kfac": "#009e73",
}
"""The colour of each optimizer in every figure; its scaled form has the same one, and dashes.

The colours are those of Okabe and Ito without their yellow, which is too light for a line, and with
a brown. They are told apart also without red or green cones.
"""

FORMATS = ("png", "pdf", "svg")
SCALED = "scaled-"


def optimizer_color(name: str) -> str:
    """Return the colour of an optimizer, or grey for one that is not in `OPTIMIZER_COLORS`."""
    return OPTIMIZER_COLORS.get(name.removeprefix(SCALED), "#7f7f7f")


def line_styles(names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return colour and dashes of lines, which differ from each other as long as they can.

    The first line of an optimizer is solid, or dashed if the optimizer is scaled; further lines
    have other dashes. Optimizers without a colour of their own take those that are left.

    Args:
        names: Optimizer and label of each line.
    """
    names = list(names)
    families = {optimizer.removeprefix(SCALED) for optimizer, _ in names}
    unused = [c for name, c in OPTIMIZER_COLORS.items() if name not in families]
    unknown = sorted(families - OPTIMIZER_COLORS.keys())
    spare = {name: unused[i % len(unused)] for i, name in enumerate(unknown)} if unused else {}
    solid: list[Any] = ["-", ":", (0, (1, 3)), (0, (8, 2, 1, 2))]
    dashed: list[Any] = ["--", "-.", (0, (3, 1, 1, 1, 1, 1)), (0, (8, 4))]
    seen: dict[str, int] = {}
    styles = {}
    for optimizer, label in names:
        number = seen[optimizer] = seen.get(optimizer, -1) + 1
        dashes = dashed if optimizer.startswith(SCALED) else solid
        family = optimizer.removeprefix(SCALED)
        styles[optimizer, label] = {
            "color": spare.get(family) or optimizer_color(family),
            "linestyle": dashes[number % len(dashes)],
        }
    return styles


def new_figure(width: float, height: float, dpi: int = 110) -> Figure:
    """Return an empty figure; its sizes are in inches."""
    # Importing matplotlib takes 0.4 s, which only the end of a run needs.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def check_format(option: str, path: Path) -> None:
    """Refuse a name of a picture that `write_figure` cannot write.

    Raises:
        UserError: The name ends otherwise; the message names the option.
    """
    if path.suffix[1:] not in FORMATS:
        raise UserError(f"{option} {path}: must end with .png, .pdf or .svg")


def write_figure(path: Path, figure: Figure) -> None:
    """Replace ``path`` by a picture of the figure, in the format of its ending.

    Raises:
        UserError: The file cannot be written.
    """
    write_atomically(path, picture(figure, path.suffix[1:]))


def picture(figure: Figure, form: str) -> bytes:
    """Return a picture of the figure as PNG, PDF or SVG; equal figures have equal pictures."""
    from matplotlib import rc_context

    image = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    with rc_context({"svg.hashsalt": "hesrl"}):
        figure.savefig(image, format=form, metadata=metadata)
    return image.getvalue()


def freeze_layout(figure: Figure) -> None:
    """Lay the figure out once, so that several pictures of it do not each take the time again."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


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


def legend_outside(figure: Figure, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Name lines below the figure, which grows until all names fit.

    Args:
        figure: The figure, with all that it shows.
        styles: Colour and dashes of each line, by its name.
    """
    from matplotlib.lines import Line2D

    inches = 0.65 + 0.08 * max(map(len, styles))  # of a name of 10 points with its line
    width, height = figure.get_size_inches()
    width = max(width, inches + 0.3)
    rows = -(-len(styles) // max(1, int(width / inches)))
    figure.set_size_inches(width, height + 0.22 * rows)
    lines = [Line2D([], [], linewidth=2, **style) for style in styles.values()]
    figure.legend(
        lines,
        list(styles),
        frameon=False,
        fontsize=10,
        loc="outside lower center",
        ncols=-(-len(styles) // rows),
        handlelength=3.2,
    )


def label_steps(ax: Axes, fontsize: int = 12) -> None:
    """Make the horizontal axis one of environment steps: 0, 100k, 200k."""
    from matplotlib.ticker import EngFormatter

    ax.set_xlabel("environment steps", fontsize=fontsize)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_xlim(left=0)
