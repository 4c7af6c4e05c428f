"""TimeSformer's names: those of the paper's repository, and of transformers.

The repository's are timm's with the temporal parts beside; transformers has names of its own, and
its head outside the prefix. Both hold plain ViTs only: a class token, nothing else before the
patches, no layer scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import nn

from ...zoo.base import VideoModel
from ...zoo.families.timesformer import TimeSformer
from ...zoo.spec import GRAY
from .scheme import OTHER_FAMILY, Rename, Scheme

BLOCK = re.compile(r"trunk\.blocks\.(?P<block>\d+)\.(?P<layer>.+)")
LAYERS = (
    *("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"),
    *("temporal_norm1", "temporal_attn.qkv", "temporal_attn.proj", "temporal_fc"),
)
OFFICIAL = {
    "time_embed": "time_embed",
    **{f"trunk.{name}": name for name in ("cls_token", "pos_embed", "patch_embed.proj", "norm")},
    "head": "head",
}
TRANSFORMERS = {
    "time_embed": "timesformer.embeddings.time_embeddings",
    "trunk.cls_token": "timesformer.embeddings.cls_token",
    "trunk.pos_embed": "timesformer.embeddings.position_embeddings",
    "trunk.patch_embed.proj": "timesformer.embeddings.patch_embeddings.projection",
    "trunk.norm": "timesformer.layernorm",
    "head": "classifier",
}
TRANSFORMERS_LAYERS = {
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
EPS = 1e-6


def _renamer(outer: Mapping[str, str], block: str, layers: Mapping[str, str]) -> Rename:
    def public_key(key: str) -> str | None:
        if key in outer:
            return outer[key]
        module, _, leaf = key.rpartition(".")
        if module in outer:
            return f"{outer[module]}.{leaf}"
        place = BLOCK.fullmatch(module)
        if place is None or place["layer"] not in layers:
            return None
        return f"{block.format(place['block'])}.{layers[place['layer']]}.{leaf}"

    return public_key


class TokenScheme(Scheme):
    """A table for vision transformers: shapes are the same on both sides."""

    def public_shape(self, key: str, module: object, shape: Sequence[int]) -> tuple[int, ...]:
        """Ours."""
        return tuple(shape)

    def refusal(self, model: VideoModel) -> str:
        """Why the code base cannot hold this model; empty where it can."""
        if not isinstance(model, TimeSformer):
            return OTHER_FAMILY
        return _difference(model) or super().refusal(model)


def _difference(model: TimeSformer) -> str:
    """What keys do not show: how tokens are pooled, normed and activated."""
    trunk = model.trunk
    if model.prefix != 1 or trunk.cls_token is None:
        return "there it has one class token and no other prefix"
    if trunk.global_pool != "token" or trunk.no_embed_class:
        return "there it pools the class token, which has a position of its own"
    for module in trunk.modules():
        if isinstance(module, nn.LayerNorm) and module.eps != EPS:
            return f"norms there have eps {EPS:g}, not {module.eps:g}"
    acts = {type(block.mlp.act) for block in trunk.blocks if hasattr(block.mlp, "act")}  # type: ignore[union-attr, operator]
    return "" if acts <= {nn.GELU} else "its activation there is GELU"


def _scheme(layout: str, public_key: Rename) -> TokenScheme:
    whole = {"cut": "all"}
    return TokenScheme(layout, "timesformer", public_key, r"timesformer[-@].+", GRAY, None, whole)


SCHEMES = (
    _scheme("timesformer", _renamer(OFFICIAL, "blocks.{}", {layer: layer for layer in LAYERS})),
    _scheme(
        "transformers",
        _renamer(TRANSFORMERS, "timesformer.encoder.layer.{}", TRANSFORMERS_LAYERS),
    ),
)
