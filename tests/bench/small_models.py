"""Models that stand for the families of a library."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hesrl.bench.coverage_examine import Build, Case
from hesrl.bench.coverage_inputs import case_of


class Unknown(torch.autograd.Function):
    """An operation without a rule."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return 2 * grad


class Other(Unknown):
    """Another one."""


class Net(nn.Module):
    """Two layers, with something between them."""

    def __init__(self, between=torch.tanh) -> None:
        super().__init__()
        self.first, self.last, self.between = nn.Linear(3, 4), nn.Linear(4, 2), between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)))


def crash(x: Tensor) -> Tensor:
    os._exit(7)


def sleep(x: Tensor) -> Tensor:
    time.sleep(1000)
    return x


def at_random(x: Tensor) -> Tensor:
    return x * os.urandom(1)[0]


def fail(x: Tensor) -> Tensor:
    raise ValueError("needs\nanother input")


BETWEEN = {
    "good": torch.tanh,
    "missing": lambda x: torch.sin(Unknown.apply(x)) + Other.apply(x),
    "crash": crash,
    "slow": sleep,
    "random": at_random,
    "broken": fail,
}


def families() -> list[str]:
    return list(BETWEEN)


def find(family: str) -> Iterator[Build]:
    def build() -> Case:
        return case_of(f"Net {family}", Net(BETWEEN[family]), torch.randn(5, 3))

    yield build


def find_second(family: str) -> Iterator[Build]:
    yield from find("broken")
    yield from find(family)
