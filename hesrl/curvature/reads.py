"""What a rule reads of a node, so that a node without it is found before any gradient changes.

PyTorch names what an operation saves (``node._saved_self``). Now and then a version renames a saved
value or saves it no more. The bytecode of a rule and of the functions that it calls tells what the
rule reads, so there is nothing to declare. ``getattr(node, "_saved_ord", …)`` does not count: that
value may be missing. What a `torch.autograd.Function` saves is unknown before it runs.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from functools import lru_cache, partial
from types import CodeType, FunctionType
from typing import Any

from torch.autograd.function import BackwardCFunction

from hesrl.curvature.rule_registry import Adjoint, Local, Pointwise, Rule

_PREFIX = "_saved_"


def unreadable(rule: Rule, *kinds: Any) -> list[str]:
    """Return the names of what a rule reads that nodes of some kinds do not have.

    Args:
        rule: The rule.
        *kinds: Classes of nodes, of which one has to have it. Names stand for nodes that have
            nothing to read.
    """
    if any(isinstance(kind, type) and issubclass(kind, BackwardCFunction) for kind in kinds):
        return []
    names: set[str] = set().union(*(_reads(function) for function in _functions(rule)))
    return sorted(name for name in names if not any(hasattr(kind, name) for kind in kinds))


def _functions(rule: Rule) -> Iterator[Any]:
    """Yield the functions of a rule that take a node."""
    if isinstance(rule, Pointwise):
        yield from (rule.partials, rule.alone, rule.gradient_excess)
    elif isinstance(rule, Local):
        yield from (rule.curvature, rule.read)
    else:
        assert isinstance(rule, Adjoint)


@lru_cache(maxsize=1024)
def _reads(function: Any) -> frozenset[str]:
    """Return the names of the saved values that a function reads, and those that it calls."""
    names: set[str] = set()
    todo, done = [function], set()
    while todo:
        value = todo.pop()
        if isinstance(value, partial):
            todo += [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, FunctionType) and value not in done and _is_ours(value, function):
            done.add(value)
            for instruction in _instructions(value.__code__):
                if instruction.opname == "LOAD_GLOBAL":
                    todo.append(value.__globals__.get(instruction.argval))
                elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                    names.add(instruction.argval)
            todo += [cell.cell_contents for cell in value.__closure__ or ()]
    return frozenset(name for name in names if name.startswith(_PREFIX))


def _is_ours(value: FunctionType, rule: Any) -> bool:
    """Whether a function is of hesrl or of the package of the rule, so that it may take a node."""
    package = value.__module__.partition(".")[0]
    return package in ("hesrl", getattr(rule, "__module__", "").partition(".")[0])


def _instructions(code: CodeType) -> Iterator[dis.Instruction]:
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
