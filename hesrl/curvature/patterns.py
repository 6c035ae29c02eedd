"""Nodes whose rule depends on more than their kind.

- Log-softmax by logsumexp and softmax of a log-softmax, as `torch.distributions.Categorical`
  writes them, and both of the same logits, as entropies are written by hand: node by node they are
  only estimates, because the parts mix the same entries again.
- RMS norm as ``x · rsqrt(mean(x²) + ε)``, as PyTorch writes it on a CPU, for the same reason.
- Linear layers, which are a product with a transposed matrix, in fewer steps.
- Matrix products by einsum over a dimension of size one, which are elementwise ones.
- Operations in place on a view, which all have the same kind.
- Embeddings, whose gradient may be sparse.
- Losses, which may reduce their terms to one number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hesrl.curvature.registry import Rule
from hesrl.curvature.rules.in_place import InPlace, look_into
from hesrl.curvature.rules.linear import LINEAR_LAYERS, OUTER_PRODUCT
from hesrl.curvature.rules.loss import LOSSES
from hesrl.curvature.rules.normalization import RMS_NORM_BY_RSQRT, mean_square_dims
from hesrl.curvature.rules.softmax import (
    EXP_BESIDE_LOG_SOFTMAX,
    EXP_OF_LOG_SOFTMAX,
    LOG_SOFTMAX_BESIDE_SOFTMAX,
    LOG_SOFTMAX_BY_LOGSUMEXP,
    saved_dim,
)

if TYPE_CHECKING:
    from hesrl.curvature.graph import Edge, Sources, Structure

_SUBTRACTION, _LOGSUMEXP = "SubBackward0", "LogsumexpBackward0"
_SOFTMAX, _LOG_SOFTMAX = "SoftmaxBackward0", "LogSoftmaxBackward0"
_RSQRT, _POWER, _PRODUCT = "RsqrtBackward0", "PowBackward0", "MulBackward0"
_IN_PLACE_ON_VIEW = "CopySlices"
_EMBEDDINGS = frozenset({"EmbeddingBackward0", "EmbeddingBagBackward0"})
_PARTLY_REFUSED = _EMBEDDINGS.union([_IN_PLACE_ON_VIEW])

DETAILED = _PARTLY_REFUSED.union((_SUBTRACTION, _LOGSUMEXP, _SOFTMAX, _LOG_SOFTMAX, _RSQRT), LOSSES)
"""Names of the nodes whose `detail` decides about their rule."""


def detail(name: str, node: Any) -> Hashable:
    """Return what the choice of a rule needs to know of a node whose name is in `DETAILED`."""
    if name == _SUBTRACTION:
        return bool(node._saved_alpha == 1)
    if name == _IN_PLACE_ON_VIEW:
        return look_into(node)
    if name in _EMBEDDINGS:
        return not node._saved_sparse
    if name in LOSSES:
        return int(node._saved_reduction)
    if name == _RSQRT:
        return mean_square_dims(node)
    ndim = len(node._input_metadata[0].shape)
    if name == _LOGSUMEXP:
        return node._saved_keepdim, tuple(saved_dim(dim, ndim) for dim in node._saved_dim)
    return (saved_dim(node._saved_dim, ndim),)


@dataclass(frozen=True, slots=True)
class Patterns:
    """What `find_patterns` finds in a graph."""

    rules: dict[int, Rule]
    """The rules of the nodes that stand for patterns."""
    left_out: set[int]
    """The nodes that are part of a pattern, and nothing else."""
    refused: set[int]
    """The nodes that have no rule though their kind has one."""


def find_patterns(structure: Structure, sources: list[Sources]) -> Patterns:
    """Find the nodes whose rule is not that of their kind.

    Args:
        structure: The structure of the graph.
        sources: The tensors that each node takes; changed where a pattern leaves a node out.
    """
    found = Patterns({}, set(), set())
    uses = Counter(source[0] for taken in sources for source in taken if source is not None)
    dims: dict[int, Hashable] = {}
    for number, detail_of_node in structure.details.items():
        name = structure.kinds[number].__name__
        if name in _PARTLY_REFUSED and not detail_of_node:
            found.refused.add(number)
        elif isinstance(detail_of_node, InPlace):
            found.rules[number] = detail_of_node.rule
        elif name == _RSQRT and detail_of_node is not None:
            _find_rms_norm(number, structure, sources, uses, found)
        elif name == _LOG_SOFTMAX:
            dims[number] = detail_of_node
        elif name == _SUBTRACTION:
            logsumexp = _subtracted_logsumexp(number, structure)
            if logsumexp is not None and uses[logsumexp] == 1:
                _, dims[number] = structure.details[logsumexp]  # type: ignore[misc]
                found.rules[number] = LOG_SOFTMAX_BY_LOGSUMEXP
                sources[number] = (sources[number][0], None)
                found.left_out.add(logsumexp)
        elif name == _SOFTMAX:
            source = sources[number][0]
            if source is not None and dims.get(source[0]) == detail_of_node:
                found.rules[number] = EXP_OF_LOG_SOFTMAX
                continue
            sibling = _log_softmax_beside(number, structure, dims)
            if sibling is not None:
                found.rules[number] = EXP_BESIDE_LOG_SOFTMAX
                found.rules[sibling] = LOG_SOFTMAX_BESIDE_SOFTMAX
                sources[number] = ((sibling, 0),)
    for number, kind in enumerate(structure.kinds):
        name = getattr(kind, "__name__", "")
        if name in LINEAR_LAYERS:
            _find_linear_layer(number, name, structure, sources, uses, found)
        elif name == _PRODUCT and all(_lacks_dimension(s, structure) for s in sources[number]):
            found.rules.setdefault(number, OUTER_PRODUCT)
    return found


def _log_softmax_beside(
    softmax: int, structure: Structure, dims: Mapping[int, Hashable]
) -> int | None:
    """Return the log-softmax of the same logits over the same dimension, None if there is none.

    Args:
        softmax: The node of the softmax.
        structure: The structure of the graph.
        dims: The dimension of each log-softmax.
    """
    for number, dim in dims.items():
        is_same = structure.sources[number] == structure.sources[softmax]
        if is_same and dim == structure.details[softmax]:
            return number
    return None


def move_log_softmax_first(nodes: list[Any], sources: list[Sources]) -> None:
    """Renumber nodes so that a log-softmax comes before a softmax of the same logits.

    So the softmax can be treated as an exponential of it.
    """
    names = [type(node).__name__ for node in nodes]
    if _SOFTMAX not in names or _LOG_SOFTMAX not in names:
        return
    for later in range(len(nodes)):
        if names[later] != _LOG_SOFTMAX:
            continue
        for earlier in range(later):
            if names[earlier] == _SOFTMAX and sources[earlier] == sources[later]:
                order = list(range(len(nodes)))
                order.insert(earlier, order.pop(later))
                renumbered = {old: new for new, old in enumerate(order)}
                nodes[:] = [nodes[old] for old in order]
                names[:] = [names[old] for old in order]
                sources[:] = [
                    tuple(None if s is None else (renumbered[s[0]], s[1]) for s in sources[old])
                    for old in order
                ]
                break


def _lacks_dimension(factor: Edge | None, structure: Structure) -> bool:
    """Whether einsum gave a factor a dimension that it has not, and put all in order."""
    names = []
    for _ in range(2):
        if factor is None:
            return False
        names.append(getattr(structure.kinds[factor[0]], "__name__", ""))
        factor = next(iter(structure.sources[factor[0]]), None)
    return names == ["PermuteBackward0", "UnsqueezeBackward0"]


def _find_linear_layer(
    product: int,
    name: str,
    structure: Structure,
    sources: list[Sources],
    uses: Counter[int],
    found: Patterns,
) -> None:
    """Leave out a transposition of the second factor that nothing else uses."""
    *others, factor = sources[product]
    if factor is None or uses[factor[0]] != 1:
        return
    if getattr(structure.kinds[factor[0]], "__name__", "") == "TBackward0":
        found.rules[product] = LINEAR_LAYERS[name]
        found.left_out.add(factor[0])
        sources[product] = (*others, structure.sources[factor[0]][0])


def _subtracted_logsumexp(number: int, structure: Structure) -> int | None:
    """Return the logsumexp if a subtraction is ``x − logsumexp(x, keepdim=True)``."""
    x, second = structure.sources[number]
    if x is None or second is None or second[0] not in structure.details:
        return None
    logsumexp = second[0]
    if structure.kinds[logsumexp].__name__ != _LOGSUMEXP:
        return None
    keeps_dim: Any = structure.details[logsumexp]
    is_same = structure.sources[logsumexp][0] == x
    return logsumexp if keeps_dim[0] and is_same and structure.details[number] else None


def _find_rms_norm(
    rsqrt: int,
    structure: Structure,
    sources: list[Sources],
    uses: Counter[int],
    found: Patterns,
) -> None:
    """Note the RMS norm if the root mean square of a tensor, and nothing else, divides it."""
    parts = [rsqrt]
    while structure.kinds[parts[-1]].__name__ != _POWER:
        below = structure.sources[parts[-1]][0]
        assert below is not None
        parts.append(below[0])
    if any(uses[part] != 1 for part in parts):
        return
    root, x = (rsqrt, 0), structure.sources[parts[-1]][0]
    product = next(node for node, taken in enumerate(structure.sources) if root in taken)
    is_product = structure.kinds[product].__name__ == _PRODUCT
    if is_product and set(structure.sources[product]) == {x, root}:
        found.rules[product] = RMS_NORM_BY_RSQRT
        found.left_out.update(parts)
        sources[product] = tuple(None if s == root else s for s in structure.sources[product])
