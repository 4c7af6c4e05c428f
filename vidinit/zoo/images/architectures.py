"""Which network of timm's a file is, where nobody says it: read off its names and shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

COMMON = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "resnet50d", "regnety_016"),
    *("densenet121", "mobilenetv2_100", "mobilenetv3_large_100", "efficientnet_b0"),
    *("tf_efficientnet_lite0", "vgg16", "inception_v3"),
    *("resnet50_clip", "resnet101_clip", "resnet50x4_clip", "resnet50x16_clip"),
)
"""Networks that a file is compared with, one after the other."""

_WIDTHS = {
    (192, 12): "tiny",
    (384, 12): "small",
    (768, 12): "base",
    (1024, 24): "large",
    (1152, 27): "so400m",
    (1280, 32): "huge",
    (1408, 40): "giant",
    (1536, 40): "giant",
}
"""Vision transformers by width and number of blocks."""
_CONVNEXTS = {
    (40, 6): "atto",
    (48, 6): "femto",
    (64, 6): "pico",
    (80, 8): "nano",
    (96, 9): "tiny",
    (96, 27): "small",
    (128, 27): "base",
    (192, 27): "large",
    (256, 27): "xlarge",
    (352, 27): "huge",
}
"""ConvNeXts by width and blocks of the third stage."""


def architectures(
    state: Mapping[str, Tensor], config: Mapping[str, Any], layout: str
) -> tuple[list[str], str]:
    """Names of timm's networks that a state dict may be, and what its names leave open.

    Args:
        state: under timm's names.
        config: the ``config.json`` beside the file.
        layout: of the file's names: towers of CLIP have activations of their own in each code base.
    """
    if "blocks.0.norm1.weight" in state and "patch_embed.proj.weight" in state:
        return _transformers(state, config, layout)
    if "stages.0.blocks.0.conv_dw.weight" in state and "stem.0.weight" in state:
        return _convnexts(state, "stem.0.weight", "blocks.{}.conv_dw"), ""
    if "stages.0.0.dwconv.weight" in state and "downsample_layers.0.0.weight" in state:
        return _convnexts(state, "downsample_layers.0.0.weight", "{}.dwconv"), ""  # its authors'
    return list(COMMON), ""


def _convnexts(state: Mapping[str, Tensor], stem: str, block: str) -> list[str]:
    blocks = 0
    while f"stages.2.{block.format(blocks)}.weight" in state:
        blocks += 1
    kind = _CONVNEXTS.get((len(state[stem]), blocks))
    second = "v2" if any(".grn." in key for key in state) else ""
    return [] if kind is None else [f"convnext{second}_{kind}", f"convnext{second}_{kind}_ols"]


def _transformers(
    state: Mapping[str, Tensor], config: Mapping[str, Any], layout: str
) -> tuple[list[str], str]:
    patch = state["patch_embed.proj.weight"]
    width, side = int(patch.shape[0]), int(patch.shape[-1])
    depth = 0
    while f"blocks.{depth}.norm1.weight" in state:
        depth += 1
    kind = _WIDTHS.get((width, depth))
    positions = state.get("pos_embed")
    if kind is None or positions is None or positions.dim() != 3:
        return [], ""
    tokens = int(positions.shape[1])
    size = side * math.isqrt(tokens)  # one or two of them may be no patch
    near = [str(size), *("224", "256", "384", "512", "518", "240", "336", "378")]
    stem = f"vit_{kind}_patch{side}"
    if "dist_token" in state:
        return [f"deit_{kind}_distilled_patch{side}_{s}" for s in near], ""
    if "blocks.0.ls1.gamma" in state and "norm_pre.weight" not in state:
        registers = "_reg4" if "reg_token" in state or "register_tokens" in state else ""
        deit = [f"deit3_{kind}_patch{side}_{s}" for s in near] if side == 16 else []
        return [f"{stem}{registers}_dinov2", *deit], ""
    if "norm_pre.weight" in state:
        told = (config.get("vision_config") or config).get("hidden_act")
        open_question = ""
        quick = told == "quick_gelu"
        if told is None:
            quick = layout == "transformers"
            assumed = "QuickGELU" if quick else "GELU"
            open_question = (
                f"the names do not tell its activation, GELU or QuickGELU: {assumed} here"
            )
        kinds = ["_clip_quickgelu", "_clip"] if quick else ["_clip", "_clip_quickgelu"]
        return [f"{stem}{clip}_{s}" for clip in kinds for s in near], open_question
    if "cls_token" not in state:
        gap = "" if "attn_pool.latent" in state else "_gap"
        return [f"{stem}_siglip{gap}_{s}" for s in near], ""
    return [f"{stem}_{s}" for s in near], ""
