"""Say how the curvature of a loss is computed: which rule handles which operation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from hesrl.curvature.arming.store import is_armed
from hesrl.curvature.exactness import EXACT, exactness_of
from hesrl.curvature.graph import Graph, node_of
from hesrl.curvature.method import Method, check_method
from hesrl.curvature.parameter_names import names_of
from hesrl.curvature.plan import Plan, plan_for
from hesrl.curvature.rule_registry import Local, Pointwise

_PARAMETER, _FORK = "parameter", "drops cross terms"
Row: TypeAlias = tuple[str, ...]

_HEADINGS = (
    "operation",
    "output",
    "handled by",
    "second derivative",
    "exactness",
    "where its output forks",
)
_LONGEST = 500
"""The most lines of a block that is looked for."""


def explain(
    loss: Tensor,
    params: nn.Module | Mapping[str, Tensor] | Iterable[Tensor] | None = None,
    method: Method = "hesscale",
) -> None:
    """Print the graph between a loss and its parameters, from the loss downwards.

    One line for each operation: its node, the shape of its output, the rule that handles it, what
    becomes of its second derivative, and whether that is exact. "exact" means that the diagonal at
    the inputs is as good as the diagonal at the output. "drops off-diagonals" means that it is as
    good only if the Hessian with respect to the output is diagonal. "as if elementwise" means that
    BL89 takes only the slope of every output entry by its own input entry. The last column marks
    tensors whose paths to the loss meet again in curved operations outside a diamond: their
    contributions are added. Lines that equal layers repeat are printed once. A summary follows. No
    curvature is computed.

    Args:
        loss: A scalar that autograd recorded.
        params: The parameters: a module, tensors by name, or tensors, which have the names that
            modules and optimizers know; those that are armed if None.
        method: The estimator.

    Raises:
        ValueError: The method is unknown or follows no rules, or the loss depends on none of the
            parameters.
        MissingRuleError: An operation between the loss and the parameters has no rule.
    """
    check_method(method)
    if method in ("hutchinson", "ggn_mc"):
        raise ValueError(f"{method} follows no rules that could be explained")
    root = node_of(loss)
    graph = Graph([root] if root is not None else [])
    leaves = {leaf: graph.nodes[leaf].variable for leaf in graph.structure.leaves}
    if params is None:
        params = filter(is_armed, leaves.values())
    chosen = _named(params)
    wanted = frozenset(leaf for leaf, variable in leaves.items() if id(variable) in chosen)
    if not wanted:
        raise ValueError("the loss depends on no armed parameter: arm some, or name them in params")
    plan = plan_for(graph, wanted, method)
    forks = _crossing_forks(plan)
    rows = []
    for node in range(len(graph.nodes) - 1, -1, -1):
        if node in wanted:
            name = f"{_PARAMETER} {chosen[id(leaves[node])]}".rstrip()
            described = ("", "", "")
        elif plan.rules[node] is not None:
            name, described = graph.nodes[node].name(), _describe(graph, plan, node)
        else:
            continue
        rows.append((name, _shape(graph, node), *described, _FORK if node in forks else ""))
    print(*table_lines(_HEADINGS, rows), *_summary(rows, len(plan.diamonds)), sep="\n")


def _named(params: nn.Module | Mapping[str, Tensor] | Iterable[Tensor]) -> dict[int, str]:
    """Return the names of parameters by their id; no name is ""."""
    if isinstance(params, nn.Module):
        params = dict(params.named_parameters())
    if isinstance(params, Mapping):
        return {id(param): name for name, param in params.items()}
    params = list(params)
    return dict(zip(map(id, params), names_of(params), strict=True))


def _summary(rows: Sequence[Row], diamonds: int) -> Iterator[str]:
    """Yield what the rows come to: how many operations are exact, and what is dropped where."""
    operations = [row for row in rows if row[2]]
    params = _count(len(rows) - len(operations), _PARAMETER)
    yield f"{_count(len(operations), 'operation')}, {params}:"
    for exactness, count in Counter(row[4] for row in operations).most_common():
        which = Counter(row[0] for row in operations if row[4] == exactness)
        yield f"  {count} {exactness}" + ("" if exactness == EXACT else f" ({_listed(which)})")
    if diamonds:
        yield f"  {_count(diamonds, 'diamond')}, whose operations are handled as one"
    forks = Counter(row[0] for row in rows if row[5])
    if forks:
        yield f"  {_FORK} at {_count(forks.total(), 'fork')} ({_listed(forks)})"


def _count(things: int, name: str) -> str:
    return f"{things} {name}{'s' * (things != 1)}"


def _listed(names: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in names.most_common())


def _crossing_forks(plan: Plan) -> set[int]:
    """Return the nodes with an output of whose paths some meet again where curvature is."""
    facts = plan.facts
    consumers: dict[int, list[int]] = {}
    for (source, _), uses in facts.uses.items():
        consumers.setdefault(source, []).extend(node for node, _ in uses)
    above: dict[int, int] = {}
    """For each node, as bits, the nodes from it to the loss that have curvature."""
    for node in range(len(plan.rules) - 1, -1, -1):
        is_curved = bool(facts.curved[node]) or facts.needs_gradient(node)
        above[node] = (is_curved or node in facts.nonzero) << node
        for consumer in consumers.get(node, ()):
            above[node] |= above[consumer]
    forks = set()
    for entry, uses in facts.uses.items():
        diamond = facts.diamond_at.get(entry)
        members = diamond.members if diamond is not None else frozenset()
        seen = 0
        for node in members:
            outside = 0
            for consumer in consumers.get(node, ()):
                if consumer not in members:
                    outside |= above[consumer]
            if seen & outside:
                forks.add(entry[0])
            seen |= outside
        for node in members:
            seen |= above[node] | 1 << node
        for consumer, _ in uses:
            if consumer not in members:
                if seen & above[consumer]:
                    forks.add(entry[0])
                seen |= above[consumer]
    return forks


def _shape(graph: Graph, node: int) -> str:
    return str(tuple(graph.nodes[node]._input_metadata[0].shape))


def _describe(graph: Graph, plan: Plan, node: int) -> tuple[str, str, str]:
    """Return what handles a node, what becomes of its second derivative, and how exact that is."""
    rule = plan.rules[node]
    handler, has_second = "the gradient's own map", False
    if isinstance(rule, Pointwise):
        handler = _name(rule.partials)
        has_second = bool(plan.facts.curved[node]) or (
            node in plan.facts.dropped and rule.curved != ()
        )
    elif isinstance(rule, Local):
        handler, has_second = _name(rule.curvature), not rule.linear
    diamonds = sum(node in diamond.members for diamond in plan.diamonds)
    if diamonds:
        handler += f" (in {_count(diamonds, 'diamond')})"
    second = "none" if not has_second else "dropped" if node in plan.facts.dropped else "kept"
    if second == "dropped":
        return handler, second, "drops second derivatives"
    return handler, second, exactness_of(graph, plan, node)


def _name(rule: Callable[..., Any]) -> str:
    return f"{rule.__module__.removeprefix('hesrl.curvature.')}.{rule.__name__.lstrip('_')}"


def table_lines(heading: Row, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table, whose columns are aligned.

    A run of equal blocks is printed once, and below it how many lines are repeated, and how often.
    Numbers within the first column may differ, as in equal layers.
    """
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]

    def line(row: Row) -> str:
        return "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip()

    yield line(heading)
    for start, size, count in _blocks(rows):
        yield from map(line, rows[start : start + size])
        if count > 1:
            yield f"… × {count}, the last {size} lines" if size > 1 else f"… × {count}"


def _blocks(rows: Sequence[Row]) -> Iterator[tuple[int, int, int]]:
    """Split rows into blocks: where each starts, how long it is, and how often it comes."""
    kinds = [(re.sub(r"\d+", "0", first), *others) for first, *others in rows]
    best = [(0, 1, 1)] * len(rows)
    """For each row the block from it on that saves most lines, with how many."""
    for size in range(1, min(len(rows) // 2, _LONGEST) + 1):
        equal = 0
        for start in range(len(rows) - size - 1, -1, -1):
            equal = equal + 1 if kinds[start] == kinds[start + size] else 0
            count = equal // size + 1
            best[start] = max(best[start], (size * (count - 1) - 1, size, count))
    start = 0
    while start < len(rows):
        saved, size, count = best[start]
        if saved < 1:
            size = count = 1
        yield start, size, count
        start += size * count
