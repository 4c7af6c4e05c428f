"""DiST's names: those of the released files, and the older ones of the side network.

A file holds all of CLIP under the names of OpenAI; our models have no text tower.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...zoo.base import VideoModel
from ...zoo.dist_network.model import DistModel
from ...zoo.plans.dist import dist
from .clip_names import PIXELS, clip_key
from .public_file import Candidate, PublicFile
from .scheme import OTHER_FAMILY, Rename, Scheme

ROOT = "backbone.base_encoder."
LISTS = {
    "reduce": "input_linears",
    "to_time": "integration2temporal_nets",
    "to_space": "temporal2integration_nets",
    "temporal": "temporal_nets",
    "mix": "integration_nets",
    "pools": "adapooling_nets",
}
OLDER = {
    "reduce": "input_map_feat_nets",
    "to_time": "s2t_fuse_nets",
    "to_space": "t2s_fuse_nets",
    "temporal": "temporal_nets",
    "mix": "spatial_nets",
    "pools": "final_temporal_nets",
}
INSIDE: dict[str, dict[str, str]] = {
    "reduce": {"": ""},
    "to_time": {"": "linear_fuse"},
    "to_space": {"": "linear_fuse", "token": "cls_token"},
    "temporal": {"time": "temporal_net.c_fc1", "space": "temporal_net.c_fc2", "norm": "ln"},
    "mix": {
        "norm": "ln",
        "fc1": "ffn.c_fc",
        "fc2": "ffn.c_proj",
        "norm_time": "ln_temporal",
        "time_in": "temporal_ffn.c_fc1",
        "time": "temporal_ffn.c_fc2",
        "time_out": "temporal_ffn.c_proj",
    },
    "pools": {
        "pos_embed": "positional_embedding",
        "over_space.norm": "spatial_transformer.ln_1",
        "over_space.attn": "spatial_transformer.attn",
        "over_space.attn.out_proj": "spatial_transformer.attn.out_proj",
        "over_space.norm_mlp": "ln_out_spat_cls_token",
        "over_space.fc1": "output_map_spatial_cls_token.c_fc",
        "over_space.fc2": "output_map_spatial_cls_token.c_proj",
        "over_time.norm": "temporal_transformer.ln_1",
        "over_time.attn": "temporal_transformer.attn",
        "over_time.attn.out_proj": "temporal_transformer.attn.out_proj",
        "over_time.norm_mlp": "ln_out_temp_cls_token",
        "over_time.fc1": "output_map_cls_token.c_fc",
        "over_time.fc2": "output_map_cls_token.c_proj",
    },
}
OUTER = {
    "stem": "temporal_stem",
    "global_proj": "proj_spatial_cls_token",
    "norm": "ln_post",
    "proj": "proj",
    "clip_token": "aggregated_cls_token",
    "frame_token": "aggregated_spatial_cls_token",
}
PROJECTION = "tower.vit.head.weight"  # transposed there
TEXT = re.compile(
    r"(backbone\.base_encoder\.)?(token_embedding\.weight|positional_embedding|transformer\..+|"
    r"ln_final\.(weight|bias)|text_projection|logit_scale)"
)
VOLUMES = re.compile(r"side\.(temporal\.\d+\.(time|space)|to_space\.\d+|mix\.\d+\.time(_in|_out)?)")


def _tower_key(key: str) -> str | None:
    name = "proj" if key == "head.weight" else clip_key(key)
    return None if name is None else f"visual.{name}"


def _side_key(key: str, lists: Mapping[str, str]) -> str | None:
    first, _, rest = key.partition(".")
    if first in OUTER:
        return f"{OUTER[first]}.{rest}" if rest else OUTER[first]
    if first not in lists:
        return None
    number, _, inside = rest.partition(".")
    names = INSIDE[first]
    if inside in names:  # a parameter that is no layer's
        return f"{lists[first]}.{number}.{names[inside]}"
    layer, _, leaf = inside.rpartition(".")
    if layer not in names:
        return None
    return ".".join(part for part in (lists[first], number, names[layer], leaf) if part)


def _renamer(root: str, net: str, lists: Mapping[str, str]) -> Rename:
    def public_key(key: str) -> str | None:
        if key.startswith("tower.vit."):
            found = _tower_key(key.removeprefix("tower.vit."))
            return None if found is None else root + found
        if key.startswith("side."):
            found = _side_key(key.removeprefix("side."), lists)
            return None if found is None else f"{root}{net}.{found}"
        return None

    return public_key


class DistScheme(Scheme):
    """A table for DiST: convolutions are 3-D there, tokens have other axes of size one."""

    def public_shape(self, key: str, module: object, shape: Sequence[int]) -> tuple[int, ...]:
        """The public shape of our tensor ``key``."""
        if key in ("tower.vit.cls_token", "tower.vit.pos_embed"):
            return tuple(shape[2:]) if shape[1] == 1 else tuple(shape[1:])
        if key == PROJECTION:
            return tuple(shape[::-1])
        if key.endswith(".token"):
            return (1, *shape)
        if key.endswith(".weight") and VOLUMES.fullmatch(key.removesuffix(".weight")):
            outputs, inputs, *kernel = shape
            taps = kernel[:1] if kernel and kernel[-1] == 1 else [1]
            space = kernel if kernel and kernel[-1] > 1 else [1, 1]
            return (outputs, inputs, *taps, *space)
        return tuple(shape)

    def outward(self, key: str, value: Tensor) -> Tensor:
        """Our tensor in the public orientation: the projection is transposed there."""
        return value.mT if key == PROJECTION else value

    def inward(self, key: str, value: Tensor) -> Tensor:
        """A public tensor in our orientation."""
        return value.reshape(value.shape[::-1]).mT if key == PROJECTION else value

    def is_leftover(self, key: str) -> bool:
        """True for a public key that has no place in our models: the text tower's."""
        return TEXT.fullmatch(key) is not None or super().is_leftover(key)

    def refusal(self, model: VideoModel) -> str:
        """Why the code base cannot hold this model; empty where it can."""
        if not isinstance(model, DistModel):
            return OTHER_FAMILY
        vit: Any = model.tower.vit
        if not self.names_all(model):
            return "its tower is no CLIP of OpenAI's, or it has a linear head"
        if any("QuickGELU" not in type(block.mlp.act).__name__ for block in vit.blocks):
            return "the tower's activation there is QuickGELU"
        if model.tower.blocks != list(range(len(vit.blocks))):
            return "all blocks of the tower are read there"
        if bool(vit.head.bias.any()):
            return "the tower's projection has no bias there"
        return super().refusal(model)


TOWERS = {(768, 16): "dist-b16", (1024, 14): "dist-l14"}
"""Names by the tower's width and patch."""


def _find(file: PublicFile) -> Candidate | None:
    token, stem = file.get("side.to_space.0.token"), file.get("side.stem.weight")
    fuse, positions = file.get("side.to_space.0.weight"), file.get("tower.vit.pos_embed")
    patch = file.get("tower.vit.patch_embed.proj.weight")
    if token is None or stem is None or fuse is None:
        return None
    if positions is None or patch is None:
        return Candidate("dist-b16", refusal="its tower is not in it: only the side network is")
    side, gamma = int(patch.shape[-1]), int(fuse.shape[2])
    size = side * math.isqrt(positions.shape[0] - 1)
    name = TOWERS.get((int(patch.shape[0]), side), "dist-b16")
    known = (int(patch.shape[0]), side) in TOWERS
    found = Candidate("dist-l14-336" if name == "dist-l14" and size == 336 else name)
    if not known:
        found.refusal = f"the zoo has no tower {patch.shape[0]} wide with patches of {side} pixels"
    elif stem.shape[-1] != side:
        found.refusal = (
            f"its stem has patches of {stem.shape[-1]} pixels, its tower of {side}: it cannot run"
        )
    pools = 0
    while file.get(f"side.pools.{pools}.pos_embed") is not None:
        pools += 1
    sizes = {"gamma": gamma, "pools": pools, "dim": token.shape[-1], "temporal_dim": len(stem)}
    defaults = inspect.signature(dist).parameters
    found.options = {k: v for k, v in sizes.items() if v != defaults[k].default}
    found.clip = {"frames": gamma * int(token.shape[2]), "size": size}
    return found


def _scheme(root: str, net: str, lists: Mapping[str, str]) -> DistScheme:
    return DistScheme(
        "dist",
        _find,
        _renamer(root, net, lists),
        r"dist-.+",
        PIXELS,
        None,
        absent=("tower.vit.head.bias", "head.embeddings", "head.logit_scale"),
    )


SCHEMES = (
    _scheme(ROOT, "dist_net", LISTS),
    _scheme(ROOT, "ladder_net", OLDER),
    _scheme("", "dist_net", LISTS),
    _scheme("", "ladder_net", OLDER),
)
