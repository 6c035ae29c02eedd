"""Which layers' rows stay apart on the way to the loss, read from the recorded graph.

The rows of a batch, its first dimension, go through most networks without one meeting another.
Where that holds from a layer up to everything curved above it, one vector serves all rows at once,
and the products of single rows come apart again at the layer (`factored.py`). It is
known for the operations that are listed here, in the shapes that they were recorded with. A
parameter with two uses, or below any other operation, is left to the general way.

Of HesScale's rules this takes only which operations are elementwise, which are linear, and for
which inputs the second derivative can differ from zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from hesrl.curvature.graph import Graph
from hesrl.curvature.rule_registry import Local, Pointwise, find_rule
from hesrl.curvature.rules.reduce import reduced_dims
from hesrl.curvature.rules.softmax import saved_dim
from hesrl.curvature.structure import LEAF, Edge

LAYERS: dict[str, tuple[int, tuple[int, ...]]] = {
    "AddmmBackward0": (1, (0, 2)),
    "MmBackward0": (0, (1,)),
    "ConvolutionBackward0": (0, (1, 2)),
}
"""Matrix products and convolutions: where among the inputs the rows are, and the parameters."""

LOG_SOFTMAX = "LogSoftmaxBackward0"

COPIES = frozenset(
    {
        "AdaptiveMaxPool2DBackward0",
        "AdaptiveMaxPool3DBackward0",
        "ConstantPadNdBackward0",
        "MaxPool2DWithIndicesBackward0",
        "MaxPool3DWithIndicesBackward0",
        "ReflectionPad1DBackward0",
        "ReflectionPad2DBackward0",
        "ReflectionPad3DBackward0",
        "ReplicationPad1DBackward0",
        "ReplicationPad2DBackward0",
        "ReplicationPad3DBackward0",
        "ReshapeAliasBackward0",
        "SelectBackward0",
        "SliceBackward0",
        "SqueezeBackward1",
        "UnsafeViewBackward0",
        "UnsqueezeBackward0",
        "ViewBackward0",
    }
)
"""Operations whose outputs are each one entry of the input, or a constant.

A diagonal Hessian at the output is diagonal at the input.
"""

_MEANS = frozenset(
    {
        "AdaptiveAvgPool2DBackward0",
        "AdaptiveAvgPool3DBackward0",
        "AvgPool2DBackward0",
        "AvgPool3DBackward0",
        "MeanBackward1",
        "SumBackward1",
    }
)
"""Linear operations of one input whose outputs add up several entries."""

BATCH_NORM = "NativeBatchNormBackward0"
_NORMS = frozenset({BATCH_NORM, "NativeLayerNormBackward0", "NativeGroupNormBackward0"})
"""Their rows are the first input, their parameters the others."""

_KEEPS_ROWS_IF: dict[str, Callable[[Any, int], bool]] = {
    BATCH_NORM: lambda node, ndim: not node._saved_training,
    "ConstantPadNdBackward0": lambda node, ndim: len(node._saved_pad) < 2 * ndim,
    "MeanBackward1": lambda node, ndim: 0 not in reduced_dims(node._saved_dim, ndim),
    "NativeLayerNormBackward0": lambda node, ndim: len(node._saved_normalized_shape) < ndim,
    "SelectBackward0": lambda node, ndim: saved_dim(node._saved_dim, ndim) > 0,
    "SliceBackward0": lambda node, ndim: saved_dim(node._saved_dim, ndim) > 0,
    "SumBackward1": lambda node, ndim: 0 not in reduced_dims(node._saved_dim, ndim),
}
"""Whether an operation keeps rows apart, given its node and the number of the input's dimensions.

Listed are operations for which an unchanged first size does not tell.
"""


class Rows:
    """The layers whose rows stay apart below all that is curved, and what lies above them.

    Args:
        graph: The graph.
        leaves: The numbers of the leaf nodes whose curvature is wanted.
        outputs: The tensors at which the Hessian is given row by row, for a Gauss-Newton matrix;
            None where every operation with a second derivative adds to it.

    Attributes:
        useful: For each node whether a wanted leaf is reached through it.
        rules: The rule of each useful node, None if it has none.
        curved: The operations that are not blocked and have a second derivative, by entries.
        reached: The nodes at whose outputs there is a Hessian.
        blocked: Those of them, or below them, at which it is not known row by row.
        layers: For each layer that is not blocked, by its node, its parameters that are used
            nowhere else: where among the inputs, the leaf, and whether the layer transposes it.
    """

    def __init__(
        self, graph: Graph, leaves: Collection[int], outputs: Collection[Edge] | None = None
    ) -> None:
        self._graph, self._leaves = graph, leaves
        self._sources, self._kinds = graph.structure.sources, graph.structure.kinds
        self.names = [node.name() for node in graph.nodes]
        self.useful: list[bool] = []
        for number, taken in enumerate(self._sources):
            above = any(source is not None and self.useful[source[0]] for source in taken)
            self.useful.append(above or number in leaves)
        self._uses = Counter(source[0] for taken in self._sources for source in taken if source)
        self.rules = [
            find_rule(kind) if useful and kind is not LEAF else None
            for kind, useful in zip(self._kinds, self.useful, strict=True)
        ]
        self.curved: set[int] = set()
        self.reached: set[int] = set()
        self.blocked: set[int] = set()
        self.layers: dict[int, dict[int, tuple[int, bool]]] = {}
        self._find(outputs)

    def shape(self, edge: Edge) -> tuple[int, ...]:
        """Return the shape of a tensor of the graph."""
        return tuple(self._graph.nodes[edge[0]]._input_metadata[edge[1]].shape)

    def inputs(self, node: int) -> list[tuple[int, Edge]]:
        """Return the inputs that lead to a wanted leaf, with their place, but for parameters."""
        params = self.layers.get(node, {})
        taken = enumerate(self._sources[node])
        return [
            (i, source)
            for i, source in taken
            if source and self.useful[source[0]] and i not in params
        ]

    def _find(self, outputs: Collection[Edge] | None) -> None:
        for node in range(len(self.useful) - 1, -1, -1):
            if not self.useful[node] or self._kinds[node] is LEAF:
                continue
            if params := self._params(node):
                self.layers[node] = params
            inputs = self.inputs(node)
            curved = outputs is None and self._is_curved(node, [i for i, _ in inputs])
            if node in self.blocked or curved is None:
                self.blocked.update(source[0] for _, source in inputs)
                self.layers.pop(node, None)
                continue
            if curved:
                self.curved.add(node)
            for i, source in inputs:
                begins = curved if outputs is None else source in outputs
                passes = node in self.reached
                has_rows = not begins or len(self.shape(source)) > 0
                if not has_rows or (passes and not self._keeps_rows(node, i, source)):
                    self.blocked.add(source[0])
                elif begins or passes:
                    self.reached.add(source[0])

    def _params(self, node: int) -> dict[int, tuple[int, bool]]:
        """Return the parameters of a node that are used nowhere else, by their place."""
        found = {}
        name = self.names[node]
        for i, source in enumerate(self._sources[node]):
            if source is None:
                continue
            transposed = name in LAYERS and self.names[source[0]] == "TBackward0"
            leaf = self._sources[source[0]][0] if transposed else source
            if (
                leaf is not None
                and leaf[0] in self._leaves
                and self._uses[source[0]] == self._uses[leaf[0]] == 1
                and self._is_linear_in(node, i, source)
            ):
                found[i] = leaf[0], transposed
        return found

    def _is_linear_in(self, node: int, position: int, source: Edge) -> bool:
        """Whether row n of the output is linear in an input and depends on no other row."""
        name, rule = self.names[node], self.rules[node]
        if name in LAYERS:
            is_whole = position != 0 or self.shape(source) == self.shape((node, 0))[1:]
            return position in LAYERS[name][1] and is_whole
        if node not in self.reached:
            return False
        if isinstance(rule, Pointwise):
            pairs = rule.curved
            return pairs is not None and (position, position) not in pairs
        return (name in _NORMS and position > 0) or name == "EmbeddingBackward0"

    def _is_curved(self, node: int, inputs: list[int]) -> bool | None:
        """Whether a node has a second derivative; None if it is not known to be diagonal."""
        rule = self.rules[node]
        if isinstance(rule, Pointwise):
            pairs = rule.curved
            if pairs is None or any(i in inputs and j in inputs for i, j in pairs):
                return True if len(inputs) == 1 else None
            return False
        if self.names[node] == LOG_SOFTMAX:
            ndim = len(self.shape((node, 0)))
            return True if saved_dim(self._graph.nodes[node]._saved_dim, ndim) > 0 else None
        if isinstance(rule, Local) and (not self._is_linear(node) or len(inputs) > 1):
            return None
        return False if rule is not None else None

    def _is_linear(self, node: int) -> bool:
        rule = self.rules[node]
        assert isinstance(rule, Local)
        is_fixed = self.names[node] == BATCH_NORM and not self._graph.nodes[node]._saved_training
        return rule.linear or is_fixed

    def _keeps_rows(self, node: int, position: int, source: Edge) -> bool:
        """Whether row n of one input counts for row n of the output only."""
        name, rule = self.names[node], self.rules[node]
        before, after = self.shape(source), self.shape((node, 0))
        if not before or not after or before[0] != after[0]:
            return False
        if name in LAYERS:
            return position == LAYERS[name][0]
        if isinstance(rule, Pointwise):
            return len(before) == len(after)
        if name in _NORMS and position > 0:
            return False
        if name in _KEEPS_ROWS_IF:
            return _KEEPS_ROWS_IF[name](self._graph.nodes[node], len(before))
        return name in COPIES or name in _MEANS or name in _NORMS
