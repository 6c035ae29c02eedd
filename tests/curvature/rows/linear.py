"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal


def bilinear(a: Tensor, c: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """A bilinear layer by matrix products."""
    z = torch.einsum("...i,oij,...j->...o", a, w, c)
    return z if b is None else z + b


PRODUCTS = [
    Row(
        "addmm",
        "AddmmBackward0",
        lambda b, a, w: torch.addmm(b, a, w, beta=-0.5, alpha=1.7),
        lambda: (normal(4), normal(3, 2), normal(2, 4)),
    ),
    Row("linear", "AddmmBackward0", F.linear, lambda: (normal(3, 2), normal(4, 2), normal(4))),
    Row(
        "linear 3d",
        "AddmmBackward0",
        F.linear,
        lambda: (normal(2, 3, 2), normal(4, 2), normal(4)),
    ),
    Row("linear 1d", "AddmmBackward0", F.linear, lambda: (normal(2), normal(4, 2), normal(4))),
    Row("linear no bias", "MmBackward0", F.linear, lambda: (normal(2, 3, 2), normal(4, 2))),
    *(
        Row(
            f"addmv {b}",
            "AddmvBackward0",
            lambda b, a, w: torch.addmv(b, a, w, beta=-0.5, alpha=1.7),
            lambda b=b: (normal(b), normal(3, 2), normal(2)),
        )
        for b in (3, 1)
    ),
    *(
        Row(
            f"addr {b}",
            "AddrBackward0",
            lambda b, a, w: torch.addr(b, a, w, beta=-0.5, alpha=1.7),
            lambda b=b: (normal(*b), normal(3), normal(4)),
        )
        for b in ((3, 4), (3, 1), (4,))
    ),
    *(
        Row(
            f"{function.__name__} {b}",
            node,
            lambda b, a, w, f=function: f(b, a, w, beta=-0.5, alpha=1.7),
            lambda b=b: (normal(*b), normal(2, 3, 2), normal(2, 2, 4)),
        )
        for function, node, shapes in (
            (torch.addbmm, "AddbmmBackward0", ((3, 4), (3, 1), (4,))),
            (torch.baddbmm, "BaddbmmBackward0", ((2, 3, 4), (2, 1, 4), (3, 1))),
        )
        for b in shapes
    ),
    Row("mm", "MmBackward0", torch.mm, lambda: (normal(3, 2), normal(2, 4))),
    Row("bmm", "BmmBackward0", torch.bmm, lambda: (normal(2, 3, 2), normal(2, 2, 4))),
    Row("mv", "MvBackward0", torch.mv, lambda: (normal(3, 2), normal(2))),
    Row("dot", "DotBackward0", torch.dot, lambda: (normal(3), normal(3))),
    Row("vdot", "VdotBackward0", torch.vdot, lambda: (normal(3), normal(3)), torch.dot),
    Row(
        "bilinear",
        "TrilinearBackward0",
        F.bilinear,
        lambda: (normal(3, 2), normal(3, 3), normal(4, 2, 3), normal(4)),
        bilinear,
    ),
    Row(
        "bilinear 3d no bias",
        "TrilinearBackward0",
        F.bilinear,
        lambda: (normal(2, 3, 2), normal(2, 3, 1), normal(2, 2, 1)),
        bilinear,
    ),
]

COMPOSITES = [
    *(
        Row(f"matmul {a} {w}", node, torch.matmul, lambda a=a, w=w: (normal(*a), normal(*w)))
        for a, w, node in (
            ((3,), (3, 2), "MmBackward0"),
            ((3,), (2, 3, 2), "MvBackward0"),
            ((2, 3, 2), (2,), "MvBackward0"),
            ((2, 3, 2), (2, 4), "MmBackward0"),
            ((3, 2), (2, 2, 4), "MmBackward0"),
            ((2, 1, 3, 2), (3, 2, 2), "BmmBackward0"),
        )
    ),
    *(
        Row(
            f"einsum {equation}",
            node,
            lambda *x, equation=equation: torch.einsum(equation, *x),
            lambda shapes=shapes: tuple(normal(*shape) for shape in shapes),
        )
        for equation, node, *shapes in (
            ("bij,bjk->bik", "BmmBackward0", (2, 2, 3), (2, 3, 2)),
            ("ijk,kl->lij", "BmmBackward0", (2, 2, 3), (3, 2)),
            ("i,j->ji", "MulBackward0", (2,), (3,)),
            ("bi,bi->b", "BmmBackward0", (2, 3), (2, 3)),
            ("ii->i", "DiagonalBackward0", (3, 3)),
        )
    ),
    Row("outer", "MulBackward0", torch.outer, lambda: (normal(3), normal(2))),
    Row("inner", "MmBackward0", torch.inner, lambda: (normal(2, 3), normal(4, 3))),
    Row("kron", "MulBackward0", torch.kron, lambda: (normal(2, 3), normal(3, 1))),
    Row("vecdot", "MulBackward0", torch.linalg.vecdot, lambda: (normal(2, 3), normal(3))),
    Row(
        "tensordot",
        "MmBackward0",
        lambda a, w: torch.tensordot(a, w, dims=([1, 2], [1, 0])),
        lambda: (normal(2, 3, 2), normal(2, 3, 2)),
    ),
]

ROWS = PRODUCTS + COMPOSITES
