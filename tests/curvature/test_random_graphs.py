"""2,000 random graphs have the curvature of a reference without hesrl, to 1e-12, or are refused.

``make torture`` runs 10,000 larger ones. Graph 620 of these alone:

    python -m tests.curvature.random_graphs.torture --small --graphs 1 --seed 620
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import islice

import pytest
import torch
from torch import Tensor
from torch.func import grad, jacrev

from hesrl.curvature import arm
from tests import reference
from tests.curvature.random_graphs.expected import expected_curvature
from tests.curvature.random_graphs.generator import SMALL, random_program, row_function
from tests.curvature.random_graphs.program import Program
from tests.curvature.random_graphs.torture import failures

GRAPHS, BLOCK = 2000, 100
counts: Counter[str] = Counter()


@pytest.mark.parametrize("first", range(0, GRAPHS, BLOCK))
def test_the_curvature_is_that_of_the_reference(first):
    failed = failures(range(first, first + BLOCK), SMALL, counts)
    assert not failed, "\n".join(failed)


def test_few_graphs_are_refused():
    """Those with a determinant, say, which has no rule; the others prove something."""
    if sum(counts.values()) < GRAPHS:
        failures(range(200), SMALL, counts)
    refused = sum(count for outcome, count in counts.items() if "refused" in outcome)
    assert refused < 0.02 * sum(counts.values())


def of_family(family: str, count: int) -> list[Program]:
    programs = (random_program(seed) for seed in range(GRAPHS))
    return list(islice((p for p in programs if p.family == family), count))


def test_the_reference_of_elementwise_graphs_is_the_hessian():
    for program in of_family("elementwise", 20):
        for n, hess in enumerate(expected_curvature(program)):
            loss = partial(loss_of_leaf, program, n)
            hessian = jacrev(grad(loss))(program.leaves[n]).reshape(hess.numel(), hess.numel())
            torch.testing.assert_close(hessian, hess.detach().flatten().diag())


def loss_of_leaf(program: Program, n: int, x: Tensor) -> Tensor:
    return program.loss([*program.leaves[:n], x, *program.leaves[n + 1 :]])


@pytest.mark.parametrize("family", ["elementwise", "layers", "chain"])
def test_the_code_of_a_graph_is_the_graph(family):
    for program in of_family(family, 3):
        known: dict[str, Tensor] = {}
        exec(program.code(), known)
        assert known["loss"].item() == program.loss(program.leaves).item()


def test_a_gather_within_paths_that_meet_beside_a_layer():
    """Found by graphs 1835, 2323 and 2550 of the long form."""

    def loss(x: Tensor) -> Tensor:
        v = torch.where(x > 0, x * x, x.sin())
        a = v.gather(1, index)
        layer = torch.addmm(v.expand_as(x), torch.digamma(2.5 + x.sin()), weight)
        return layer.sum() + (a + torch.tanh(a)).square().sum()

    torch.manual_seed(0)
    x, weight = (torch.randn(n, 5, dtype=torch.float64) for n in (3, 5))
    index = x.argsort(1).flip(1)
    leaf = x.clone().requires_grad_()
    arm([leaf])
    loss(leaf).backward()
    (exact,) = reference.hess_diag(loss, x)
    torch.testing.assert_close(leaf.hess_diag, exact, rtol=1e-11, atol=1e-12)


def reaches_through_one_entry(program: Program, n: int) -> bool:
    """Whether no entry of a leaf, copied to where it broadcasts, reaches two of any value."""
    leaves = program.leaves
    copies = leaves[n].expand(SMALL.shape).clone()

    def values(x: Tensor) -> list[Tensor]:
        return program.values([*leaves[:n], x, *leaves[n + 1 :]])[len(leaves) :]

    jacobians = (j.reshape(-1, copies.numel()) for j in jacrev(values)(copies))
    return all(((j != 0).sum(0) <= 1).all() for j in jacobians)


def test_row_functions_are_exact_where_no_entry_is_mixed_back():
    kept = Counter[bool]()
    for seed in range(150):
        program = row_function(seed)
        leaves = [leaf.clone().requires_grad_() for leaf in program.leaves]
        arm(leaves)
        program.loss(leaves).backward()
        for n, leaf in enumerate(leaves):
            alone = reaches_through_one_entry(program, n)
            kept[alone] += 1
            if alone and leaf.grad is not None:
                (exact,) = reference.hess_diag(partial(loss_of_leaf, program, n), program.leaves[n])
                torch.testing.assert_close(
                    leaf.hess_diag, exact, rtol=1e-11, atol=1e-12, msg=program.code()
                )
    assert kept[True] > 50 and kept[False] > 20
