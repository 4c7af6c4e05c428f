"""Common to files of networks on frozen vision transformers: OpenAI's names, sizes, differences.

The networks hold timm's transformer as ``tower.vit``. Files name its tensors as OpenAI's CLIP does,
or as timm, and tell its sizes by their shapes alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...zoo.base import VideoModel
from ...zoo.images.vit_sizes import VitSizes, read_sizes
from ...zoo.names import ALIASES, find_entry
from ...zoo.spec import ClipSpec
from .public_file import PublicFile
from .scheme import OTHER_FAMILY, Scheme

TOWER = "tower.vit."
OUTER = {
    "cls_token": "class_embedding",
    "pos_embed": "positional_embedding",
    "patch_embed.proj.weight": "conv1.weight",
    **{f"norm_pre.{leaf}": f"ln_pre.{leaf}" for leaf in ("weight", "bias")},
    **{f"norm.{leaf}": f"ln_post.{leaf}" for leaf in ("weight", "bias")},
}
BLOCK = {
    "norm1": "ln_1",
    "attn.qkv": "attn.in_proj_",  # a parameter of the attention itself
    "attn.proj": "attn.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
PIXELS = ClipSpec(
    mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)
)
"""OpenAI's."""

CLIP_B16, CLIP_L14 = (f"vit_{n}_clip_quickgelu_224" for n in ("base_patch16", "large_patch14"))
SHORT = {(768, 12, 16): "b16", (1024, 24, 14): "l14"}
"""The ends of zoo names by width, depth and patch of OpenAI's towers."""


def clip_key(key: str) -> str | None:
    """OpenAI's name of a tensor of timm's tower; None where CLIP has no such tensor.

    The projection into the joint space of image and text is none of the tower's.
    """
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias)", key)
    if block is None:
        return OUTER.get(key)
    number, layer, leaf = block.groups()
    if layer not in BLOCK:
        return None
    name = BLOCK[layer]
    return f"transformer.resblocks.{number}.{name}{'' if name[-1] == '_' else '.'}{leaf}"


def tower_sizes(file: PublicFile) -> VitSizes | None:
    """Sizes of the frozen tower in a file; None where it is not in it."""
    return read_sizes(lambda key: file.get(TOWER + key))


def sized(plan: str, sizes: VitSizes) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """The zoo model of a plan on a tower of OpenAI's kind.

    Args:
        plan: with zoo names that end in ``b16`` and ``l14``.
        sizes: of the tower.

    Returns:
        The zoo name, the options under which it has these sizes, and what keys do not tell.
    """
    end = SHORT.get((sizes.width, sizes.depth, sizes.patch), "b16")
    arguments = sizes.arguments(CLIP_L14 if end == "l14" else CLIP_B16)
    return f"{plan}-{end}", *told_sizes(arguments)


def told_sizes(arguments: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Sizes that are no named network's as an option of a model, and what keys do not tell."""
    if not arguments:
        return {}, ()
    notes: tuple[str, ...] = (f"its tower has sizes of its own: {written(arguments)}",)
    if arguments.get("num_heads"):
        notes += ("the keys do not tell the number of heads: it is the width over 64",)
    return {"network": arguments}, notes


def written(options: dict[str, Any]) -> str:
    """``a=1, b=2``."""
    return ", ".join(f"{key}={value}" for key, value in options.items())


@dataclass(frozen=True)
class FrozenScheme(Scheme):
    """A table for a network on a frozen vision transformer: tokens have fewer axes in CLIP's names.

    A model that it holds has the class token alone before its patches, and reads it.

    Attributes:
        plan: the temporal plan of its models.
        is_clip: False where the tower is a ViT of ImageNet: GELU, norms with an eps of 1e-6.
    """

    plan: str = ""
    is_clip: bool = True

    def public_shape(self, key: str, module: object, shape: Sequence[int]) -> tuple[int, ...]:
        """The public shape of our tensor ``key``."""
        if self.is_clip and key in (f"{TOWER}cls_token", f"{TOWER}pos_embed"):
            return tuple(shape[2:] if shape[1] == 1 else shape[1:])
        return tuple(shape)

    def refusal(self, model: VideoModel) -> str:
        """Why the code base cannot hold this model; empty where it can."""
        if find_entry(ALIASES.get(model.name, model.name)).plan != self.plan:
            return OTHER_FAMILY
        kind, eps, act = ("CLIP", 1e-5, "QuickGELU") if self.is_clip else ("ViT", 1e-6, "GELU")
        vit: Any = model.get_submodule(TOWER.rstrip("."))
        if vit.num_prefix_tokens != 1 or vit.cls_token is None or vit.global_pool != "token":
            return "there the tower has one class token and reads that"
        if self.is_clip != isinstance(vit.norm_pre, nn.LayerNorm) or not self.names_all(model):
            return f"its tower has other layers than a {kind} there"
        if any(type(block.mlp.act).__name__ != act for block in vit.blocks):
            return f"the activation of a {kind} there is {act}"
        for module in vit.modules():
            if isinstance(module, nn.LayerNorm) and module.eps != eps:
                return f"norms of a {kind} there have eps {eps:g}, not {module.eps:g}"
        return self.difference(model)

    def difference(self, model: VideoModel) -> str:
        """Why the code base cannot hold this model of its plan; empty where it can."""
        if model.options.get("cut", "all") != "all" or "@" in model.name:
            return "there all blocks have adapters"
        return ""
