"""Operations that only move, copy or drop entries: curvature goes where the gradient goes.

Their Jacobian has entries 0 and 1, which are their own squares, so ``h(x) = Jᵀ h(y)`` is the
gradient's own map applied to ``h``. So it is for several inputs, which y depends on jointly
linearly. All are exact.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules._functions import BackwardHookFunction

from hesrl.curvature.rule_registry import register_adjoint, register_rule

register_adjoint("TBackward0", "TBackward1", one_output=True, apply=Tensor.t)
register_adjoint(
    "ExpandBackward0",
    "PermuteBackward0",
    "ReshapeAliasBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "SqueezeBackward0",
    "SqueezeBackward1",
    "SqueezeBackward2",
    "TransposeBackward0",
    "TransposeBackward1",
    "UnsafeViewBackward0",
    "UnsqueezeBackward0",
    "UnsqueezeBackward1",
    "ViewBackward0",
    one_output=True,
)
# The identity that a module's full backward hooks put behind its inputs and its outputs.
register_adjoint(BackwardHookFunction)
register_adjoint(
    # The same entries, or some of them, in another order or shape.
    "AsStridedBackward0",
    "AsStridedBackward1",
    "ChannelShuffleBackward0",
    "DiagonalBackward0",
    "DiagonalBackward0_copy",
    "FlipBackward0",
    "LiftFreshBackward0",
    "NarrowCopyBackward0",
    "PixelShuffleBackward0",
    "PixelUnshuffleBackward0",
    "RepeatBackward0",
    "RollBackward0",
    "Rot90Backward0",
    "SplitBackward0",
    "SplitWithSizesBackward0",
    "SqueezeBackward3",
    "SqueezeBackward4",
    "SqueezeBackward5",
    "ToCopyBackward0",
    "UnbindBackward0",
    "UnfoldBackward0",
    "UnsafeSplitBackward0",
    "UnsafeSplitWithSizesBackward0",
    # Between zeros, or copies of entries near the edge.
    "ConstantPadNdBackward0",
    "DiagEmbedBackward0",
    "ReflectionPad1DBackward0",
    "ReflectionPad2DBackward0",
    "ReflectionPad3DBackward0",
    "ReplicationPad1DBackward0",
    "ReplicationPad2DBackward0",
    "ReplicationPad3DBackward0",
    "TrilBackward0",
    "TriuBackward0",
    # By index or mask.
    "GatherBackward0",
    "IndexBackward0",
    "IndexSelectBackward0",
    "MaskedSelectBackward0",
    "TakeBackward0",
    # The entries of a certain rank or frequency, by their indices.
    "KthvalueBackward0",
    "MedianBackward1",
    "ModeBackward0",
    "NanmedianBackward1",
    "SortBackward0",
    "SortBackward1",
    "TopkBackward0",
    # Several tensors as one.
    "BlockDiagBackward0",
    "CatBackward0",
    "StackBackward0",
    # Sums of entries: of overlapping windows, of the diagonal.
    "Col2ImBackward0",
    "Im2ColBackward0",
    "TraceBackward0",
    # The map from windows to their sum, which `torch.istft` makes use of.
    "UnfoldBackwardBackward0",
)


@register_rule("MedianBackward0", "NanmedianBackward0", linear=True)
def median(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The median of all entries; those that tie share the slope, as in the gradient."""
    return node(torch.ones_like(hess_out)).square() * hess_out
