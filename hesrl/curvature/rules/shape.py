"""Operations that only move, copy or drop entries: curvature goes where the gradient goes.

Their Jacobian has entries 0 and 1, which are their own squares, so ``h(x) = Jᵀ h(y)`` is the
gradient's own map applied to ``h``.
"""

from hesrl.curvature.registry import register_adjoint

register_adjoint(
    "AliasBackward0",
    "CatBackward0",
    "CloneBackward0",
    "ExpandBackward0",
    "FlipBackward0",
    "GatherBackward0",
    "IndexBackward0",
    "IndexSelectBackward0",
    "PermuteBackward0",
    "RepeatBackward0",
    "ReshapeAliasBackward0",
    "RollBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "SplitBackward0",
    "SplitWithSizesBackward0",
    "SqueezeBackward0",
    "SqueezeBackward1",
    "SqueezeBackward2",
    "SqueezeBackward3",
    "SqueezeBackward4",
    "SqueezeBackward5",
    "StackBackward0",
    "TBackward0",
    "ToCopyBackward0",
    "TransposeBackward0",
    "UnbindBackward0",
    "UnsafeViewBackward0",
    "UnsqueezeBackward0",
    "ViewBackward0",
)
