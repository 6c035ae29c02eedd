"""Networks of diffusers with a few small layers: UNets, transformers and autoencoders."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from hesrl.bench.coverage_examine import Build, Case
from hesrl.bench.coverage_inputs import case_of

Inputs = dict[str, Any]
_TIME = torch.tensor([3])


def _image(*, channels: int = 4, side: int = 8) -> torch.Tensor:
    return torch.randn(1, channels, side, side)


def _video(*, channels: int = 4, frames: int = 4, side: int = 8) -> torch.Tensor:
    return torch.randn(1, channels, frames, side, side)


def _text(width: int = 16, length: int = 5) -> torch.Tensor:
    return torch.randn(1, length, width)


_HEADS = {"num_attention_heads": 2, "attention_head_dim": 8}
_UNET = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
_PLAIN = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D")}
_PLAIN |= {"up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
_CROSS = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "cross_attention_dim": 16}
_AUTOENCODER = _UNET | {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
}

MODELS: dict[str, tuple[dict[str, Any], Callable[[], Inputs]]] = {
    "UNet1DModel": (
        {"block_out_channels": (32, 32, 64), "extra_in_channels": 64, "sample_size": 64},
        lambda: {"sample": torch.randn(1, 2, 64), "timestep": _TIME},
    ),
    "UNet2DModel": (
        _UNET | _PLAIN | {"attention_head_dim": 8},
        lambda: {"sample": _image(channels=3), "timestep": _TIME},
    ),
    "UNet2DConditionModel": (
        _UNET | _CROSS | {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")},
        lambda: {"sample": _image(), "timestep": _TIME, "encoder_hidden_states": _text()},
    ),
    "UNet3DConditionModel": (
        _UNET
        | {"down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"), "cross_attention_dim": 16}
        | {"up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"), "attention_head_dim": 8},
        lambda: {"sample": _video(), "timestep": _TIME, "encoder_hidden_states": _text()},
    ),
    "UNetSpatioTemporalConditionModel": (
        {"block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 16}
        | {"down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal")}
        | {"up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal")}
        | {"num_attention_heads": (2, 4), "projection_class_embeddings_input_dim": 24}
        | {"addition_time_embed_dim": 8, "in_channels": 8},
        lambda: {
            "sample": torch.randn(1, 2, 8, 8, 8),
            "timestep": _TIME,
            "encoder_hidden_states": _text(length=1),
            "added_time_ids": torch.rand(1, 3),
        },
    ),
    "ControlNetModel": (
        _UNET | _CROSS | {"conditioning_embedding_out_channels": (8, 16)},
        lambda: {
            "sample": _image(),
            "timestep": _TIME,
            "encoder_hidden_states": _text(),
            "controlnet_cond": _image(channels=3, side=16),
        },
    ),
    "UVit2DModel": (
        {"hidden_size": 32, "encoder_hidden_size": 16, "cond_embed_dim": 16, "in_channels": 16}
        | {"micro_cond_encode_dim": 4, "micro_cond_embed_dim": 20, "block_out_channels": 32}
        | {"num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20, "codebook_size": 16}
        | {"intermediate_size": 64, "sample_size": 8},
        lambda: {
            "input_ids": torch.randint(16, (1, 8, 8)),
            "encoder_hidden_states": _text(),
            "pooled_text_emb": torch.randn(1, 16),
            "micro_conds": torch.rand(1, 5),
        },
    ),
    "AutoencoderKL": (_AUTOENCODER, lambda: {"sample": _image(channels=3, side=16)}),
    "AsymmetricAutoencoderKL": (
        {"down_block_types": ("DownEncoderBlock2D",), "down_block_out_channels": (16,)}
        | {"up_block_types": ("UpDecoderBlock2D",), "up_block_out_channels": (16,)}
        | {"norm_num_groups": 8},
        lambda: {"sample": _image(channels=3, side=16)},
    ),
    "AutoencoderTiny": (
        {"encoder_block_out_channels": (16, 16), "decoder_block_out_channels": (16, 16)}
        | {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)},
        lambda: {"sample": _image(channels=3, side=16)},
    ),
    "AutoencoderDC": (
        {"attention_head_dim": 8, "encoder_block_out_channels": (16, 16), "latent_channels": 4}
        | {"decoder_block_out_channels": (16, 16), "encoder_layers_per_block": (1, 1)}
        | {"decoder_layers_per_block": (1, 1), "decoder_norm_types": "rms_norm"}
        | {"encoder_block_types": ("ResBlock", "EfficientViTBlock")}
        | {"decoder_block_types": ("ResBlock", "EfficientViTBlock")}
        | {"encoder_qkv_multiscales": ((), (5,)), "decoder_qkv_multiscales": ((), (5,))}
        | {"decoder_act_fns": "silu"},
        lambda: {"sample": _image(channels=3, side=16)},
    ),
    "AutoencoderKLTemporalDecoder": (
        {"block_out_channels": (32, 32), "layers_per_block": 1, "latent_channels": 4}
        | {"down_block_types": ("DownEncoderBlock2D",) * 2},
        lambda: {"sample": torch.randn(2, 3, 16, 16), "num_frames": 2},
    ),
    "AutoencoderKLCogVideoX": (
        {"down_block_types": ("CogVideoXDownBlock3D",) * 4, "block_out_channels": (8,) * 4}
        | {"up_block_types": ("CogVideoXUpBlock3D",) * 4, "layers_per_block": 1}
        | {"norm_num_groups": 4, "latent_channels": 4},
        lambda: {"sample": _video(channels=3, frames=5, side=16)},
    ),
    "AutoencoderOobleck": (
        {"encoder_hidden_size": 8, "decoder_channels": 8, "decoder_input_channels": 4}
        | {"audio_channels": 1, "downsampling_ratios": [2, 4], "channel_multiples": [1, 2]},
        lambda: {"sample": torch.randn(1, 1, 64)},
    ),
    "AutoencoderKLWan": (
        {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1},
        lambda: {"sample": _video(channels=3, frames=5, side=16)},
    ),
    "VQModel": (
        {"block_out_channels": (16,), "norm_num_groups": 8, "num_vq_embeddings": 16},
        lambda: {"sample": _image(channels=3, side=16)},
    ),
    "Transformer2DModel": (
        _HEADS
        | {"in_channels": 16, "num_layers": 1, "cross_attention_dim": 16}
        | {"norm_num_groups": 8},
        lambda: {"hidden_states": _image(channels=16), "encoder_hidden_states": _text()},
    ),
    "DiTTransformer2DModel": (
        _HEADS | {"num_layers": 1, "sample_size": 8, "num_embeds_ada_norm": 10},
        lambda: {
            "hidden_states": _image(),
            "timestep": _TIME,
            "class_labels": torch.tensor([1]),
        },
    ),
    "PixArtTransformer2DModel": (
        _HEADS
        | {"num_layers": 1, "sample_size": 8, "cross_attention_dim": 16, "caption_channels": 16},
        lambda: {
            "hidden_states": _image(),
            "timestep": _TIME,
            "encoder_hidden_states": _text(),
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        },
    ),
    "SD3Transformer2DModel": (
        _HEADS
        | {"num_layers": 2, "sample_size": 8, "in_channels": 4, "joint_attention_dim": 16}
        | {"caption_projection_dim": 16, "pooled_projection_dim": 16, "out_channels": 4},
        lambda: {
            "hidden_states": _image(),
            "timestep": _TIME,
            "encoder_hidden_states": _text(),
            "pooled_projections": torch.randn(1, 16),
        },
    ),
    "FluxTransformer2DModel": (
        _HEADS
        | {"num_layers": 1, "num_single_layers": 1, "in_channels": 4, "joint_attention_dim": 16}
        | {"pooled_projection_dim": 16, "axes_dims_rope": (2, 2, 4)},
        lambda: {
            "hidden_states": _text(4, 16),
            "timestep": _TIME,
            "encoder_hidden_states": _text(),
            "pooled_projections": torch.randn(1, 16),
            "img_ids": torch.rand(16, 3),
            "txt_ids": torch.rand(5, 3),
        },
    ),
    "AuraFlowTransformer2DModel": (
        _HEADS
        | {"num_mmdit_layers": 1, "num_single_dit_layers": 1, "joint_attention_dim": 16}
        | {"caption_projection_dim": 16, "sample_size": 8, "pos_embed_max_size": 16},
        lambda: {
            "hidden_states": _image(),
            "timestep": _TIME,
            "encoder_hidden_states": _text(),
        },
    ),
    "SanaTransformer2DModel": (
        _HEADS
        | {"num_layers": 1, "in_channels": 4, "out_channels": 4, "num_cross_attention_heads": 2}
        | {"cross_attention_head_dim": 8, "cross_attention_dim": 16, "caption_channels": 16}
        | {"sample_size": 8},
        lambda: {
            "hidden_states": _image(),
            "timestep": _TIME,
            "encoder_hidden_states": _text(),
        },
    ),
    "LatteTransformer3DModel": (
        _HEADS
        | {"num_layers": 1, "in_channels": 4, "out_channels": 8, "cross_attention_dim": 16}
        | {"caption_channels": 16, "sample_size": 8, "patch_size": 2, "video_length": 4}
        | {"norm_type": "ada_norm_single", "activation_fn": "gelu-approximate"}
        | {"attention_bias": True, "norm_elementwise_affine": False},
        lambda: {
            "hidden_states": _video(),
            "timestep": _TIME,
            "encoder_hidden_states": _text(),
        },
    ),
    "CogVideoXTransformer3DModel": (
        _HEADS
        | {"num_layers": 1, "in_channels": 4, "out_channels": 4, "text_embed_dim": 16}
        | {"time_embed_dim": 16, "sample_width": 8, "sample_height": 8, "sample_frames": 9}
        | {"max_text_seq_length": 5},
        lambda: {
            "hidden_states": torch.randn(1, 3, 4, 8, 8),
            "timestep": _TIME,
            "encoder_hidden_states": _text(),
        },
    ),
    "LTXVideoTransformer3DModel": (
        _HEADS
        | {"num_layers": 1, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 16}
        | {"caption_channels": 16},
        lambda: {
            "hidden_states": _text(4, 32),
            "timestep": _TIME,
            "encoder_hidden_states": _text(),
            "encoder_attention_mask": torch.ones(1, 5),
            "num_frames": 2,
            "height": 4,
            "width": 4,
        },
    ),
    "WanTransformer3DModel": (
        {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 1, "in_channels": 4}
        | {"out_channels": 4, "text_dim": 16, "freq_dim": 16, "ffn_dim": 32},
        lambda: {
            "hidden_states": _video(frames=2),
            "timestep": _TIME,
            "encoder_hidden_states": _text(),
        },
    ),
    "PriorTransformer": (
        _HEADS | {"num_layers": 1, "embedding_dim": 16, "num_embeddings": 5},
        lambda: {
            "hidden_states": torch.randn(1, 16),
            "timestep": _TIME,
            "proj_embedding": torch.randn(1, 16),
            "encoder_hidden_states": _text(),
        },
    ),
    "TransformerTemporalModel": (
        _HEADS | {"in_channels": 16, "num_layers": 1, "norm_num_groups": 8},
        lambda: {"hidden_states": torch.randn(4, 16, 4, 4), "num_frames": 4},
    ),
}
"""For each model its settings, and what it is called with."""


def families() -> list[str]:
    """Return the names of the models that this diffusers has."""
    diffusers: Any = importlib.import_module("diffusers")
    return [name for name in sorted(MODELS) if hasattr(diffusers, name)]


def find(family: str) -> Iterator[Build]:
    """Yield what builds a model."""
    yield partial(_case, family)


def _case(family: str) -> Case:
    settings, inputs = MODELS[family]
    model = getattr(importlib.import_module("diffusers"), family)(**settings)
    return case_of(family, model, **inputs())
