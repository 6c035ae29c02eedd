"""What to do about an operation without a curvature rule."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

REENTRANT_CHECKPOINT = "CheckpointFunctionBackward"
_ADVICE = {
    "CompiledFunctionBackward": "torch.compile hides the operations of a model; call the model "
    "itself, or compile it with backend='eager'",
    "torch::autograd::CopySlices": "of the operations in place on a view only assignment and "
    "addition have one; compute the new entries out of place, then assign them",
    REENTRANT_CHECKPOINT: "a reentrant checkpoint hides its operations; call checkpoint "
    "with use_reentrant=False",
    **dict.fromkeys(
        ("EmbeddingBackward0", "EmbeddingBagBackward0"),
        "with sparse=True its gradient is sparse, to which no curvature can belong; make the "
        "embedding with sparse=False",
    ),
    "MkldnnRnnLayerBackward0": "the fused LSTM hides its operations; run it under "
    "torch.backends.mkldnn.flags(enabled=False), or unroll an nn.LSTMCell",
    "CudnnRnnBackward0": "the fused recurrent layer hides its operations; run it under "
    "torch.backends.cudnn.flags(enabled=False), or unroll a cell",
    **dict.fromkeys(
        (
            "ScaledDotProductFlashAttentionBackward0",
            "ScaledDotProductEfficientAttentionBackward0",
            "ScaledDotProductCudnnAttentionBackward0",
        ),
        "the fused attention of the GPU hides its operations; run it under "
        "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)",
    ),
}


def shapes_of(params: Sequence[Tensor]) -> str:
    """List the shapes of the first parameters, by which a user may tell them."""
    shapes = ", ".join(str(tuple(param.shape)) for param in params[:3])
    return f"{shapes}, …" if len(params) > 3 else shapes


def hidden_by(name: str, params: Sequence[Tensor]) -> str:
    """Say that a node runs a backward pass of its own, which the graph does not show."""
    return (
        f"{name} hides the operations on parameters of shape {shapes_of(params)}: let autograd "
        "record them (in a checkpoint with use_reentrant=False), or do without their curvature"
    )


def advice(name: str) -> str:
    """Return what to do about a node without a rule, given its name."""
    if name in _ADVICE:
        return _ADVICE[name]
    if name.endswith("BackwardBackward0"):
        return (
            "the loss depends on a gradient (create_graph=True), of which there is no curvature; "
            "take such a loss's gradient with torch.autograd.grad, or disarm the parameters"
        )
    return f"register one with hesrl.curvature.register_rule({name!r})"
