"""What is to be done at which node of an autograd graph, found from its structure alone.

A plan says, for the parameters whose curvature is wanted,

- which rule each node has, and which of its inputs it hands curvature on to: none where that is
  known to be zero (``h(L) = 0``, and linear operations keep it zero) or where nobody needs it;
- which nodes must wait for their gradient, and how many contributions each waits for;
- the diamonds (`hesrl.curvature.diamond`), with the steps through each.

It holds no tensors and is kept for the next batch, whose graph has the same structure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from hesrl.curvature.advice import advice
from hesrl.curvature.diamond import Diamond, Step, Use, find_diamond
from hesrl.curvature.graph import Edge, Graph
from hesrl.curvature.patterns import find_patterns
from hesrl.curvature.registry import (
    Adjoint,
    Local,
    MissingRuleError,
    Pairs,
    Pointwise,
    Rule,
    find_rule,
)

Method: TypeAlias = Literal["hesscale", "hesscale_gn", "bl89"]
"""The estimators that one sweep can compute:

- ``"hesscale"`` follows the definition of `hesrl.curvature.rules` everywhere;
- ``"hesscale_gn"`` drops ``Σ g ∂²y`` below layers, where the nonlinearities of the network are, and
  keeps it above the last layer, in losses and log-densities (generalized Gauss-Newton);
- ``"bl89"`` treats softmax and log-softmax as if they were elementwise (Becker and LeCun, 1989).
"""

METHODS: tuple[Method, ...] = get_args(Method)


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


def plan_for(graph: Graph, wanted: frozenset[int], method: Method) -> Plan:
    """Return the plan of a graph, made once for all graphs of the same structure.

    Args:
        graph: The graph.
        wanted: The numbers of the leaf nodes whose curvature is wanted.
        method: The estimator.

    Raises:
        MissingRuleError: A node that leads to a wanted leaf has no rule.
    """
    plans = graph.structure.plans
    plan: Plan | None = plans.get((method, wanted))
    if plan is None:
        plan = plans[method, wanted] = Plan(graph, wanted, method)
    return plan


class Plan:
    """The work at each node of a graph; see `plan_for` for the arguments and errors.

    Attributes:
        rules: The rule of each node that leads to a wanted leaf, else None.
        targets: For each node the inputs that it hands curvature on to.
        hooked: The nodes that wait for their gradient.
        is_eager: For each node whether it is visited as soon as its curvature is complete.
        pending: For each node the number of contributions that its outputs wait for.
        curved: For each elementwise node the pairs of inputs with a second derivative.
        used_pairs: Those pairs that the targets and diamonds of the node use.
        dropped: The nodes whose second derivatives the method drops.
        diamonds: The diamonds that contribute.
        diamonds_of: For each node that is recorded for diamonds, those.
    """

    def __init__(self, graph: Graph, wanted: frozenset[int], method: Method) -> None:
        self._method = method
        self._details = graph.structure.details
        self._sources = list(graph.structure.sources)
        self._patterns = find_patterns(graph.structure, self._sources)
        self._useful = self._find_useful(wanted)
        self._uses = self._find_uses()
        self.rules = self._find_rules(graph, wanted)
        self.dropped = self._find_dropped() if method == "hesscale_gn" else set()
        self.curved = [self._find_curved(node) for node in range(len(self._sources))]
        self.diamonds: list[Diamond] = []
        self._diamond_at = self._find_diamonds()
        self._entries_at: dict[int, list[Edge]] = {}
        for entry in self._diamond_at:
            self._entries_at.setdefault(entry[0], []).append(entry)
        self._find_nonzero()
        self._find_work(wanted)

    def _find_useful(self, wanted: frozenset[int]) -> list[bool]:
        useful: list[bool] = []
        for node, taken in enumerate(self._sources):
            useful.append(node in wanted or any(s is not None and useful[s[0]] for s in taken))
        return useful

    def _find_uses(self) -> dict[Edge, list[Use]]:
        """Return the consumers of every tensor through which a wanted leaf is reached."""
        uses: dict[Edge, list[Use]] = {}
        for node, taken in enumerate(self._sources):
            if node not in self._patterns.left_out:
                for position, source in enumerate(taken):
                    if source is not None and self._useful[source[0]]:
                        uses.setdefault(source, []).append((node, position))
        return uses

    def _find_rules(self, graph: Graph, wanted: frozenset[int]) -> list[Rule | None]:
        patterns = self._patterns
        rules: list[Rule | None] = []
        for node, kind in enumerate(graph.structure.kinds):
            rule = None
            if self._useful[node] and node not in wanted and node not in patterns.left_out:
                rule = patterns.rules.get(node) or find_rule(kind)
                if rule is None or node in patterns.refused:
                    raise self._missing(graph, node, wanted)
                if self._method == "bl89" and isinstance(rule, Local):
                    rule = rule.elementwise or rule
            rules.append(rule)
        return rules

    def _missing(self, graph: Graph, node: int, wanted: frozenset[int]) -> MissingRuleError:
        below = {node}
        for number in range(node, -1, -1):
            if number in below:
                below |= {s[0] for s in self._sources[number] if s is not None}
        leaves = [graph.nodes[leaf].variable for leaf in sorted(wanted & below)]
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves[:3])
        more = ", …" if len(leaves) > 3 else ""
        name, output = graph.nodes[node].name(), graph.nodes[node]._input_metadata[0]
        return MissingRuleError(
            f"no curvature rule for {name} (output of shape {tuple(output.shape)}), which lies "
            f"between the loss and parameters of shape {shapes}{more}: {advice(name)}"
        )

    def _find_dropped(self) -> set[int]:
        """Return the nodes that feed a layer, which are those of the network, not of the loss."""
        fed: set[int] = set()
        for node in range(len(self._sources) - 1, -1, -1):
            rule = self.rules[node]
            if node in fed or (isinstance(rule, Local) and rule.layer):
                fed |= {s[0] for s in self._sources[node] if s is not None}
        return fed

    def _find_curved(self, node: int) -> Pairs:
        rule, taken = self.rules[node], self._sources[node]
        if not isinstance(rule, Pointwise) or node in self.dropped:
            return ()
        useful = {i for i, s in enumerate(taken) if s is not None and self._useful[s[0]]}
        pairs = rule.curved
        if pairs is None:
            pairs = tuple((i, j) for j in useful for i in useful if i <= j)
        return tuple((i, j) for i, j in pairs if i in useful and j in useful)

    def _is_pointwise(self, node: int) -> bool:
        return isinstance(self.rules[node], Pointwise)

    def _reduces(self, node: int) -> bool:
        rule = self.rules[node]
        return isinstance(rule, Pointwise) and rule.reduces and self._details[node] != 0

    def _find_diamonds(self) -> dict[Edge, Diamond]:
        found = {}
        for entry in self._uses:
            diamond = find_diamond(entry, self._uses, self._is_pointwise, self._reduces)
            if diamond is not None:
                found[entry] = diamond
        return found

    def _find_nonzero(self) -> None:
        """Find the nodes whose curvature can differ from zero, and the steps of diamonds."""
        self._nonzero_at: set[int] = set()
        for entry in sorted(self._uses, reverse=True):
            diamond = self._diamond_at.get(entry)
            members = diamond.members if diamond is not None else ()
            if diamond is not None:
                self._set_steps(diamond)
            if (diamond is not None and diamond.steps) or self._gets_from_outside(entry, members):
                self._nonzero_at.add(entry[0])

    def _gets_from_outside(self, edge: Edge, members: tuple[int, ...]) -> bool:
        """Whether consumers other than the members of a diamond give curvature to a tensor."""
        return any(
            node not in members and self._can_hand_on(node, position)
            for node, position in self._uses.get(edge, ())
        )

    def _can_hand_on(self, node: int, position: int) -> bool:
        """Whether a node can give one of its inputs a curvature other than zero."""
        rule = self.rules[node]
        return (
            node in self._nonzero_at
            or (position, position) in self.curved[node]
            or (isinstance(rule, Local) and self.needs_gradient(node))
        )

    def needs_gradient(self, node: int) -> bool:
        """Whether the rule of a node that is not elementwise uses the gradient."""
        rule = self.rules[node]
        return isinstance(rule, Local) and not rule.linear and node not in self.dropped

    def _set_steps(self, diamond: Diamond) -> None:
        steps: list[Step] = []
        with_tangent: set[int] = set()
        """Members whose tangent a later step uses."""
        for node in reversed(diamond.members):
            inner = diamond.inner(node, self._sources)
            positions = {position for position, _ in inner}
            pairs = tuple(p for p in self.curved[node] if positions.issuperset(p))
            if node == diamond.last:
                outside = node in self._nonzero_at
            else:
                outside = self._gets_from_outside((node, 0), diamond.members)
            tangent = outside or node in with_tangent
            if tangent or pairs:
                rule = self.rules[node]
                late = isinstance(rule, Pointwise) and rule.constant and not outside
                steps.append(Step(node, inner, tangent, pairs, outside, late))
                curved = {position for pair in pairs for position in pair}
                with_tangent |= {s[0] for k, s in inner if tangent or k in curved}
        diamond.steps = steps[::-1]

    def _find_work(self, wanted: frozenset[int]) -> None:
        """Decide who hands what on, from the leaves upwards: only what somebody needs."""
        count = len(self._sources)
        self.targets: list[tuple[Target, ...]] = [()] * count
        self.pending = [0] * count
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
                self._take_up_diamonds(node, within)
            if self._waits_for_gradient(node):
                self.hooked.append(node)
            else:
                self.is_eager[node] = bool(self.targets[node]) or node in self.diamonds_of
        self.used_pairs = [self._find_used_pairs(node) for node in range(count)]
        for node in range(count):
            self.targets[node] = tuple(self._chain(target) for target in self.targets[node])

    def _find_targets(
        self, node: int, needed: list[bool], within: dict[int, list[Diamond]]
    ) -> tuple[Target, ...]:
        rule = self.rules[node]
        keeps_shapes = len(self._sources[node]) == 1 or (isinstance(rule, Local) and rule.layer)
        targets = []
        for position, source in enumerate(self._sources[node]):
            if source is None or not self._useful[source[0]]:
                continue
            if not self._can_hand_on(node, position):
                continue
            fork = self._diamond_at.get(source)
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
        return (alone | joined).intersection(self.curved[node])

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

    def _take_up_diamonds(self, node: int, within: dict[int, list[Diamond]]) -> None:
        """Note the diamonds that the outputs of a node are the entry of."""
        for entry in self._entries_at.get(node, ()):
            diamond = self._diamond_at[entry]
            if diamond.steps:
                self.diamonds.append(diamond)
                self.pending[node] += 1
                for step in diamond.steps:
                    within.setdefault(step.node, []).append(diamond)

    def _waits_for_gradient(self, node: int) -> bool:
        rule = self.rules[node]
        if isinstance(rule, Pointwise):
            return (
                (node in self.diamonds_of and not rule.constant)
                or rule.gradient_excess is not None
                or any((t.position,) * 2 in self.curved[node] for t in self.targets[node])
            )
        return bool(self.targets[node]) and self.needs_gradient(node)
