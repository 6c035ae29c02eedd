"""Hold one random graph against the reference."""

from __future__ import annotations

from dataclasses import replace

import torch

from hesrl.curvature import MissingRuleError, arm
from tests.curvature.random_graphs.expected import expected_curvature
from tests.curvature.random_graphs.program import Program
from tests.curvature.seeding import node_names

TOLERANCE = 1e-12


def verdict(program: Program) -> str:
    """Return "equal", "refused: " and the operation, or else what is wrong."""
    leaves = [leaf.clone().requires_grad_() for leaf in program.leaves]
    native = torch.autograd.grad(program.loss(leaves), leaves, allow_unused=True)
    arm(leaves)
    loss = program.loss(leaves)
    try:
        loss.backward()
    except MissingRuleError as error:
        named = [name for name in node_names(loss) if name in str(error)]
        if not named or any(leaf.grad is not None for leaf in leaves):
            return f"no clean refusal: {error}"
        return f"refused: {max(named, key=len)}"
    except (RuntimeError, LookupError) as error:
        return f"{type(error).__name__}: {error}"
    for n, (leaf, grad, expected) in enumerate(
        zip(leaves, native, expected_curvature(program), strict=True)
    ):
        actual = leaf.hess_diag
        if grad is None:
            if actual is not None or expected.any():
                return f"v{n} takes no gradient, but has a curvature"
            continue
        if actual is None or actual.shape != leaf.shape or actual.dtype != leaf.dtype:
            return f"the curvature of v{n} is {actual}"
        if not (expected.isfinite() & grad.isfinite()).all():
            return f"the reference of v{n} is not finite"
        # Curvature inherits the rounding of the gradient.
        scale = max(expected.abs().max().item(), grad.abs().max().item(), 1e-3)
        for name, ours, theirs in (("gradient", leaf.grad, grad), ("curvature", actual, expected)):
            error = (ours - theirs).abs().max().item() / scale
            if error <= TOLERANCE:
                continue
            if name == "curvature" and error <= TOLERANCE + 4 * _rounding(program, n) / scale:
                continue
            return f"the {name} of v{n} is off by {error:.1e} of the largest entry"
    return "equal"


def _rounding(program: Program, n: int) -> float:
    """Return how far the reference of leaf n moves if the last bit of each input does."""
    exact = expected_curvature(program)[n]
    moves = []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        signs = (torch.randint(3, leaf.shape, generator=generator) - 1 for leaf in program.leaves)
        moved = [
            leaf + leaf * sign.double() * torch.finfo(leaf.dtype).eps
            for leaf, sign in zip(program.leaves, signs, strict=True)
        ]
        other = expected_curvature(replace(program, leaves=moved))[n]
        moves.append((other - exact).abs().max().item())
    return max(moves)
