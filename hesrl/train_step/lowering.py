"""What is rewritten in a record before it is compiled, so that memory is read and written less.

The compiler joins operations that go elementwise, and sums, but calls a library for each product of
matrices. Products of a few numbers therefore become elementwise operations:

    a b       = a ∘ b                  if a is a column and b a row
    a B       = Σᵢ aᵢ Bᵢ               if a is a row
    b + A B   = (A B) + b              the sum as an operation of its own
    tanh x    = x P(x²) / Q(x²)        of x within ±9, and the result within ±1

The first is exact; the others round differently. P and Q, of degree 4, are a minimax fit of the
relative error, which is 2e-8 as such and 4e-7 in single precision.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten

_P = (0.999999979286, 0.133810735731, 0.00349564243704, 2.06098707931e-5, 1.33555588205e-8)
_Q = (1.0, 0.467143892367, 0.0258771956415, 0.000328571907832, 7.77696671563e-7)


def lowered(graph_module: GraphModule) -> GraphModule:
    """Return a copy of the graph of a `Record` that compiles to a faster program.

    Operations in half precision stay as they are, and tanh in double precision, too.
    """
    graph_module = copy.deepcopy(graph_module)
    graph = graph_module.graph
    _store_vectors(graph)
    for node in list(graph.nodes):
        if node.meta.get("dtype") not in (torch.float32, torch.float64):
            continue
        with graph.inserting_before(node):
            other = _rewritten(graph, node)
        if other is not None:
            other.meta = node.meta
            node.replace_all_uses_with(other)
            graph.erase_node(node)
    graph_module.recompile()
    return graph_module


def _store_vectors(graph: Graph) -> None:
    """Let vectors that are multiplied by matrices be computed once, not for every entry of those.

    The compiler computes the whole of a tensor before it shows a part of it by strides.
    """
    vectors: dict[Node, None] = {}
    for node in graph.nodes:
        if node.target in (aten.mm.default, aten.addmm.default):
            bases = [_base(operand) for operand in node.args[-2:]]
            vectors |= {x: None for x in bases if x.op != "placeholder" and _is_vector(x)}
    for node in vectors:
        shape = node.meta["shape"]
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        with graph.inserting_after(node):
            whole = graph.call_function(aten.as_strided.default, (node, shape, strides))
        whole.meta = node.meta
        for user in list(node.users):
            if user is not whole:
                user.replace_input_with(node, whole)


def _base(node: Node) -> Node:
    """Return what a view shows."""
    while node.target in (aten.t.default, aten.view.default, aten.unsqueeze.default):
        node = node.args[0]  # type: ignore[assignment]
    return node


def _is_vector(node: Node) -> bool:
    shape = node.meta.get("shape", ())
    return bool(shape) and max(shape) == math.prod(shape)


def _rewritten(graph: Graph, node: Node) -> Node | None:
    """Return what stands for a node, None if it stays."""
    operands: tuple[Any, ...] = node.args
    if node.target is aten.mm.default:
        return _small_product(graph, *operands)
    if node.target is aten.addmm.default and not node.kwargs:
        bias, a, b = operands
        product = _small_product(graph, a, b) or graph.call_function(aten.mm.default, (a, b))
        return graph.call_function(aten.add.Tensor, (product, bias))
    if node.target is aten.tanh.default and node.meta["dtype"] == torch.float32:
        return _tanh(graph, operands[0])
    return None


def _small_product(graph: Graph, a: Node, b: Node) -> Node | None:
    """Return a product with a column, or of a row, elementwise; None for other products."""
    if b.meta["shape"][0] == 1:
        return graph.call_function(aten.mul.Tensor, (a, b))
    if a.meta["shape"][0] == 1:
        column = graph.call_function(aten.t.default, (a,))
        terms = graph.call_function(aten.mul.Tensor, (column, b))
        return graph.call_function(aten.sum.dim_IntList, (terms, [0], True))
    return None


def _tanh(graph: Graph, x: Node) -> Node:
    x = graph.call_function(aten.clamp.default, (x, -9.0, 9.0))
    square = graph.call_function(aten.mul.Tensor, (x, x))
    numerator = graph.call_function(aten.mul.Tensor, (x, _polynomial(graph, square, _P)))
    denominator = _polynomial(graph, square, _Q)
    quotient = graph.call_function(aten.div.Tensor, (numerator, denominator))
    return graph.call_function(aten.clamp.default, (quotient, -1.0, 1.0))


def _polynomial(graph: Graph, x: Node, coefficients: Sequence[float]) -> Node:
    """Return Σ cᵢ xⁱ in Horner's form."""
    *lower, highest = coefficients
    result = graph.call_function(aten.mul.Scalar, (x, highest))
    for c in reversed(lower[1:]):
        result = graph.call_function(aten.add.Scalar, (result, c))
        result = graph.call_function(aten.mul.Tensor, (result, x))
    return graph.call_function(aten.add.Scalar, (result, lower[0]))
