"""What follows from the structure of a graph: rules, second derivatives, zeros, diamonds."""

from __future__ import annotations

from hesrl.curvature.advice import advice, advice_without, no_rule
from hesrl.curvature.diamonds.diamond import Diamond, Step, Use, find_diamond
from hesrl.curvature.diamonds.moves import CONSTANT_MOVES, MOVES, Fit, fit_of
from hesrl.curvature.graph import Graph
from hesrl.curvature.method import Method
from hesrl.curvature.patterns.find import find_patterns
from hesrl.curvature.reads import unreadable
from hesrl.curvature.rule_registry import (
    Adjoint,
    Local,
    MissingRuleError,
    Pairs,
    Pointwise,
    Rule,
    find_rule,
)
from hesrl.curvature.rules.complex_numbers import complex_rule, is_complex
from hesrl.curvature.structure import Edge


class Analysis:
    """Facts about the nodes of a graph, for the leaves whose curvature is wanted.

    Args:
        graph: The graph.
        wanted: The numbers of the leaf nodes whose curvature is wanted.
        method: The estimator.
        seeded: The roots whose curvature is not zero.

    Attributes:
        sources: The tensors that each node takes, without what a pattern leaves out.
        useful: For each node whether a wanted leaf is reached through it.
        uses: The consumers of each tensor through which a wanted leaf is reached.
        rules: The rule of each node that leads to a wanted leaf, else None.
        dropped: The nodes whose second derivatives the method drops.
        forced: The nodes that the method treats as if they were elementwise.
        curved: For each elementwise node the pairs of inputs with a second derivative.
        diamond_at: The diamond below each tensor that has one.
        nonzero: The nodes at whose outputs the curvature can differ from zero.

    Raises:
        MissingRuleError: A node that leads to a wanted leaf has no rule.
    """

    def __init__(
        self,
        graph: Graph,
        wanted: frozenset[int],
        method: Method,
        seeded: frozenset[Edge] = frozenset(),
    ) -> None:
        self._method = method
        self._details = graph.structure.details
        self.sources = list(graph.structure.sources)
        self._names = [getattr(kind, "__name__", "") for kind in graph.structure.kinds]
        self._patterns = find_patterns(graph.structure, self.sources, elementwise=method == "bl89")
        self.useful = self._find_useful(wanted)
        self.uses = self._find_uses()
        self.forced: set[int] = set()
        self.rules = self._find_rules(graph, wanted)
        self.dropped = self._find_dropped() if method == "hesscale_gn" else set()
        self.curved = [self._find_curved(node) for node in range(len(self.sources))]
        self._is_curved_above = self._find_curved_above(seeded)
        self.fits: dict[tuple[int, int], tuple[str, Fit]] = {}
        self._graph: Graph | None = graph
        found = ((entry, find_diamond(entry, self)) for entry in self.uses)
        self.diamond_at = {entry: diamond for entry, diamond in found if diamond is not None}
        self._graph = None
        self.nonzero = {node for node, _ in seeded}
        self._find_nonzero()

    def _find_useful(self, wanted: frozenset[int]) -> list[bool]:
        useful: list[bool] = []
        for node, taken in enumerate(self.sources):
            useful.append(node in wanted or any(s is not None and useful[s[0]] for s in taken))
        return useful

    def _find_uses(self) -> dict[Edge, list[Use]]:
        """Return the consumers of every tensor through which a wanted leaf is reached."""
        uses: dict[Edge, list[Use]] = {}
        for node, taken in enumerate(self.sources):
            if node not in self._patterns.left_out:
                for position, source in enumerate(taken):
                    if source is not None and self.useful[source[0]]:
                        uses.setdefault(source, []).append((node, position))
        return uses

    def _find_rules(self, graph: Graph, wanted: frozenset[int]) -> list[Rule | None]:
        patterns = self._patterns
        rules: list[Rule | None] = []
        missing: dict[int, str] = {}
        beside = [graph.structure.kinds[node] for node in patterns.left_out]
        for node, kind in enumerate(graph.structure.kinds):
            rule = None
            if self.useful[node] and node not in wanted and node not in patterns.left_out:
                rule = patterns.rules.get(node) or find_rule(kind)
                if rule is not None and is_complex(graph.nodes[node]):
                    name = graph.nodes[node].name()
                    rule = complex_rule(rule, name, is_own=node not in patterns.rules)
                if self._method == "bl89" and isinstance(rule, Local) and rule.elementwise:
                    rule = rule.elementwise
                    self.forced.add(node)
                if rule is None or node in patterns.refused:
                    missing[node] = advice(graph.nodes[node].name(), self._details.get(node))
                elif lacking := unreadable(rule, kind, *(beside * (node in patterns.rules))):
                    missing[node] = advice_without(lacking)
            rules.append(rule)
        if missing:
            raise self._missing(graph, missing, wanted)
        return rules

    def _missing(
        self, graph: Graph, remedies: dict[int, str], wanted: frozenset[int]
    ) -> MissingRuleError:
        below = set(remedies)
        for number in range(max(remedies), -1, -1):
            if number in below:
                below |= {s[0] for s in self.sources[number] if s is not None}
        leaves = [graph.nodes[leaf].variable for leaf in sorted(wanted & below)]
        of_each = [(graph.nodes[node], remedy) for node, remedy in remedies.items()]
        return MissingRuleError(no_rule(of_each, leaves))

    def _find_dropped(self) -> set[int]:
        """Return the nodes that feed a layer: nodes of the network, not of the loss."""
        fed: set[int] = set()
        for node in range(len(self.sources) - 1, -1, -1):
            rule = self.rules[node]
            if node in fed or (isinstance(rule, Local | Pointwise) and rule.layer):
                fed |= {s[0] for s in self.sources[node] if s is not None}
        return fed

    def _find_curved(self, node: int) -> Pairs:
        rule, taken = self.rules[node], self.sources[node]
        if not isinstance(rule, Pointwise):
            return ((0, 0),) if self.moves_entries(node) and self.needs_gradient(node) else ()
        if node in self.dropped:
            return ()
        useful = {i for i, s in enumerate(taken) if s is not None and self.useful[s[0]]}
        pairs = rule.curved
        if pairs is None:
            pairs = tuple((i, j) for j in useful for i in useful if i <= j)
        return tuple((i, j) for i, j in pairs if i in useful and j in useful)

    def _find_curved_above(self, seeded: frozenset[Edge]) -> list[bool]:
        """Return for each node whether anything between it and the loss has second derivatives."""
        above = [False] * len(self.sources)
        for node, _ in seeded:
            above[node] = True
        for node in range(len(self.sources) - 1, -1, -1):
            if above[node] or self.curved[node] or self.needs_gradient(node):
                for source in self.sources[node]:
                    if source is not None:
                        above[source[0]] = True
        return above

    def can_join(self, node: int) -> bool:
        """Whether paths may meet in a node: it, or what is above it, has second derivatives."""
        if not (self._is_curved_above[node] or self.curved[node]):
            return False
        return isinstance(self.rules[node], Pointwise) or self.moves_entries(node)

    def moves_entries(self, node: int) -> bool:
        """Whether a node is a view, an expansion or a reduction that a diamond may hold."""
        if node in self._patterns.rules or not isinstance(self.rules[node], Adjoint | Local):
            return False
        return self._names[node] in MOVES

    def reduces(self, node: int) -> bool:
        """Whether an elementwise node reduces its terms to one number, where paths end."""
        rule = self.rules[node]
        return isinstance(rule, Pointwise) and rule.reduces and self._details.get(node) != 0

    def fit(self, node: int, output: int) -> Fit:
        """Return what a layout needs to know of an output, and note it for `fits`."""
        assert self._graph is not None
        if (node, output) not in self.fits:
            name = self._names[node] if self.moves_entries(node) else ""
            self.fits[node, output] = name, fit_of(self._graph.nodes[node], output, name)
        return self.fits[node, output][1]

    def fits_to(self, graph: Graph) -> bool:
        """Whether the shapes of a graph of the same structure lead to the same diamonds."""
        return all(
            fit_of(graph.nodes[node], output, name) == fit
            for (node, output), (name, fit) in self.fits.items()
        )

    def _find_nonzero(self) -> None:
        """Find the nodes whose curvature can differ from zero, and the steps of diamonds."""
        for entry in sorted(self.uses, reverse=True):
            diamond = self.diamond_at.get(entry)
            members = diamond.members if diamond is not None else frozenset()
            if diamond is not None:
                self._set_steps(diamond)
            if (diamond is not None and diamond.steps) or self._gets_from_outside(entry, members):
                self.nonzero.add(entry[0])

    def _gets_from_outside(self, edge: Edge, members: frozenset[int]) -> bool:
        """Whether consumers other than the members of a diamond give curvature to a tensor."""
        return any(
            node not in members and self.can_hand_on(node, position)
            for node, position in self.uses.get(edge, ())
        )

    def can_hand_on(self, node: int, position: int) -> bool:
        """Whether a node can give one of its inputs a curvature other than zero."""
        rule = self.rules[node]
        return (
            node in self.nonzero
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
        for node in sorted(diamond.members, reverse=True):
            inner = diamond.inner(node, self.sources)
            positions = {position for position, _ in inner}
            pairs = tuple(p for p in self.curved[node] if positions.issuperset(p))
            if node == diamond.last:
                outside = node in self.nonzero
            else:
                outside = self._gets_from_outside((node, 0), diamond.members)
            tangent = outside or node in with_tangent
            if tangent or pairs:
                late = self.has_constant_slope(node) and not outside
                steps.append(Step(node, inner, tangent, pairs, outside, late))
                curved = {position for pair in pairs for position in pair}
                with_tangent |= {s[0] for k, s in inner if tangent or k in curved}
        diamond.steps = steps[::-1]

    def has_constant_slope(self, node: int) -> bool:
        """Whether the slopes of a node that a diamond may hold are numbers."""
        rule = self.rules[node]
        return rule.constant if isinstance(rule, Pointwise) else self._names[node] in CONSTANT_MOVES
