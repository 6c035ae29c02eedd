"""Which nodes are softmaxes and log-softmaxes: the values of its inputs give every node a value.

Let u be a tensor, M its maximum and Σ a sum over some dimensions, which are kept with size 1, or
restored, or the first ones, so that the result broadcasts against u:

    shifted        u − M
    logsumexp      logsumexp u,  log Σ exp u,  M + logsumexp(u − M)
    log-softmax    log_softmax u,  u − logsumexp u,  −(logsumexp u − u),  log(softmax u)
    its negative   logsumexp u − u
    softmax        softmax u,  exp u / Σ exp u,  exp(log_softmax u),  softmax u / Σ softmax u

All are the same of ``u − M`` as of u, and of ``log_softmax u`` as of u.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from hesrl.curvature.rules import softmax_group as group
from hesrl.curvature.rules.softmax_group import Dims, Probabilities, Value
from hesrl.curvature.structure import Edge, Structure, kind_name

Argument: TypeAlias = "tuple[Edge, tuple[str, Dims] | None]"
"""A tensor, and the maximum that was subtracted from it: its kind of node and its dimensions."""


@dataclass(frozen=True, slots=True)
class Form:
    """A node whose value is a softmax or a log-softmax."""

    node: int
    value: Value
    dims: Dims
    source: Edge
    """The tensor that it is the softmax of."""
    over: Value | None
    """What that tensor is, if it is a softmax or a log-softmax over the same dimensions."""
    inner: frozenset[int]
    """The nodes between the tensor and the node."""
    probabilities: Probabilities | None
    """Reads the softmax at the node; None for an elementwise function of another form."""
    is_plain: bool
    """Whether its kind of node has the rule already."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The value of a node of which forms are made."""

    kind: str
    of: Argument
    inner: frozenset[int]
    dims: Dims = ()
    keeps_dims: bool = True
    path: tuple[int, ...] = ()
    """The inputs through which a logsumexp is reached."""
    is_written: bool = False
    """Whether a logsumexp is the logarithm of a sum of exponentials."""
    summand: Edge | None = None

    @property
    def lines_up(self) -> bool:
        """Whether it broadcasts against the tensor that it was reduced from."""
        return self.keeps_dims or self.dims == tuple(range(len(self.dims)))


class Values:
    """The values of the nodes of a graph.

    Args:
        structure: The structure of the graph.
        not_inner: Nodes that something else uses too.
    """

    def __init__(self, structure: Structure, not_inner: set[int]) -> None:
        self._kinds, self._details = structure.kinds, structure.details
        self._sources = structure.sources
        self.forms: dict[int, Form] = {}
        self._parts: dict[int, _Part] = {}
        for node, kind in enumerate(structure.kinds):
            find = _FINDERS.get(kind_name(kind))
            if find is not None and all(s is not None for s in self._sources[node]):
                part = find(self, node, *self._sources[node])
                if part is not None and node not in not_inner:
                    self._parts[node] = part

    def _part(self, edge: Edge, *kinds: str) -> _Part | None:
        part = self._parts.get(edge[0]) if edge[1] == 0 else None
        return part if part is not None and part.kind in kinds else None

    def _value(self, edge: Edge) -> Form | None:
        return self.forms.get(edge[0]) if edge[1] == 0 else None

    def _argument(self, edge: Edge) -> tuple[Argument, frozenset[int]]:
        """Return what an operation on a tensor is an operation of, and the nodes between."""
        shifted = self._part(edge, "shifted")
        return ((edge, None), frozenset()) if shifted is None else (shifted.of, shifted.inner)

    def _reduced(self, node: int, kind: str, of: Argument, inner: frozenset[int]) -> _Part | None:
        detail: Any = self._details.get(node)
        return detail and _Part(kind, of, inner | {node}, *detail)

    def _add_form(
        self,
        node: int,
        value: Value,
        of: Argument,
        dims: Dims,
        inner: frozenset[int],
        probabilities: Probabilities,
        *,
        is_plain: bool = False,
    ) -> None:
        source, shift = of
        while shift is not None:
            if not set(dims).issubset(shift[1]):
                return
            (source, shift), further = self._argument(source)
            inner |= further
        below = self._value(source)
        is_over = below is not None and below.dims == dims and below.value == "log_softmax"
        over: Value | None = "log_softmax" if is_over else None
        is_plain = is_plain and not inner
        self.forms[node] = Form(node, value, dims, source, over, inner, probabilities, is_plain)

    def _find_plain(self, node: int, u: Edge) -> None:
        is_log = kind_name(self._kinds[node]) == "LogSoftmaxBackward0"
        value: Value = "log_softmax" if is_log else "softmax"
        probabilities = group.of_log_softmax if is_log else group.of_softmax
        dims: Any = self._details[node]
        of, inner = self._argument(u)
        self._add_form(node, value, of, dims, inner, probabilities, is_plain=True)

    def _add_elementwise(self, node: int, value: Value, u: Edge, over: Value) -> None:
        below = self._value(u)
        if below is not None and below.value == over:
            form = Form(node, value, below.dims, u, over, frozenset(), None, True)
            self.forms[node] = form

    def _find_maximum(self, node: int, u: Edge) -> _Part | None:
        detail: Any = self._details[node]
        shift = (kind_name(self._kinds[node]), detail[0])
        return self._reduced(node, "maximum", (u, shift), frozenset())

    def _find_exp(self, node: int, u: Edge) -> _Part:
        self._add_elementwise(node, "softmax", u, "log_softmax")
        of, inner = self._argument(u)
        return _Part("exp", of, inner | {node})

    def _find_sum(self, node: int, u: Edge) -> _Part | None:
        exp = self._part(u, "exp")
        if exp is not None:
            part = self._reduced(node, "sum", exp.of, exp.inner)
        else:
            part = self._reduced(node, "total", (u, None), frozenset())
        return part and replace(part, summand=u)

    def _find_logsumexp(self, node: int, u: Edge) -> _Part | None:
        return self._reduced(node, "logsumexp", *self._argument(u))

    def _find_log(self, node: int, u: Edge) -> _Part | None:
        self._add_elementwise(node, "log_softmax", u, "softmax")
        total = self._part(u, "sum")
        if total is None:
            return None
        inner = total.inner | {node}
        return replace(total, kind="logsumexp", inner=inner, path=(), is_written=True)

    def _find_negation(self, node: int, u: Edge) -> None:
        self._add_elementwise(node, "log_softmax", u, "negative")

    def _find_unsqueeze(self, node: int, u: Edge) -> _Part | None:
        part = self._part(u, "maximum", "sum", "total", "logsumexp")
        if part is None or part.keeps_dims or part.dims != (self._details.get(node),):
            return None
        inner, path = part.inner | {node}, (0, *part.path)
        return replace(part, keeps_dims=True, inner=inner, path=path)

    def _find_addition(self, node: int, a: Edge, b: Edge) -> _Part | None:
        """``M + logsumexp(u − M)``."""
        for position, (m, rest) in enumerate(((b, a), (a, b))):
            maximum, logsumexp = self._part(m, "maximum"), self._part(rest, "logsumexp")
            if maximum is None or logsumexp is None or not self._details.get(node):
                continue
            is_same = maximum.of == logsumexp.of and maximum.dims == logsumexp.dims
            if is_same and maximum.keeps_dims == logsumexp.keeps_dims:
                of, inner = self._argument(maximum.of[0])
                inner |= maximum.inner | logsumexp.inner | {node}
                path = (position, *logsumexp.path)
                return replace(logsumexp, of=of, inner=inner, path=path)
        return None

    def _find_subtraction(self, node: int, a: Edge, b: Edge) -> _Part | None:
        if not self._details.get(node):
            return None
        maximum = self._part(b, "maximum")
        if maximum is not None and maximum.of[0] == a and maximum.lines_up:
            return _Part("shifted", maximum.of, maximum.inner | {node})
        signs: tuple[tuple[Value, Edge, Edge], ...] = (("log_softmax", a, b), ("negative", b, a))
        for position, (value, u, rest) in zip((1, 0), signs, strict=True):
            logsumexp, (of, inner) = self._part(rest, "logsumexp"), self._argument(u)
            if logsumexp is not None and logsumexp.of == of and logsumexp.lines_up:
                path, dims = (position, *logsumexp.path), logsumexp.dims
                of_node = (
                    group.of_written_difference if logsumexp.is_written else group.of_difference
                )
                inner |= logsumexp.inner
                self._add_form(node, value, of, dims, inner, of_node(path, dims))
        return None

    def _find_division(self, node: int, a: Edge, b: Edge) -> None:
        total, below, exp = self._part(b, "sum", "total"), self._value(a), self._part(a, "exp")
        if total is None or not total.lines_up:
            return
        read = group.of_quotient
        if below is not None and (below.value, total.summand) == ("softmax", a):
            if below.dims == total.dims:
                # Only the sum lies between: what is summed is the form below.
                inner = frozenset(total.inner - self._inner_of_exp(a))
                self.forms[node] = Form(
                    node, "softmax", total.dims, a, "softmax", inner, read, False
                )
        elif exp is not None and exp.of == total.of and total.kind == "sum":
            self._add_form(node, "softmax", exp.of, total.dims, exp.inner | total.inner, read)

    def _inner_of_exp(self, edge: Edge) -> frozenset[int]:
        exp = self._part(edge, "exp")
        return frozenset() if exp is None else exp.inner


_Finder: TypeAlias = Callable[..., "_Part | None"]
_FINDERS: dict[str, _Finder] = {
    "LogSoftmaxBackward0": Values._find_plain,
    "SoftmaxBackward0": Values._find_plain,
    "MaxBackward0": Values._find_maximum,
    "MaxBackward1": Values._find_maximum,
    "AmaxBackward0": Values._find_maximum,
    "ExpBackward0": Values._find_exp,
    "SumBackward0": Values._find_sum,
    "SumBackward1": Values._find_sum,
    "LogsumexpBackward0": Values._find_logsumexp,
    "LogBackward0": Values._find_log,
    "UnsqueezeBackward0": Values._find_unsqueeze,
    "NegBackward0": Values._find_negation,
    "AddBackward0": Values._find_addition,
    "SubBackward0": Values._find_subtraction,
    "DivBackward0": Values._find_division,
}
