"""``timesformer``: plain vision transformers attend over time, then over space, in each block.

The model, and the three kinds of attention: `vidinit.zoo.families.timesformer`. A converted model
is the image network on a still clip: the projections behind the attention over time and the time
embedding start at zero. Only joint attention is not, where there are prefix tokens.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ...errors import UsageError
from ..families.timesformer import ATTENTIONS, IMAGE_TIMES, TimeSformer
from ..families.vit import RESIZINGS, ViTInfo, cut_blocks, describe_vit
from ..families.vit_blocks import DividedBlock, FrameBlock, PlainBlock
from ..names import check_option
from ..spec import Origin
from .plan import Plan


def timesformer(
    image_model: nn.Module,
    *,
    num_classes: int,
    cut: str = "all",
    attention: str = "divided",
    resizing: str = "smooth",
    image_time: str = "first",
) -> TimeSformer:
    """Let a plain vision transformer attend over time.

    Args:
        image_model: a timm ViT whose classifier was removed (``num_classes=0``): DeiT, AugReg,
            CLIP, DINOv2, SigLIP, EVA without rotary positions. It is changed in place and becomes
            the trunk.
        num_classes: size of the new head.
        cut: which blocks attend over time where it is divided: ``all``, ``top:K`` (the last K) or
            ``bottom:K``.
        attention: ``divided``, ``joint`` or ``space``.
        resizing: how embeddings are resized when `VideoModel.spec` changes: ``smooth`` (bicubic
            over positions, linear over time) or ``nearest`` (the official code's).
        image_time: the time embedding of a clip of one frame, an image: the ``first`` frame's, the
            ``mean`` of all, or ``none``.

    Returns:
        The model, with new temporal projections and a time embedding of zeros, and with `origins`
        filled.

    Raises:
        UsageError: for networks without such tokens and blocks, with the reason.
    """
    check_option("attention", attention, ATTENTIONS)
    check_option("resizing", resizing, RESIZINGS)
    check_option("image_time", image_time, IMAGE_TIMES)
    info = describe_vit(image_model)
    _check_blocks(image_model, info)
    in_time = _cut_blocks(cut, attention, info)
    before = {id(t): key for key, t in image_model.state_dict(keep_vars=True).items()}
    model = TimeSformer(
        image_model, num_classes, attention=attention, resizing=resizing, image_time=image_time
    )
    blocks: Any = image_model.blocks
    for i, block in enumerate(blocks):
        if attention != "divided":
            blocks[i] = PlainBlock(block)
        elif i in in_time:
            blocks[i] = DividedBlock(block, model.frames, info.prefix_tokens)
        else:
            blocks[i] = FrameBlock(block, model.frames, info.prefix_tokens)
    for key, tensor in model.state_dict(keep_vars=True).items():
        if not key.startswith("head."):
            model.origins[key] = _origin(key, before.get(id(tensor)))
    return model


def _origin(key: str, source: str | None) -> Origin:
    if source is not None:
        return Origin(source, "copy")
    if key == "time_embed" or ".temporal_fc." in key:
        return Origin(None, "silent")
    return Origin(key.removeprefix("trunk.").replace(".temporal_", "."), "space-to-time")


def _check_blocks(vit: Any, info: ViTInfo) -> None:
    """Raise UsageError unless the blocks are an attention and an MLP in turn, normed before."""
    kinds = {type(block).__name__ for block in vit.blocks}
    if kinds <= {"Block", "EvaBlock"} and getattr(vit.blocks[0], "gamma_1", None) is None:
        return
    raise UsageError(
        f"{info.arch} cannot attend over time: it is made of timm's {', '.join(sorted(kinds))}, "
        "and divided attention stands between the plain parts of a Block",
        "use another ViT, vit_base_patch16_224 for example",
    )


def _cut_blocks(cut: str, attention: str, info: ViTInfo) -> range:
    """Numbers of the blocks that attend over time."""
    hint = "use all, or with divided attention top:K or bottom:K"
    if cut != "all" and attention != "divided":
        raise UsageError(f"unknown cut '{cut}' of {attention} attention", hint)
    return cut_blocks(cut, info.arch, info.depth, f"{attention} attention", hint)


def _why_inexact(model: TimeSformer) -> str:
    # Of equal patches T weigh more against a class token than one does.
    if model.attention == "joint" and model.prefix:
        return "each patch counts once per frame against the class token and registers"
    return ""


PLAN = Plan(timesformer, why_inexact=_why_inexact)
