"""What users call their parameters, for errors and tables.

Parameters do not know their names. Modules and optimizers do, so they are looked for among the
objects of the process, which takes some tens of milliseconds and leaves no trace in training.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

_MOST = 3
"""How many parameters are listed."""


def names_of(params: Iterable[Tensor]) -> list[str]:
    """Return the longest name that a module or an optimizer has for each parameter, else ""."""
    names: dict[int, str] = {}
    for name, param in _named():
        if len(name) > len(names.get(id(param), "")):
            names[id(param)] = name
    return [names.get(id(param), "") for param in params]


def listed(params: Sequence[Tensor]) -> str:
    """List the first parameters with their shapes: ``0.weight (4, 3), 0.bias (4,), …``."""
    first = params[:_MOST]
    described = (
        f"{name or 'parameter'} {tuple(param.shape)}"
        for name, param in zip(names_of(first), first, strict=True)
    )
    more = len(params) - _MOST
    return ", ".join(described) + (f" and {more} more" if more > 0 else "")


def _named() -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters of all modules and optimizers, with the names that they have there."""
    modules: list[nn.Module] = []
    for thing in gc.get_objects():
        kind = type(thing)
        if issubclass(kind, nn.Module) and "_modules" in vars(thing):
            modules.append(thing)
        elif issubclass(kind, Optimizer) and "param_groups" in vars(thing):
            for group in thing.param_groups:
                yield from zip(group.get("param_names", ()), group["params"], strict=False)
    inner = {id(child) for module in modules for child in module.children()}
    for module in modules:
        if id(module) not in inner:
            yield from module.named_parameters()
