"""What is to be done at which node of an autograd graph, found from its structure alone.

A plan says, for the parameters whose curvature is wanted,

- which rule each node has, and which of its inputs it hands curvature on to: none where that is
  known to be zero (``h(L) = 0``, and linear operations keep it zero) or where nobody needs it;
- which nodes must wait for their gradient, and how many contributions each waits for;
- the diamonds (`hesrl.curvature.diamonds.diamond`), with the steps through each.

It holds no tensors and is kept for the next batch, whose graph has the same structure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hesrl.curvature.analysis import Analysis
from hesrl.curvature.diamonds.diamond import Diamond
from hesrl.curvature.graph import Graph
from hesrl.curvature.method import Method
from hesrl.curvature.rule_registry import Adjoint, Local, Pointwise
from hesrl.curvature.structure import Edge

_MAX_CACHED = 16
"""How many plans a structure keeps, for different parameters and methods."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where one input's curvature goes."""

    position: int
    """Which of the node's inputs it is."""
    fit: Edge | None
    """The tensor whose shape and dtype a rule of several inputs may not have kept."""
    chain: tuple[tuple[int, int], ...]
    """Nodes of one constant coefficient per entry that it passes at once, and their input."""
    edge: Edge
    """The tensor that it reaches through them."""
    outside_of: tuple[Diamond, ...]
    """The diamonds that the tensor is a member of and the node is not."""
    is_total: bool
    """Whether it counts for the tensor's own curvature, not only for those diamonds."""


def plan_for(
    graph: Graph,
    wanted: frozenset[int],
    method: Method,
    seeded: frozenset[Edge] = frozenset(),
) -> Plan:
    """Return the plan of a graph, made once for all graphs of the same structure.

    Args:
        graph: The graph.
        wanted: The numbers of the leaf nodes whose curvature is wanted.
        method: The estimator.
        seeded: The roots whose curvature is not zero; no other node consumes them.

    Raises:
        MissingRuleError: A node that leads to a wanted leaf has no rule.
    """
    plans = graph.structure.plans
    made: list[Plan] = plans.get((method, wanted, seeded), [])
    for plan in made:
        if not plan.facts.fits or plan.facts.fits_to(graph):
            return plan
    if len(plans) >= _MAX_CACHED:
        plans.clear()
    plan = Plan(graph, wanted, method, seeded)
    plans[method, wanted, seeded] = [plan, *made][:_MAX_CACHED]
    return plan


class Plan:
    """The work at each node of a graph; see `plan_for` for the arguments and errors.

    Attributes:
        facts: What the plan follows from.
        rules: The rule of each node that leads to a wanted leaf, else None.
        targets: For each node the inputs that it hands curvature on to.
        hooked: The nodes that wait for their gradient.
        is_eager: For each node whether it is visited as soon as its curvature is complete.
        pending: For each node the number of contributions that its outputs wait for.
        used_pairs: For each elementwise node the pairs of inputs whose second derivative is used.
        diamonds: The diamonds that contribute.
        diamonds_of: For each node that is recorded for diamonds, those.
        moves: The nodes of diamonds that move entries by slopes that are tensors.
    """

    def __init__(
        self, graph: Graph, wanted: frozenset[int], method: Method, seeded: frozenset[Edge]
    ) -> None:
        self.facts = Analysis(graph, wanted, method, seeded)
        self.rules = self.facts.rules
        self.diamonds: list[Diamond] = []
        self._forks: dict[int, list[Diamond]] = {}
        for entry, diamond in self.facts.diamond_at.items():
            if diamond.steps:
                self._forks.setdefault(entry[0], []).append(diamond)
        self._find_work(wanted, seeded)

    def _find_work(self, wanted: frozenset[int], seeded: frozenset[Edge]) -> None:
        """Decide who hands what on, from the leaves upwards: only what somebody needs."""
        count = len(self.facts.sources)
        self.targets: list[tuple[Target, ...]] = [()] * count
        self.pending = [0] * count
        for node, _ in seeded:
            self.pending[node] += 1
        self.diamonds_of: dict[int, list[Diamond]] = {}
        self.hooked: list[int] = []
        self.is_eager = [False] * count
        needed = [False] * count
        """The nodes whose own curvature somebody needs."""
        within: dict[int, list[Diamond]] = {}
        """The diamonds in which a node is a step."""
        for node, rule in enumerate(self.rules):
            if rule is not None:
                self.targets[node] = self._find_targets(node, needed, within)
            diamonds = within.get(node, ())
            needed[node] = node in wanted or bool(self.targets[node])
            for diamond in diamonds:
                if diamond.last == node and diamond.steps[-1].has_outside:
                    needed[node] = True
                if not any(step.node == node and step.is_late for step in diamond.steps):
                    self.diamonds_of.setdefault(node, []).append(diamond)
            if needed[node]:
                self._add_diamonds(node, within)
            if self._waits_for_gradient(node):
                self.hooked.append(node)
            else:
                self.is_eager[node] = bool(self.targets[node]) or node in self.diamonds_of
        self.moves = {
            node
            for node in self.diamonds_of
            if self.facts.moves_entries(node) and not self.facts.has_constant_slope(node)
        }
        self.used_pairs = [self._find_used_pairs(node) for node in range(count)]
        for node in range(count):
            self.targets[node] = tuple(self._chain(target) for target in self.targets[node])

    def _find_targets(
        self, node: int, needed: list[bool], within: dict[int, list[Diamond]]
    ) -> tuple[Target, ...]:
        rule = self.rules[node]
        # `masked_fill` broadcasts its one input to the mask.
        broadcasts = isinstance(rule, Pointwise) and rule.curved == () and not rule.constant
        keeps_shapes = (len(self.facts.sources[node]) == 1 and not broadcasts) or (
            isinstance(rule, Local) and rule.layer
        )
        targets = []
        for position, source in enumerate(self.facts.sources[node]):
            if source is None or not self.facts.useful[source[0]]:
                continue
            if isinstance(rule, Pointwise) and rule.gradient_excess is not None:
                self.pending[source[0]] += 1
            if not self.facts.can_hand_on(node, position):
                continue
            fork = self.facts.diamond_at.get(source)
            is_inside = fork is not None and bool(fork.steps) and node in fork.members
            is_total = needed[source[0]] and not is_inside
            outside_of = tuple(
                diamond
                for diamond in within.get(source[0], ())
                if node not in diamond.members and diamond.last != source[0]
            )
            if is_total:
                self.pending[source[0]] += 1
            if is_total or outside_of:
                fit = None if keeps_shapes else source
                targets.append(Target(position, fit, (), source, outside_of, is_total))
        return tuple(targets)

    def _find_used_pairs(self, node: int) -> set[tuple[int, int]]:
        alone = {(target.position, target.position) for target in self.targets[node]}
        joined = {
            pair
            for diamond in self.diamonds_of.get(node, ())
            for step in diamond.steps
            if step.node == node
            for pair in step.pairs
        }
        return (alone | joined).intersection(self.facts.curved[node])

    def _chain(self, target: Target) -> Target:
        """Lead a target through nodes that only pass on what they get from it."""
        while target.is_total and not target.outside_of:
            node = target.edge[0]
            rule = self.rules[node]
            passes = self.is_eager[node] and node not in self.diamonds_of
            is_simple = (isinstance(rule, Adjoint) and rule.one_output) or (
                isinstance(rule, Pointwise) and rule.constant
            )
            if not (passes and is_simple and self.pending[node] == len(self.targets[node]) == 1):
                break
            (further,) = self.targets[node]
            chain = (*target.chain, (node, further.position), *further.chain)
            target = replace(further, position=target.position, fit=target.fit, chain=chain)
        return target

    def _add_diamonds(self, node: int, within: dict[int, list[Diamond]]) -> None:
        """Note the diamonds that the outputs of a node are the entry of."""
        for diamond in self._forks.get(node, ()):
            self.diamonds.append(diamond)
            self.pending[node] += 1
            for step in diamond.steps:
                within.setdefault(step.node, []).append(diamond)

    def _waits_for_gradient(self, node: int) -> bool:
        rule = self.rules[node]
        if isinstance(rule, Pointwise):
            return (
                any(d.last != node or not rule.constant for d in self.diamonds_of.get(node, ()))
                or rule.gradient_excess is not None
                or any((t.position,) * 2 in self.facts.curved[node] for t in self.targets[node])
            )
        diamonds = self.diamonds_of.get(node, ())
        if diamonds and not self.facts.has_constant_slope(node):
            return True
        if any(diamond.last != node for diamond in diamonds):
            return True
        uses_gradient = self.facts.needs_gradient(node) or (
            isinstance(rule, Local) and rule.read is not None
        )
        return bool(self.targets[node] or diamonds) and uses_gradient
