"""Plain vision transformers of timm: what they are made of, and their position embedding resized.

Plain means tokens of one width, one per patch of a constant grid, behind a few prefix tokens: class
token, registers (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021, and what followed:
DeiT, AugReg, CLIP, DINOv2, SigLIP).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageError
from ..images.heads import channels_of
from ..images.networks import timm_module
from ..modify.eval_mode import in_eval_mode

RESIZINGS = ("smooth", "nearest")
"""How embeddings are resized: bicubic over positions and linear over time, or nearest."""


@dataclass(frozen=True)
class ViTInfo:
    """The parts of a plain vision transformer.

    Attributes:
        arch: timm name.
        embed_dim: C, width of a token.
        depth: number of blocks.
        heads: heads of an attention.
        patch: side of a patch in pixels.
        size: (height, width) of its images in pixels.
        grid: (rows, columns) of patches.
        prefix_tokens: P, tokens before those of the patches: the class token and the registers.
        class_token: True where the first of them is a class token.
        registers: how many of them are registers.
        pool: timm's name of what makes tokens a descriptor: ``token``, ``avg``, ``map``, ...
    """

    arch: str
    embed_dim: int
    depth: int
    heads: int
    patch: int
    size: tuple[int, int]
    grid: tuple[int, int]
    prefix_tokens: int
    class_token: bool
    registers: int
    pool: str

    @property
    def patches(self) -> int:
        """N, patches of an image."""
        return self.grid[0] * self.grid[1]


def is_vit(model: nn.Module) -> bool:
    """True for timm's VisionTransformer, of whatever blocks, and its EVA."""
    timm_module()
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    return isinstance(model, (VisionTransformer, Eva))


def describe_vit(model: nn.Module) -> ViTInfo:
    """Read the parts of a plain timm vision transformer.

    Args:
        model: with or without its classifier.

    Raises:
        UsageError: for a network that is none, with the reason.
    """
    arch = _arch(model)
    refusal = why_not_plain(model)
    if refusal:
        raise UsageError(
            f"{arch} is no plain vision transformer: {refusal}",
            "use a ViT, DeiT, CLIP, DINOv2 or SigLIP, vit_base_patch16_224 for example",
        )
    vit: Any = model
    embed = vit.patch_embed
    return ViTInfo(
        arch=arch,
        embed_dim=int(vit.embed_dim),
        depth=len(vit.blocks),
        heads=int(vit.blocks[0].attn.num_heads) if hasattr(vit.blocks[0], "attn") else 0,
        patch=int(embed.patch_size[0]),
        size=(int(embed.img_size[0]), int(embed.img_size[1])),
        grid=(int(embed.grid_size[0]), int(embed.grid_size[1])),
        prefix_tokens=int(vit.num_prefix_tokens),
        class_token=vit.cls_token is not None,
        registers=0 if vit.reg_token is None else int(vit.reg_token.shape[1]),
        pool=str(vit.global_pool),
    )


def why_not_plain(model: nn.Module) -> str:
    """Why a network is no plain vision transformer; empty where it is one."""
    kind = type(model).__name__
    if getattr(model, "rope", None) is not None:
        return "its positions are rotations inside the attention (RoPE), and time has none"
    if not is_vit(model):
        return f"timm's {kind} has tokens or blocks of another kind"
    if hasattr(model, "head_dist"):
        return "it has two classifiers, one for its distillation token"
    from timm.layers import PatchEmbed

    embed: Any = model.patch_embed
    if not isinstance(embed, PatchEmbed):
        return "its patches are made by a convolutional network"
    if len(set(embed.patch_size)) > 1:
        return "its patches are not square"
    return ""


def _arch(model: nn.Module) -> str:
    cfg: Any = getattr(model, "pretrained_cfg", None) or {}
    return str(cfg.get("architecture") or type(model).__name__)


def cut_blocks(
    cut: str, arch: str, depth: int, of: str, hint: str = "use all, top:K or bottom:K"
) -> range:
    """Numbers of the blocks that a cut names: ``all``, ``top:K`` (the last K) or ``bottom:K``.

    Args:
        cut: the text.
        arch: timm name of the network, for the message.
        depth: number of its blocks.
        of: words for what is cut.
        hint: what can be written.

    Raises:
        UsageError: for other text, and for more blocks than there are.
    """
    every = range(depth)
    if cut == "all":
        return every
    match = _CUT.fullmatch(cut)
    if match is None:
        raise UsageError(f"unknown cut '{cut}' of {of}", hint)
    count = int(match["count"])
    if not 1 <= count <= depth:
        raise UsageError(f"cut {cut}: {arch} has {depth} blocks", f"use 1 to {depth}")
    return every[-count:] if match["end"] == "top" else every[:count]


_CUT = re.compile(r"(?P<end>top|bottom):(?P<count>\d+)")


def check_size(info: ViTInfo, size: int) -> None:
    """Raise UsageError unless frames of ``size`` pixels a side are whole patches."""
    if size % info.patch or size < info.patch:
        near = max(round(size / info.patch), 1) * info.patch
        raise UsageError(
            f"{info.arch} sees patches of {info.patch} pixels, and a size of {size} is no multiple",
            f"use {near}",
        )


def fixed_size(network: nn.Module) -> tuple[int, int] | None:
    """Height and width that an image network's positions are tied to; None where it has none."""
    embed: Any = getattr(network, "patch_embed", None)
    if not getattr(embed, "strict_img_size", False):
        return None
    return int(embed.img_size[0]), int(embed.img_size[1])


def fit_images(network: nn.Module, size: int) -> None:
    """Let an image network take images of ``size`` pixels a side, whatever it is.

    Args:
        network: changed in place, where it is a plain vision transformer of another size.
        size: side of the images in pixels.

    Raises:
        UsageError: for a size that is no multiple of the patch, and for another size than its own
            where a network's positions cannot be resized.
    """
    own = fixed_size(network)
    if own in (None, (size, size)):
        return
    if why_not_plain(network):
        side = "x".join(map(str, own or ()))
        raise UsageError(
            f"{_arch(network)} takes images of {side} pixels and no others, {size} was asked for",
            f"use {side.partition('x')[0]}, or a plain vision transformer or a CNN",
        )
    resize_grid(network, size)


@torch.no_grad()
def check_images(network: nn.Module, size: int, name: str = "") -> None:
    """Raise UsageError unless an image network takes images of ``size`` pixels a side.

    It is tried where that is another size than the network was made for: one image.

    Args:
        network: a timm network; it may have temporal layers that take a clip of one frame.
        size: side of the images in pixels.
        name: of the model that it is part of, for the message; default: its own.
    """
    cfg: Any = getattr(network, "pretrained_cfg", None) or {}
    own = int((cfg.get("input_size") or (3, size, size))[-1])
    first = next(network.parameters(), None)
    if size == own or first is None:
        return
    image = torch.zeros(1, channels_of(network), size, size).to(first)
    try:
        with in_eval_mode(network):
            network(image)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(
            f"{name or _arch(network)} takes no images of {size} pixels"
            + (f": {reason}" if reason else ""),
            f"use a size of {own}, which it was made for",
        ) from error


def resize_grid(vit: nn.Module, size: int, resizing: str = "smooth") -> None:
    """Let a plain vision transformer take other images: its position embedding is resized.

    Args:
        vit: changed in place; its ``pos_embed`` becomes a new parameter where the grid changes.
        size: side of the images in pixels.
        resizing: ``smooth`` (bicubic with antialiasing, as timm does it) or ``nearest``.

    Raises:
        UsageError: for a size that is no multiple of the patch.
    """
    info = describe_vit(vit)
    check_size(info, size)
    if info.size == (size, size):
        return
    model: Any = vit
    before = model.pos_embed
    model.set_input_size(img_size=(size, size))
    if before is None or before is model.pos_embed or resizing == "smooth":
        return
    grid = (size // info.patch, size // info.patch)
    prefix = before.shape[1] - info.patches
    data = _nearest(before.detach(), prefix, info.grid, grid)
    model.pos_embed = nn.Parameter(data, requires_grad=before.requires_grad)


def _nearest(embed: Tensor, prefix: int, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """(1, P + h*w, C) to (1, P + h'*w', C), each position that of the nearest one."""
    first, grid = embed[:, :prefix], embed[:, prefix:]
    maps = grid.unflatten(1, old).permute(0, 3, 1, 2)
    resized = F.interpolate(maps, size=new, mode="nearest").permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat([first, resized], dim=1)


def resize_time(embed: Tensor, frames: int, resizing: str = "smooth") -> Tensor:
    """A time embedding (1, T, C) for another number of frames, (1, T', C).

    ``smooth`` interpolates linearly, between the frames' centers; ``nearest`` is the official
    code's: 8 to 4 takes 0, 2, 4, 6, 8 to 16 each twice, and 8 to 1 the first.
    """
    if resizing == "nearest":
        resized = F.interpolate(embed.mT, size=frames, mode="nearest")
    else:
        resized = F.interpolate(embed.mT, size=frames, mode="linear", align_corners=False)
    return resized.mT.contiguous()
