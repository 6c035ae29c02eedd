"""What the choice of a node's rule needs to know beyond the node's kind."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from hesrl.curvature.rules.complex_numbers import is_complex
from hesrl.curvature.rules.in_place import look_into
from hesrl.curvature.rules.loss import LOSSES
from hesrl.curvature.rules.reduce import reduced_dims
from hesrl.curvature.rules.rms_norm import mean_square_dims
from hesrl.curvature.rules.softmax import saved_dim

RSQRT = "RsqrtBackward0"
_IN_PLACE_ON_VIEW = "CopySlices"
_EMBEDDINGS = frozenset({"EmbeddingBackward0", "EmbeddingBagBackward0"})
PARTLY_REFUSED = _EMBEDDINGS.union([_IN_PLACE_ON_VIEW])
"""Kinds of nodes that have no rule where their `detail` is false."""
_SOFTMAXES = frozenset({"SoftmaxBackward0", "LogSoftmaxBackward0"})
_SUMS = frozenset({"SumBackward0", "SumBackward1"})
_REDUCTIONS = _SUMS.union(["MaxBackward0", "MaxBackward1", "AmaxBackward0", "LogsumexpBackward0"])
_SCALED = frozenset({"AddBackward0", "SubBackward0"})
_UNSQUEEZE, _LOGARITHM = "UnsqueezeBackward0", "LogBackward0"

_TO_REAL = frozenset({"AbsBackward0", "AngleBackward0", "LinalgVectorNormBackward0"})
DETAILED: dict[str, frozenset[str] | None] = {
    **dict.fromkeys(
        PARTLY_REFUSED.union([RSQRT], LOSSES, _TO_REAL, _SOFTMAXES, _REDUCTIONS - _SUMS)
    ),
    **dict.fromkeys(_SUMS, _SOFTMAXES.union(["ExpBackward0", "DivBackward0"])),
    "AddBackward0": _REDUCTIONS.union([_UNSQUEEZE, _LOGARITHM]) - _SUMS,
    "SubBackward0": _REDUCTIONS.union([_UNSQUEEZE, _LOGARITHM, "AddBackward0"]) - _SUMS,
    _UNSQUEEZE: _REDUCTIONS.union([_LOGARITHM]),
}
"""Names of nodes whose `detail` decides about rules; of some only if one of these made an input."""


def is_detailed(name: str, makers: Iterable[str]) -> bool:
    """Whether the `detail` of a node decides about rules.

    Args:
        name: Its name, which is in `DETAILED`.
        makers: The names of the nodes that made its inputs.
    """
    known = DETAILED[name]
    return known is None or not known.isdisjoint(makers)


def detail(name: str, node: Any) -> Hashable:
    """Return what the choice of a rule needs to know of a node whose `is_detailed` is true."""
    if name in _SCALED:
        return bool(node._saved_alpha == 1)
    if name == _IN_PLACE_ON_VIEW:
        return look_into(node)
    if name in _EMBEDDINGS:
        return not node._saved_sparse
    if name in LOSSES:
        return int(node._saved_reduction)
    if name in _TO_REAL:
        return is_complex(node)
    if name == RSQRT:
        return mean_square_dims(node)
    if name == _UNSQUEEZE:
        return saved_dim(node._saved_dim, len(node._input_metadata[0].shape))
    if name in _SOFTMAXES:
        return (saved_dim(node._saved_dim, len(node._input_metadata[0].shape)),)
    return _reduction(node)


def _reduction(node: Any) -> Hashable:
    """Return the dimensions of a reduction and whether it keeps them; None if the dtype changes."""
    ((maker, output), *_), reduced = node.next_functions, node._input_metadata[0]
    x = maker._input_metadata[output]
    dims = reduced_dims(getattr(node, "_saved_dim", None), len(x.shape))
    return (
        (tuple(dims), getattr(node, "_saved_keepdim", False)) if x.dtype == reduced.dtype else None
    )
