"""Softmax and log-softmax of the same logits, in whatever form they are written.

Node by node they are only estimates, because their parts mix the same entries again. A form is
recognized (`softmax_values.py`) if what lies between it and the logits is used by
forms of these logits alone. Forms of the same logits are one operation, for which the first of them
stands; the others are elementwise functions of that (`hesrl.curvature.rules.softmax_group`).
"""

from __future__ import annotations

from collections.abc import Iterable

from hesrl.curvature.patterns.softmax_values import Form, Values
from hesrl.curvature.rules.softmax_group import Dims
from hesrl.curvature.structure import Edge, Structure, kind_name

_STARTS = frozenset(
    {"LogSoftmaxBackward0", "SoftmaxBackward0", "LogsumexpBackward0", "ExpBackward0"}
)
"""The kinds of nodes without which there is no form."""


def find_forms(structure: Structure) -> dict[int, Form]:
    """Return the forms of a graph by their nodes."""
    if not _STARTS.intersection(map(kind_name, structure.kinds)):
        return {}
    not_inner: set[int] = set()
    while True:
        forms = Values(structure, not_inner).forms
        exposed = _exposed(structure, forms)
        if not exposed:
            return _without_elementwise(forms)
        not_inner |= exposed


def _exposed(structure: Structure, forms: dict[int, Form]) -> set[int]:
    """Return the nodes that lie within forms, but are used by something else too."""
    inner = frozenset[int]().union(*(form.inner for form in forms.values()))
    if not inner:
        return set()
    exposed = inner.intersection(structure.roots)
    used_by_others = {
        source[0]
        for node, taken in enumerate(structure.sources)
        if node not in inner
        for source in taken
        if source is not None
        and source[0] in inner
        and (node not in forms or source[0] not in forms[node].inner)
    }
    return used_by_others.union(exposed)


def _without_elementwise(forms: dict[int, Form]) -> dict[int, Form]:
    """Leave out what is elementwise and no form is made of: its own rule is exact."""
    kept: dict[int, Form] = {}
    below: set[int] = set()
    for node in sorted(forms, reverse=True):
        form = forms[node]
        if form.probabilities is not None or node in below:
            kept[node] = form
            if form.over is not None:
                below.add(form.source[0])
    return kept


def first_of_each(forms: Iterable[Form]) -> dict[int, int]:
    """Return for each form that is not made of another one the form that stands for its group.

    Forms of the same tensor over the same dimensions are a group. A log-softmax stands for it if
    there is one: of a softmax that is zero it could not be told.
    """
    groups: dict[tuple[Edge, Dims], list[Form]] = {}
    for form in sorted(forms, key=lambda form: (form.value == "softmax", form.node)):
        if form.over is None:
            groups.setdefault((form.source, form.dims), []).append(form)
    return {form.node: several[0].node for several in groups.values() for form in several}


def order_of(structure: Structure) -> list[int] | None:
    """Return the nodes in an order where the first form of each group precedes the others."""
    firsts = first_of_each(find_forms(structure).values())
    if all(first <= node for node, first in firsts.items()):
        return None
    order: list[int] = []
    placed = [False] * len(structure.kinds)

    def place(node: int) -> None:
        if not placed[node]:
            placed[node] = True
            for source in structure.sources[node]:
                if source is not None:
                    place(source[0])
            place(firsts.get(node, node))
            order.append(node)

    for node in range(len(structure.kinds)):
        place(node)
    return order
