"""TimeSformer's names in Hugging Face transformers, whose head is outside the prefix."""

from __future__ import annotations

from .timesformer import vit_renamer, vit_scheme

OUTER = {
    "time_embed": "timesformer.embeddings.time_embeddings",
    "trunk.cls_token": "timesformer.embeddings.cls_token",
    "trunk.pos_embed": "timesformer.embeddings.position_embeddings",
    "trunk.patch_embed.proj": "timesformer.embeddings.patch_embeddings.projection",
    "trunk.norm": "timesformer.layernorm",
    "head": "classifier",
}
LAYERS = {
    "norm1": "layernorm_before",
    "attn.qkv": "attention.attention.qkv",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "temporal_norm1": "temporal_layernorm",
    "temporal_attn.qkv": "temporal_attention.attention.qkv",
    "temporal_attn.proj": "temporal_attention.output.dense",
    "temporal_fc": "temporal_dense",
}

SCHEMES = (vit_scheme("transformers", vit_renamer(OUTER, "timesformer.encoder.layer.{}", LAYERS)),)
