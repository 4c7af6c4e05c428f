"""TimeSformer's names in the paper's repository: timm's, with the temporal parts beside them.

It holds plain ViTs only: a class token, nothing else before the patches, no layer scale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ...zoo.base import VideoModel
from ...zoo.families.timesformer import TimeSformer
from ...zoo.names import ZOO
from ...zoo.spec import GRAY
from .public_file import Candidate, PublicFile
from .scheme import OTHER_FAMILY, Rename, Scheme

BLOCK = re.compile(r"trunk\.blocks\.(?P<block>\d+)\.(?P<layer>.+)")
LAYERS = (
    *("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"),
    *("temporal_norm1", "temporal_attn.qkv", "temporal_attn.proj", "temporal_fc"),
)
OUTER = {
    "time_embed": "time_embed",
    **{f"trunk.{name}": name for name in ("cls_token", "pos_embed", "patch_embed.proj", "norm")},
    "head": "head",
}
EPS = 1e-6


def vit_renamer(outer: Mapping[str, str], block: str, layers: Mapping[str, str]) -> Rename:
    """The names of a vision transformer: outside its blocks, of a block, and inside it."""

    def public_key(key: str) -> str | None:
        if key in outer:
            return outer[key]
        module, _, leaf = key.rpartition(".")
        if module in outer:
            return f"{outer[module]}.{leaf}"
        match = BLOCK.fullmatch(module)
        if match is None or match["layer"] not in layers:
            return None
        return f"{block.format(match['block'])}.{layers[match['layer']]}.{leaf}"

    return public_key


class TokenScheme(Scheme):
    """A table for vision transformers: shapes are the same on both sides."""

    def public_shape(self, key: str, module: object, shape: Sequence[int]) -> tuple[int, ...]:
        """Our tensor's shape, which the public one has, too."""
        return tuple(shape)

    def refusal(self, model: VideoModel) -> str:
        """Why the code base cannot hold this model; empty where it can."""
        if not isinstance(model, TimeSformer):
            return OTHER_FAMILY
        return _difference(model) or super().refusal(model)


def _difference(model: TimeSformer) -> str:
    """Differences that keys do not show: in how tokens are pooled, normed and activated."""
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


def vit_scheme(layout: str, public_key: Rename) -> TokenScheme:
    """The table of a code base, which holds TimeSformers without a cut."""
    whole = {"cut": "all"}
    return TokenScheme(layout, _find, public_key, r"timesformer[-@].+", GRAY, None, whole)


VITS = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large"}
"""Plain ViTs by width and number of blocks."""


def _find(file: PublicFile) -> Candidate | None:
    """Plain ViTs with temporal parts; without any, where the layout says that it is one."""
    patch, positions = file.get("trunk.patch_embed.proj.weight"), file.get("trunk.pos_embed")
    if patch is None or positions is None or patch.dim() != 4:
        return None
    time, divided = file.get("time_embed"), file.get("trunk.blocks.0.temporal_fc.weight")
    is_image = time is None and divided is None
    if is_image and file.scheme.layout == "timesformer" and not file.asked:
        return None  # a timm ViT has these names
    depth = 0
    while file.get(f"trunk.blocks.{depth}.norm1.weight") is not None:
        depth += 1
    width, side = int(patch.shape[0]), int(patch.shape[-1])
    size = side * math.isqrt(positions.shape[1] - 1)
    clip = {"size": size} if time is None else {"size": size, "frames": int(time.shape[1])}
    options: dict[str, Any] = {}
    if divided is None:
        options["attention"] = "space" if time is None else "joint"
    kind = VITS.get((width, depth))
    if kind is None:
        refusal = f"no plain ViT is {width} wide and has {depth} blocks"
        return Candidate("timesformer-b16", refusal=refusal)
    target = f"timesformer-{kind[0]}16"
    if side != 16 or target not in ZOO:
        target = f"timesformer-vit_{kind}_patch{side}_224"
    elif kind == "base" and clip == {"size": 448, "frames": 16}:
        target = "timesformer-b16-hr"
    note = "the keys do not tell the number of heads: it is the width over 64"
    return Candidate(target, options, notes=(note,), clip=clip)


SCHEMES = (
    vit_scheme("timesformer", vit_renamer(OUTER, "blocks.{}", {layer: layer for layer in LAYERS})),
)
