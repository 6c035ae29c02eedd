"""Operations that move, copy or drop entries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal, one, pair

aten = torch.ops.aten
MASK = torch.tensor([[True, False, False, True]]).expand(3, 4)
INDEX = torch.tensor([[2, 0, 0], [1, 1, 3], [0, 3, 2]])
PICKED = torch.tensor([0, 2, 0])
TARGETS = torch.tensor([2, 0, 1])


def image(*size: int, channels: int = 2) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (normal(2, channels, *size),)


def one_by_three() -> tuple[Tensor, ...]:
    return (normal(1, 3, 1),)


def values(operation: str, *args: Any, **options: Any) -> Callable[[Tensor], Tensor]:
    """The first output of a method that also returns indices."""
    return lambda x: getattr(x, operation)(*args, **options)[0]


MOVED = [
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
    Row("t_", "TBackward1", lambda x: x.clone().t_()),
    Row("transpose_", "TransposeBackward1", lambda x: x.clone().transpose_(0, 1)),
    Row("unsqueeze_", "UnsqueezeBackward1", lambda x: x.clone().unsqueeze_(1)),
    Row("as_strided_", "AsStridedBackward1", lambda x: x.clone().as_strided_((2, 3), (4, 1), 1)),
    Row("to", "ToCopyBackward0", lambda x: x.to(x.dtype, copy=True)),
    Row("transpose", "TransposeBackward0", lambda x: x.transpose(0, 1)),
    Row("unbind", "UnbindBackward0", lambda x: x.unbind(0)),
    Row("_unsafe_view", "UnsafeViewBackward0", lambda x: aten._unsafe_view(x, (12,))),
    Row("unsqueeze", "UnsqueezeBackward0", lambda x: x.unsqueeze(1)),
    Row("view", "ViewBackward0", lambda x: x.view(2, 6)),
]

MOVED += [
    Row("as_strided overlap", "AsStridedBackward0", lambda x: x.as_strided((3, 3), (2, 1), 1)),
    Row(
        "channel_shuffle",
        "ChannelShuffleBackward0",
        lambda x: F.channel_shuffle(x, 2),
        image(1, 2, channels=4),
    ),
    Row("diagonal", "DiagonalBackward0", lambda x: x.diagonal(1)),
    Row("diag", "DiagonalBackward0_copy", lambda x: torch.diag(x, -1)),
    Row("lift_fresh", "LiftFreshBackward0", lambda x: aten.lift_fresh(x.clone())),
    Row("narrow_copy", "NarrowCopyBackward0", lambda x: torch.narrow_copy(x, 1, 1, 2)),
    Row(
        "pixel_shuffle",
        "PixelShuffleBackward0",
        lambda x: F.pixel_shuffle(x, 2),
        image(1, 2, channels=4),
    ),
    Row(
        "pixel_unshuffle", "PixelUnshuffleBackward0", lambda x: F.pixel_unshuffle(x, 2), image(2, 4)
    ),
    Row("rot90", "Rot90Backward0", lambda x: x.rot90(3)),
    Row(
        "unfold method",
        "UnfoldBackward0",
        lambda x: x.unfold(-1, 3, 1),
        one,
        lambda x: torch.stack([x[:, :3], x[:, 1:]], 1),
    ),
    Row("unsafe_split", "UnsafeSplitBackward0", lambda x: torch.unsafe_split(x, 3, -1)),
    Row("flatten", "ViewBackward0", torch.flatten),
    Row("tile", "RepeatBackward0", lambda x: x.tile(2, 1)),
    Row("repeat_interleave", "ExpandBackward0", lambda x: x.repeat_interleave(2, -1)),
    Row(
        "repeat_interleave unequal",
        "IndexSelectBackward0",
        lambda x: x.repeat_interleave(TARGETS, 0),
    ),
    Row(
        "meshgrid",
        "ExpandBackward0",
        lambda a, b: torch.meshgrid(a, b, indexing="ij"),
        lambda: (normal(3), normal(2)),
    ),
]

PADDED = [
    Row("pad", "ConstantPadNdBackward0", lambda x: F.pad(x, (1, 2, 0, -1), value=3.0)),
    Row("diag_embed", "DiagEmbedBackward0", lambda x: torch.diag_embed(x, -1, 0, -1)),
    Row("tril", "TrilBackward0", lambda x: x.tril(1)),
    Row("triu", "TriuBackward0", lambda x: x.triu(-1)),
    *(
        Row(
            f"pad {mode} {len(size)}d",
            f"{node}{len(size)}DBackward0",
            partial(F.pad, pad=(1, 2, 1, 0, 0, 1)[: 2 * len(size)], mode=mode),
            image(*size, channels=1),
        )
        for mode, node in (("reflect", "ReflectionPad"), ("replicate", "ReplicationPad"))
        for size in ((3,), (2, 3), (2, 2, 3))
    ),
]

TAKEN = [
    Row("index repeated", "IndexBackward0", lambda x: x[:, PICKED]),
    Row("take_along_dim", "GatherBackward0", lambda x: x.take_along_dim(INDEX[:, :2], -1)),
    Row("masked_select", "MaskedSelectBackward0", lambda x: x.masked_select(MASK)),
    Row("take", "TakeBackward0", lambda x: x.take(INDEX), one, lambda x: x.flatten()[INDEX]),
    Row("kthvalue", "KthvalueBackward0", values("kthvalue", 2, -1, keepdim=True)),
    Row("median dim", "MedianBackward1", values("median", -1)),
    Row("median", "MedianBackward0", torch.median),
    Row("mode", "ModeBackward0", values("mode", -1)),
    Row("nanmedian dim", "NanmedianBackward1", values("nanmedian", 0)),
    Row("nanmedian", "NanmedianBackward0", torch.nanmedian),
    Row("sort", "SortBackward0", values("sort", 0, descending=True)),
    Row("sort stable", "SortBackward1", values("sort", dim=-1, stable=True)),
    Row("topk", "TopkBackward0", values("topk", 2, -1, largest=False)),
]

JOINED = [
    Row("block_diag", "BlockDiagBackward0", lambda a, b: torch.block_diag(a, b, a), pair),
]

SUMMED = [
    Row(
        "fold",
        "Col2ImBackward0",
        lambda x: F.fold(x, (3, 4), (2, 3), padding=(0, 1)),
        lambda: (normal(2, 6, 8),),
    ),
    Row(
        "fold dilated",
        "Col2ImBackward0",
        lambda x: F.fold(x, 4, 2, dilation=2, stride=2, padding=1),
        lambda: (normal(1, 4, 4),),
    ),
    Row("unfold", "Im2ColBackward0", lambda x: F.unfold(x, (2, 3), (2, 1), 1, (1, 2)), image(3, 4)),
    Row("trace", "TraceBackward0", torch.trace),
]

PARTS = [
    Row(
        "windows added up",
        "UnfoldBackwardBackward0",
        lambda x: torch.ops.aten.unfold_backward(x, [3, 6], -1, 3, 1),
        lambda: (normal(3, 4, 3),),
        lambda x: F.fold(x.transpose(1, 2), (1, 6), (1, 3))[:, 0, 0],
    ),
    Row(
        "unsafe_split_with_sizes",
        "UnsafeSplitWithSizesBackward0",
        lambda x: torch.unsafe_split_with_sizes(x, [1, 3], -1)[1],
    ),
]

ROWS = MOVED + PADDED + TAKEN + JOINED + SUMMED + PARTS
