"""Operations that move, copy or drop entries."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, normal, pair

aten = torch.ops.aten
MASK = torch.tensor([[True, False, False, True]]).expand(3, 4)
INDEX = torch.tensor([[2, 0, 0], [1, 1, 3], [0, 3, 2]])
PICKED = torch.tensor([0, 2, 0])
TARGETS = torch.tensor([2, 0, 1])


def one_by_three() -> tuple[Tensor, ...]:
    return (normal(1, 3, 1),)


ROWS = [
    Row("alias", "AliasBackward0", aten.alias),
    Row("cat", "CatBackward0", lambda a, b: torch.cat([a, b, a], 1), pair),
    Row("clone", "CloneBackward0", torch.clone),
    Row("expand", "ExpandBackward0", lambda x: x.expand(2, 3, 4)),
    Row("flip", "FlipBackward0", lambda x: x.flip(-1)),
    Row("gather", "GatherBackward0", lambda x: x.gather(1, INDEX)),
    Row("index", "IndexBackward0", lambda x: x[PICKED, TARGETS]),
    Row("index mask", "IndexBackward0", lambda x: x[MASK]),
    Row("index_select", "IndexSelectBackward0", lambda x: x.index_select(0, PICKED)),
    Row("permute", "PermuteBackward0", lambda x: x.permute(1, 0)),
    Row("repeat", "RepeatBackward0", lambda x: x.repeat(2, 1, 2)),
    Row("_reshape_alias", "ReshapeAliasBackward0", lambda x: aten._reshape_alias(x, (12,), (1,))),
    Row("roll", "RollBackward0", lambda x: x.roll(1, 0)),
    Row("select", "SelectBackward0", lambda x: x[1]),
    Row("slice", "SliceBackward0", lambda x: x[:, 1:3]),
    Row("split", "SplitBackward0", lambda x: x.split(2, 1)),
    Row("split with sizes", "SplitWithSizesBackward0", lambda x: x.split([1, 3], 1)),
    Row("squeeze", "SqueezeBackward0", torch.squeeze, one_by_three),
    Row("squeeze dim", "SqueezeBackward1", lambda x: x.squeeze(0), one_by_three),
    Row("squeeze dims", "SqueezeBackward2", lambda x: x.squeeze((0, 2)), one_by_three),
    *(
        Row(f"squeeze_ {dims}", node, lambda x, d=dims: x.clone().squeeze_(*d), one_by_three)
        for node, dims in (
            ("SqueezeBackward3", ()),
            ("SqueezeBackward4", (0,)),
            ("SqueezeBackward5", ((0, 2),)),
        )
    ),
    Row("stack", "StackBackward0", lambda a, b: torch.stack([a, b], 1), pair),
    Row("t", "TBackward0", torch.t),
    Row("to", "ToCopyBackward0", lambda x: x.to(x.dtype, copy=True)),
    Row("transpose", "TransposeBackward0", lambda x: x.transpose(0, 1)),
    Row("unbind", "UnbindBackward0", lambda x: x.unbind(0)),
    Row("_unsafe_view", "UnsafeViewBackward0", lambda x: aten._unsafe_view(x, (12,))),
    Row("unsqueeze", "UnsqueezeBackward0", lambda x: x.unsqueeze(1)),
    Row("view", "ViewBackward0", lambda x: x.view(2, 6)),
]
