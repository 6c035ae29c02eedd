"""The pictures of docs/how_hesscale_works.md: ``python -m tests.bench.pictures`` draws them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hesrl import optim
from hesrl.curvature import hess_diag
from hesrl.runs.figures import new_figure, optimizer_color, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = Path(__file__).parents[2] / "docs"
CURVATURES = (1.0, 100.0)
START = (1.0, 1.0)
RUNS = {"sgd": 0.015, "adam": 0.1, "scaled-adahesscale": 0.5}
"""Step sizes on the quadratic."""
STEPS = 30


def quadratic_path(name: str) -> Tensor:
    """Positions ``(STEPS + 1, 2)`` of an optimizer on ½ Σ c θ²."""
    theta = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    curvatures = torch.tensor(CURVATURES, dtype=torch.float64)
    options = {"betas": (0.0, 0.9), "delta": 1.0} if name.startswith("scaled") else {}
    optimizer = optim.get(name)([theta], lr=RUNS[name], **options)
    path = [theta.detach().clone()]
    for _ in range(STEPS):
        optimizer.zero_grad()
        (0.5 * curvatures * theta.square()).sum().backward()
        optimizer.step()
        path.append(theta.detach().clone())
    return torch.stack(path)


def layer_diagonals() -> list[tuple[Tensor, Tensor]]:
    """HesScale's and the exact diagonal for the weights of each of three layers."""
    torch.manual_seed(0)
    sizes = (6, 16, 16, 3)
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), nn.Tanh()]
    model = nn.Sequential(*layers[:-1]).double()
    x, y = torch.randn(64, sizes[0]).double(), torch.randint(sizes[-1], (64,))
    weights = {name: p for name, p in model.named_parameters() if p.dim() == 2}
    estimate = hess_diag(nn.functional.cross_entropy(model(x), y), weights)
    pairs = []
    for name, weight in weights.items():

        def loss(w: Tensor, name: str = name) -> Tensor:
            out = torch.func.functional_call(model, {name: w}, (x,))
            return nn.functional.cross_entropy(out, y)

        hessian = torch.func.jacrev(torch.func.jacrev(loss))(weight.detach())
        exact = hessian.detach().reshape(weight.numel(), -1).diagonal()
        pairs.append((estimate[name].flatten(), exact))
    return pairs


def plot_paths() -> Figure:
    """Three optimizers on a quadratic whose curvatures differ a hundredfold."""
    figure = new_figure(8, 4.5)
    ax = figure.subplots()
    grid = torch.linspace(-0.3, 1.1, 200)
    a, b = torch.meshgrid(grid, grid, indexing="xy")
    height = 0.5 * (CURVATURES[0] * a.square() + CURVATURES[1] * b.square())
    levels = [0.05, 0.2, 1, 4, 16, 40]
    ax.contour(a.numpy(), b.numpy(), height.numpy(), levels, colors="0.8", linewidths=1)
    for name in RUNS:
        path = quadratic_path(name)
        color = optimizer_color(name)
        ax.plot(*path.T.numpy(), ".-", color=color, linewidth=1, label=f"{name}, {STEPS} steps")
    ax.plot(0, 0, "+", color="0.2", markersize=12)
    ax.set_xlabel(f"θ₁, curvature {CURVATURES[0]:g}")
    ax.set_ylabel(f"θ₂, curvature {CURVATURES[1]:g}")
    ax.legend(frameon=False, loc="upper left")
    style_axes(ax)
    return figure


def plot_layers() -> Figure:
    """HesScale's diagonal against the exact one, layer by layer."""
    figure = new_figure(11, 4)
    axes = figure.subplots(1, 3)
    titles = ("first layer", "second layer", "last layer")
    for ax, title, (estimate, exact) in zip(axes, titles, layer_diagonals(), strict=True):
        low, high = float(exact.min()), float(exact.max())
        ax.plot([low, high], [low, high], "--", color="0.6", linewidth=1)
        ax.plot(exact.numpy(), estimate.numpy(), ".", color=optimizer_color("adahesscale"))
        ax.set_title(title, loc="left")
        ax.set_xlabel("exact second derivative")
        ax.locator_params("x", nbins=4)
        style_axes(ax)
    axes[0].set_ylabel("HesScale")
    return figure


PICTURES = {"how_paths.png": plot_paths, "how_layers.png": plot_layers}


def main() -> None:
    """Write the pictures into docs/."""
    for name, plot in PICTURES.items():
        plot().savefig(DOCS / name)


if __name__ == "__main__":
    main()
