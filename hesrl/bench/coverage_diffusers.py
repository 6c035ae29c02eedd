"""Networks of diffusers with a few small layers: UNets, transformers and autoencoders.

Their settings and inputs are in ``coverage_diffusers.yaml``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.resources import files
from typing import Any

import torch
import yaml

from hesrl.bench.coverage_examine import Build, Case, Library
from hesrl.bench.coverage_inputs import case_of

_MAKERS: dict[str, Callable[[list[int]], torch.Tensor]] = {
    "ones": torch.ones,
    "uniform": torch.rand,
    "index": partial(torch.randint, 10),
}
_ALWAYS: dict[str, Callable[[], torch.Tensor]] = {
    "timestep": lambda: torch.tensor([3]),
    "encoder_hidden_states": lambda: torch.randn(1, 5, 16),
}
"""What a network gets whose ``forward`` takes it, unless the file says otherwise."""


@cache
def models() -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``settings`` and ``inputs`` of each model."""
    text = (files("hesrl.bench") / "coverage_diffusers.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def families() -> list[str]:
    """Return the names of the models that this diffusers has."""
    diffusers: Any = importlib.import_module("diffusers")
    return [name for name in sorted(models()) if hasattr(diffusers, name)]


def find(family: str) -> Iterator[Build]:
    """Yield what builds a model."""
    yield partial(_case, family)


def _case(family: str) -> Case:
    settings, inputs = models()[family]["settings"], models()[family]["inputs"]
    model = getattr(importlib.import_module("diffusers"), family)(**settings)
    takes = inspect.signature(model.forward).parameters
    found = {name: make() for name, make in _ALWAYS.items() if name in takes}
    return case_of(family, model, **found | {name: _made(value) for name, value in inputs.items()})


def _made(value: Any) -> Any:
    """Return a tensor of normal numbers for a list, its shape, and another kind if it is named."""
    if isinstance(value, list):
        return torch.randn(value)
    if isinstance(value, dict) and len(value) == 1:
        ((kind, shape),) = value.items()
        return _MAKERS[kind](shape)
    return value


DIFFUSERS = Library(
    "diffusers", ("diffusers.models.transformers", "diffusers.models.unets"), families, find
)
