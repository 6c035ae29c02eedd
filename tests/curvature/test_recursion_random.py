"""Random programs of elementwise operations and others follow HesScale's recursion.

What is elementwise between the others is one function, however its paths fork, leave and rejoin.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hesrl.curvature import arm
from tests.curvature.comparison import normal
from tests.curvature.recursion import Recursion

ELEMENTWISE = [
    lambda a, b: torch.tanh(a),
    lambda a, b: torch.sin(a),
    lambda a, b: 0.5 - a,
    torch.add,
    torch.sub,
    torch.mul,
    torch.maximum,
    lambda a, b: a / (2 + torch.sin(b)),
]
OTHERS = [
    torch.matmul,
    lambda a, w: a.softmax(1),
    lambda a, w: a.sort(1).values,
    lambda a, w: a.cumsum(0),
]


def broadcast(a: Tensor) -> Tensor:
    return a.expand(2, 3)


Instruction = tuple[Callable[..., Tensor], int, int]


def run(program: list[Instruction], leaves: list[Tensor], weight: Tensor) -> Tensor:
    """Run a program by itself: every instruction may take any value that came before it."""
    values = list(leaves)
    for function, i, j in program:
        a, b = values[i % len(values)], values[j % len(values)]
        values.append(function(broadcast(a), weight) if function in OTHERS else function(a, b))
    return (values[-1] * values[-2]).sum()


def source(number: int) -> Callable[..., Tensor]:
    return lambda *sources: sources[number]


def run_as_recursion(program: list[Instruction], leaves: list[Tensor], weight: Tensor) -> Recursion:
    """Run it with every elementwise part as one function of what is not elementwise."""
    step, sources = Recursion(), list(leaves)
    values: list[Callable[..., Tensor]] = [source(n) for n in range(len(leaves))]
    for function, i, j in program:
        a, b = values[i % len(values)], values[j % len(values)]
        if function in OTHERS:
            values.append(source(len(sources)))
            sources.append(step(function, step(broadcast, step(a, *sources)), weight))
        else:
            values.append(lambda *s, f=function, a=a, b=b: f(a(*s), b(*s)))
    step(lambda *s: (values[-1](*s) * values[-2](*s)).sum(), *sources)
    return step


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(data=st.data(), length=st.integers(3, 9))
def test_random_programs(data, length):
    index = st.integers(0, 1 + length)
    instruction = st.tuples(st.sampled_from(ELEMENTWISE + OTHERS), index, index)
    program = data.draw(st.lists(instruction, min_size=length, max_size=length))
    torch.manual_seed(length)
    inputs = [normal(2, 3), normal(3), normal(3, 3)]
    ours, theirs = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    arm(ours)
    run(program, ours[:-1], ours[-1]).backward()
    expected = run_as_recursion(program, theirs[:-1], theirs[-1]).curvature(theirs)
    for x, hess in zip(ours, expected, strict=True):
        actual = torch.zeros_like(x) if x.grad is None else x.hess_diag
        torch.testing.assert_close(actual, hess, rtol=1e-10, atol=1e-12)
