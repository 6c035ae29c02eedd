"""What to do about an operation without a curvature rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.parameter_names import listed
from hesrl.curvature.rules.complex_numbers import is_complex
from hesrl.curvature.rules.in_place import InPlace

REENTRANT_CHECKPOINT = "CheckpointFunctionBackward"
_ADVICE = {
    "CompiledFunctionBackward": "torch.compile hides the operations of a model; call the model "
    "itself, or compile it with backend='eager'",
    "torch::jit::(anonymous namespace)::DifferentiableGraphBackward": "torch.jit.script hides the "
    "operations of a model from its second run on; call the module or function itself, or leave "
    "scripting out by PYTORCH_JIT=0 in the environment",
    REENTRANT_CHECKPOINT: "a reentrant checkpoint hides its operations; call checkpoint "
    "with use_reentrant=False",
    **dict.fromkeys(
        ("EmbeddingBackward0", "EmbeddingBagBackward0"),
        "with sparse=True its gradient is sparse, to which no curvature can belong; make the "
        "embedding with sparse=False",
    ),
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


def hidden_by(name: str, params: Sequence[Tensor]) -> str:
    """Say that a node runs a backward pass of its own, which the graph does not show."""
    return (
        f"{name} hides the operations on {listed(params)}: let autograd record them (in a "
        "checkpoint with use_reentrant=False), or do without their curvature"
    )


def advice(name: str, detail: object = None) -> str:
    """Return what to do about a node without a rule.

    Args:
        name: The node's name.
        detail: What its rule depends on (`hesrl.curvature.patterns.find.detail`).
    """
    if name in _ADVICE:
        return _ADVICE[name]
    if isinstance(detail, InPlace):
        return (
            f"an operation in place on a view has one only if it is elementwise, which this one "
            f"({detail.refused}) is not; compute the new entries out of place, then assign them"
        )
    if name.endswith("BackwardBackward0"):
        return (
            "the loss depends on a gradient (create_graph=True), of which there is no curvature; "
            "take such a loss's gradient with torch.autograd.grad, or disarm the parameters"
        )
    operation = name.removesuffix("Backward") if name.endswith("Backward") else repr(name)
    return f"register one with hesrl.curvature.register_rule({operation})"


def advice_without(saved: Sequence[str]) -> str:
    """Return what to do about a node that lacks what its rule reads."""
    return (
        f"its rule reads {', '.join(saved)}, which PyTorch {torch.__version__} does not save; "
        "install a version that setup.cfg names, or replace the operation"
    )


def no_rule(nodes: Sequence[tuple[Any, str]], params: Sequence[Tensor]) -> str:
    """Say which operations have no rule, all at once, and what to do about each of them.

    Args:
        nodes: The nodes, each with what to do about it.
        params: The parameters that are reached through them.
    """
    shapes: dict[tuple[str, str], list[str]] = {}
    for node, remedy in nodes:
        shape = str(tuple(node._input_metadata[0].shape))
        name = f"{node.name()} of complex tensors" if is_complex(node) else node.name()
        shapes.setdefault((name, remedy), []).append(shape)
    between = f", which lies between the loss and {listed(params)}"
    parts = []
    for (name, remedy), of_kind in shapes.items():
        count = f"{len(of_kind)} × " if len(of_kind) > 1 else ""
        outputs = ", ".join(dict.fromkeys(of_kind))
        parts.append(f"{count}{name} (output of shape {outputs}){between}: {remedy}")
        between = ""
    return "no curvature rule for " + "; nor for ".join(parts)
