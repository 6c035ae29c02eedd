"""Nodes whose rule depends on more than their kind.

- Softmax and log-softmax in the forms in which they are written (`softmax_forms.py`):
  node by node they are only estimates, because the parts mix the same entries again.
- Connectionist temporal classification of a log-softmax, maybe transposed, likewise.
- RMS norm as ``x · rsqrt(mean(x²) + ε)``, as PyTorch writes it on a CPU, for the same reason.
- Linear layers, which are a product with a transposed matrix, in fewer steps.
- Matrix products by einsum over a dimension of size one, which are elementwise ones.
- Operations in place on a view, which all have the same kind.
- Embeddings, whose gradient may be sparse.
- Losses, which may reduce their terms to one number.
- Real functions of tensors that may be complex.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hesrl.curvature.patterns.details import PARTLY_REFUSED, RSQRT
from hesrl.curvature.patterns.softmax_forms import find_forms, first_of_each
from hesrl.curvature.rule_registry import Pointwise, Rule, find_rule
from hesrl.curvature.rules.ctc import CTC_OF_LOG_SOFTMAX, LOG_SOFTMAX_BELOW_CTC
from hesrl.curvature.rules.in_place import InPlace
from hesrl.curvature.rules.linear import LINEAR_LAYERS, OUTER_PRODUCT
from hesrl.curvature.rules.rms_norm import RMS_NORM_BY_RSQRT
from hesrl.curvature.rules.softmax_group import (
    elementwise_form,
    first_form,
    form_beside,
    form_of_form,
)
from hesrl.curvature.structure import Edge, Sources, Structure, kind_name

_POWER, _PRODUCT = "PowBackward0", "MulBackward0"
_CTC = frozenset({"CtcLossBackward0", "CtcLossBackward1"})
_REORDERED = frozenset({"PermuteBackward0", "TransposeBackward0", "UnsqueezeBackward0"})


@dataclass(frozen=True, slots=True)
class Patterns:
    """What `find_patterns` finds in a graph."""

    rules: dict[int, Rule]
    """The rules of the nodes that stand for patterns."""
    left_out: set[int]
    """The nodes that are part of a pattern, and nothing else."""
    refused: set[int]
    """The nodes that have no rule though their kind has one."""


def find_patterns(
    structure: Structure, sources: list[Sources], *, elementwise: bool = False
) -> Patterns:
    """Find the nodes that have another rule than their kind.

    Args:
        structure: The structure of the graph.
        sources: The tensors that each node takes; changed where a pattern leaves a node out.
        elementwise: Whether softmaxes count as elementwise, as BL89 has it.
    """
    found = Patterns({}, set(), set())
    uses = Counter(source[0] for taken in sources for source in taken if source is not None)
    for number, detail_of_node in structure.details.items():
        name = structure.kinds[number].__name__
        if name in PARTLY_REFUSED and not detail_of_node:
            found.refused.add(number)
        elif isinstance(detail_of_node, InPlace):
            found.rules[number] = detail_of_node.rule
        elif name == RSQRT and detail_of_node is not None:
            _find_rms_norm(number, structure, sources, uses, found)
    for number, kind in enumerate(structure.kinds):
        name = kind_name(kind)
        if name in LINEAR_LAYERS:
            _find_linear_layer(number, name, structure, sources, uses, found)
        elif name == _PRODUCT and all(_lacks_dimension(s, structure) for s in sources[number]):
            found.rules.setdefault(number, OUTER_PRODUCT)
    _find_softmaxes(structure, sources, found, elementwise=elementwise)
    if not elementwise:
        _find_ctc(structure, sources, found)
    return found


def _find_softmaxes(
    structure: Structure, sources: list[Sources], found: Patterns, *, elementwise: bool
) -> None:
    """Note the forms of softmaxes; forms of the same logits are functions of the first one."""
    forms = find_forms(structure)
    firsts = first_of_each(forms.values())
    shared = Counter(firsts.values())
    for node, form in forms.items():
        found.left_out.update(form.inner)
        sources[node] = (form.source,)
        if form.over is not None:
            if form.probabilities is None:
                own_rule = find_rule(structure.kinds[node])
                assert isinstance(own_rule, Pointwise)
                found.rules[node] = elementwise_form(own_rule)
            else:
                found.rules[node] = form_of_form(
                    form.value, form.over, form.probabilities, form.dims
                )
            continue
        assert form.probabilities is not None
        first = firsts[node]
        if first == node or elementwise:
            if not form.is_plain or (shared[node] > 1 and not elementwise):
                found.rules[node] = first_form(form.value, form.probabilities, form.dims)
            continue
        found.rules[node] = form_beside(form.value, forms[first].value, form.probabilities)
        sources[node] = ((first, 0),)


def _lacks_dimension(factor: Edge | None, structure: Structure) -> bool:
    """Whether einsum gave a factor a dimension that it has not, and put all in order."""
    names = []
    for _ in range(2):
        if factor is None:
            return False
        names.append(kind_name(structure.kinds[factor[0]]))
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
    if kind_name(structure.kinds[factor[0]]) == "TBackward0":
        found.rules[product] = LINEAR_LAYERS[name]
        found.left_out.add(factor[0])
        sources[product] = (*others, structure.sources[factor[0]][0])


def _find_ctc(structure: Structure, sources: list[Sources], found: Patterns) -> None:
    """Note the losses of a log-softmax that nothing else takes."""
    names = [kind_name(kind) for kind in structure.kinds]
    uses = Counter(source[0] for taken in sources for source in taken if source is not None)
    for number, name in enumerate(names):
        source = sources[number][0] if name in _CTC else None
        while source is not None and uses[source[0]] == 1 and source[0] not in found.rules:
            if names[source[0]] == "LogSoftmaxBackward0":
                found.rules[number] = CTC_OF_LOG_SOFTMAX
                found.rules[source[0]] = LOG_SOFTMAX_BELOW_CTC
            is_same = names[source[0]] in _REORDERED
            source = sources[source[0]][0] if is_same else None


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
