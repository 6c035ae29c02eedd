"""Read the autograd graph of a loss: the order of its nodes, their rules, its regions.

PyTorch records the graph for the gradient; curvature needs nothing more, so the forward pass
stays native. `Graph` walks it once from the roots and finds

- an order in which every node comes after all of its consumers,
- the nodes through which a wanted parameter is reached,
- the *regions*: connected elementwise nodes that together form one operation. Rules per node
  drop the cross terms where two paths from one tensor meet again in a nonlinear operation
  (PPO's ``log_std`` reaches the log-density through both σ and log σ); a region keeps them;
- log-softmax written as ``x − logsumexp(x)``, and its exponential written as a softmax, as
  `torch.distributions.Categorical` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from hesrl.curvature.registry import Pointwise, Rule, find_rule
from hesrl.curvature.rules.softmax import EXP_OF_LOG_SOFTMAX, LOG_SOFTMAX_BY_LOGSUMEXP, saved_dim

Edge = tuple[Any, int]
"""A tensor of the graph: the node that made it and which of its outputs it is."""

LEAF = "torch::autograd::AccumulateGrad"


class MissingRuleError(RuntimeError):
    """An operation on the way from a wanted parameter to the loss has no curvature rule."""


class Region:
    """Connected elementwise nodes that are differentiated as one operation.

    With the total gradient ``g`` known at every node (the gradient pass gives it) the exact
    second derivative along the region needs first-order tangents ``d = ∂node/∂x`` only:

        h(x) = Σ_nodes [ d² h_outside + g Σ_ij f_ij d_i d_j ]

    where ``h_outside`` is the curvature that consumers outside the region give to a node.
    """

    __slots__ = ("nodes", "outside", "partials", "pending")

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.partials: dict[Any, tuple[Any, tuple[Any, ...], list[tuple[int, int, Tensor]]]] = {}
        self.outside: dict[Any, Tensor] = {}
        self.pending = 0


class Graph:
    """The part of an autograd graph through which the wanted parameters reach the roots.

    Args:
        roots: Nodes to start from, ``loss.grad_fn``.
        wanted: Says of a leaf tensor whether its curvature is wanted.

    Attributes:
        order: Non-leaf nodes, every node after all of its consumers.
        useful: The nodes, leaves included, through which a wanted leaf is reached.
        leaves: The wanted leaves, with the edge that leads to each.
        rules: The rule of each node in ``order``; of region members, their pointwise rule.
        region_of: The region of each node that shares one with others.
        entered_by: For each tensor that enters regions, those regions.

    Raises:
        MissingRuleError: A node that leads to a wanted leaf has no rule.
    """

    def __init__(self, roots: Iterable[Any], wanted: Callable[[Tensor], bool]) -> None:
        self.order: list[Any] = []
        self.leaves: list[tuple[Edge, Tensor]] = []
        self.rules: dict[Any, Rule] = {}
        self.region_of: dict[Any, Region] = {}
        self.entered_by: dict[Edge, list[Region]] = {}
        edges, order = _sort(roots)
        self.useful = self._find_useful(order, edges, wanted)
        self.order = [node for node in order if node in self.useful and edges[node]]
        self._find_rules(edges)
        self._find_regions(edges)

    def _find_useful(
        self, order: list[Any], edges: dict[Any, tuple[Edge, ...]], wanted: Callable[[Tensor], bool]
    ) -> set[Any]:
        """Return the nodes through which a wanted leaf is reached; collect those leaves."""
        useful = set()
        for node in reversed(order):
            if not edges[node]:
                if node.name() == LEAF and wanted(node.variable):
                    self.leaves.append(((node, 0), node.variable))
                    useful.add(node)
            elif any(source in useful for source, _ in edges[node]):
                useful.add(node)
        return useful

    def _find_rules(self, edges: dict[Any, tuple[Edge, ...]]) -> None:
        skipped = set()
        for node in self.order:
            if node in skipped:
                continue
            logsumexp = _log_softmax_by_logsumexp(node, edges)
            if logsumexp is not None:
                self.rules[node] = LOG_SOFTMAX_BY_LOGSUMEXP
                skipped.add(logsumexp)
            elif _is_exp_of_log_softmax(node, edges):
                self.rules[node] = EXP_OF_LOG_SOFTMAX
            else:
                rule = find_rule(node)
                if rule is None:
                    raise self._missing(node)
                self.rules[node] = rule
        if skipped:
            self.order = [node for node in self.order if node not in skipped]

    def _missing(self, node: Any) -> MissingRuleError:
        name = node.name()
        shape = tuple(node._input_metadata[0].shape)
        below, _ = _sort([node])
        leaves = [leaf for (source, _), leaf in self.leaves if source in below]
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves[:3])
        more = ", …" if len(leaves) > 3 else ""
        return MissingRuleError(
            f"no curvature rule for {name} (output of shape {shape}), which lies between the loss "
            f"and parameters of shape {shapes}{more}: register one with "
            f"hesrl.curvature.register_rule({name!r})"
        )

    def _find_regions(self, edges: dict[Any, tuple[Edge, ...]]) -> None:
        """Group elementwise nodes that touch and have the same depth.

        Depth counts the other operations on the longest way to the root. Without it all of a
        residual stream would be one region, and each of its many inputs would walk all of it.
        """
        depth: dict[Any, int] = dict.fromkeys(self.order, 0)
        consumers: dict[Any, list[Any]] = {}
        rules = self.rules
        for node in self.order:
            pointwise = type(rules[node]) is Pointwise
            below = depth[node]
            if pointwise:
                for consumer in consumers.get(node, ()):
                    if depth[consumer] == below:
                        self._join(consumer, node)
                inputs = [source for source in edges[node] if source[0] in self.useful]
                if len(inputs) > len(set(inputs)):
                    self._join(node, node)
            for source, _ in edges[node]:
                rule = rules.get(source)
                if rule is None:
                    continue
                if pointwise and type(rule) is Pointwise:
                    consumers.setdefault(source, []).append(node)
                    level = below
                else:
                    level = below + 1
                if level > depth[source]:
                    depth[source] = level
        if self.region_of:
            for node in self.order:
                region = self.region_of.get(node)
                if region is not None:
                    region.nodes.append(node)
                    self._note_inputs(region, edges[node])

    def _note_inputs(self, region: Region, edges: tuple[Edge, ...]) -> None:
        for edge in edges:
            if edge[0] in self.useful and self.region_of.get(edge[0]) is not region:
                regions = self.entered_by.setdefault(edge, [])
                if region not in regions:
                    regions.append(region)
                    region.pending += 1

    def _join(self, consumer: Any, node: Any) -> None:
        """Put two neighbours, and the regions that they are in, into one region."""
        region = self.region_of.setdefault(consumer, Region())
        other = self.region_of.get(node, region)
        if other is not region:
            for member, current in self.region_of.items():
                if current is other:
                    self.region_of[member] = region
        self.region_of[node] = region


def _sort(roots: Iterable[Any]) -> tuple[dict[Any, tuple[Edge, ...]], list[Any]]:
    """Return the edges of every node below the roots, and the nodes with consumers first."""
    edges: dict[Any, tuple[Edge, ...]] = {}
    uses: dict[Any, int] = dict.fromkeys(roots, 0)
    stack = list(uses)
    while stack:
        node = stack.pop()
        if node in edges:
            continue
        edges[node] = node.next_functions
        for source, _ in edges[node]:
            if source is not None:
                uses[source] = uses.get(source, 0) + 1
                if source not in edges:
                    stack.append(source)
    order = [node for node, count in uses.items() if count == 0]
    for node in order:
        for source, _ in edges[node]:
            if source is not None:
                uses[source] -= 1
                if uses[source] == 0:
                    order.append(source)
    return edges, order


def _log_softmax_by_logsumexp(node: Any, edges: dict[Any, tuple[Edge, ...]]) -> Any | None:
    """Return the logsumexp node if ``node`` is ``x − logsumexp(x, keepdim=True)``."""
    if node.name() != "SubBackward0":
        return None
    (x, _), (logsumexp, _) = edges[node]
    if x is None or logsumexp is None or logsumexp.name() != "LogsumexpBackward0":
        return None
    same = edges[logsumexp][0] == edges[node][0]
    alone = sum(logsumexp is source for below in edges.values() for source, _ in below) == 1
    plain = node._saved_alpha == 1 and logsumexp._saved_keepdim
    return logsumexp if same and alone and plain else None


def _is_exp_of_log_softmax(node: Any, edges: dict[Any, tuple[Edge, ...]]) -> bool:
    """Whether ``node`` is the softmax, over the same dimension, of a log-softmax."""
    if node.name() != "SoftmaxBackward0":
        return False
    source = edges[node][0][0]
    ndim = len(node._input_metadata[0].shape)
    dim = saved_dim(node._saved_dim, ndim)
    if source.name() == "LogSoftmaxBackward0":
        return saved_dim(source._saved_dim, ndim) == dim
    logsumexp = _log_softmax_by_logsumexp(source, edges)
    return logsumexp is not None and [saved_dim(d, ndim) for d in logsumexp._saved_dim] == [dim]
