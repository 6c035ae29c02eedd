"""How configurations of transformers are made small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _each(number: int, names: str) -> dict[str, int]:
    return dict.fromkeys(names.split(), number)


FEWER = _each(
    2,
    "num_hidden_layers num_layers n_layer n_layers num_hidden_groups encoder_layers "
    "decoder_layers num_encoder_layers num_decoder_layers num_block_layers depth num_blocks "
    "num_hidden_blocks encoder_num_hidden_layers decoder_num_hidden_layers "
    "num_nextn_predict_layers",
)
"""Numbers of layers."""

SMALL = {
    **FEWER,
    **_each(
        32,
        "hidden_size d_model n_embd dim embed_dim embedding_size hidden_dim projection_dim d_embed "
        "emb_dim encoder_hidden_size decoder_hidden_size text_embed_dim vision_embed_dim model_dim "
        "word_embed_proj_dim conv_dim entity_emb_size output_hidden_size encoder_embed_dim "
        "decoder_embed_dim out_hidden_size mask_feature_size fusion_hidden_size feature_size "
        "cross_hidden_size image_size img_size max_source_positions max_target_positions",
    ),
    **_each(
        64,
        "intermediate_size n_inner ffn_dim encoder_ffn_dim decoder_ffn_dim d_ff ffn_hidden_size "
        "d_inner mlp_dim dim_feedforward encoder_feedforward_dim decoder_feedforward_dim "
        "feed_forward_hidden_size ffw_dim encoder_intermediate_size decoder_intermediate_size",
    ),
    **_each(
        4,
        "num_attention_heads n_head n_heads num_heads encoder_attention_heads "
        "decoder_attention_heads num_self_attention_heads num_cross_attention_heads "
        "encoder_num_attention_heads decoder_num_attention_heads num_linear_attention_heads "
        "linear_num_value_heads n_routed_experts num_experts num_local_experts moe_num_experts "
        "n_group_experts mamba_n_heads window_size num_frames rotary_dim",
    ),
    **_each(
        2,
        "num_key_value_heads num_experts_per_tok moe_topk n_kv_heads linear_num_key_heads moe_k "
        "num_experts_per_token",
    ),
    **_each(
        8,
        "d_kv head_dim attention_head_dim d_head kv_channels v_head_dim qk_rope_head_dim "
        "qk_nope_head_dim hidden_size_per_layer_input patch_size state_size mamba_d_state",
    ),
    **_each(
        16,
        "kv_lora_rank q_lora_rank moe_intermediate_size shared_expert_intermediate_size "
        "num_mel_bins",
    ),
    **_each(120, "vocab_size vocab_size_per_layer_input decoder_vocab_size"),
    **_each(128, "max_position_embeddings n_positions n_ctx"),
    **_each(1, "n_group topk_group"),
    "conv_kernel_size": 3,
}
"""Small numbers by the names that configurations have for them."""

SMALL_LISTS: dict[str, Callable[[int], int]] = {
    "depths": lambda n: 1,
    "layers": lambda n: 1,
    "hidden_sizes": lambda n: 16 * 2**n,
    "embed_dims": lambda n: 16 * 2**n,
    "num_heads": lambda n: min(2**n, 4),
    "num_attention_heads": lambda n: min(2**n, 4),
    "conv_dim": lambda n: 32,
}
"""The same for lists, by the position in the list."""

_SHARED_KEYS = {"num_key_value_heads": 4}
_MIXED = {"layer_types": ["linear_attention", "full_attention"]}

SPECIAL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("deepseek_v2", "deepseek_v32", "glm_moe_dsa", "kimi_linear", "longcat_flash"),
        _SHARED_KEYS,
    ),
    **dict.fromkeys(("qwen3_next", "olmo_hybrid", "qwen3_5", "qwen3_5_moe"), _MIXED),
    "esm": {"vocab_size": 120, "pad_token_id": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "num_local_experts": 4},
    "zamba": {"layers_block_type": ["mamba", "hybrid"]},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"]},
    "nemotron": {"num_key_value_heads": 2},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": (2, 4),
        "axial_pos_embds_dim": (16, 16),
        "attention_head_size": 8,
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "num_buckets": 2,
    },
}
"""Settings that some model types need besides; of nested configurations, by their name."""
