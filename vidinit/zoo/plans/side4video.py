"""``side4video``: a frozen image tower, and a narrow video transformer beside it.

The model: `vidinit.zoo.adapters.side_model`. With ``fusion=zero``, which is not the paper's, a
converted model is the image network on any clip: the layer that adds the side network's descriptor
starts at zero. With ``fusion=none``, as published, the head reads the side network alone.
"""

from __future__ import annotations

import re

from torch import nn

from ...errors import UsageError
from ..adapters.side_model import FUSIONS, SideModel
from ..adapters.side_network import HEAD_WIDTH
from ..adapters.tower import Tower, arch_of
from ..images.heads import channels_of
from ..names import check_option
from ..spec import Origin
from .plan import Plan

WIDTHS = {768: 320, 1024: 512, 1792: 576}
"""S by the tower's width, as published: for CLIP's B and L, and for EVA's E."""

CUT = re.compile(r"(?P<end>top|bottom):(?P<count>\d+)")


def side4video(
    image_model: nn.Module,
    *,
    num_classes: int,
    cut: str = "all",
    width: int | None = None,
    fusion: str = "zero",
) -> SideModel:
    """A side network for a timm vision transformer, which becomes the frozen tower.

    Args:
        image_model: a timm vision transformer without classifier.
        num_classes: size of the new head.
        cut: which blocks of the tower are read: ``all``, ``top:K`` (the last K) or ``bottom:K``.
        width: S of the side network, a multiple of 64; default: as published for the tower's width
            (320 for 768, 512 for 1024), else about five twelfths of that.
        fusion: ``zero`` (the side network's descriptor is added to the image network's, by a layer
            that starts at zero) or ``none`` (it stands alone, as published).

    Returns:
        The model, the side network at random, with `origins` filled.

    Raises:
        UsageError: a network that is no such tower, or numbers that do not go together.
    """
    check_option("fusion", fusion, FUSIONS)
    arch = arch_of(image_model)
    if hasattr(image_model, "head_dist"):
        raise UsageError(
            f"{arch} cannot be a tower: it has two classifiers, one for its distillation token",
            "use the same network without that token",
        )
    if channels_of(image_model) != 3:
        raise UsageError(
            f"{arch} does not take RGB images ({channels_of(image_model)} input channels), and "
            f"{SideModel.only_rgb}",
            "use a network for RGB, or another plan",
        )
    sources = {id(t): key for key, t in image_model.state_dict(keep_vars=True).items()}
    tower = Tower(image_model)
    tower.blocks = _blocks_read(cut, arch, len(tower.blocks))
    width = width_for(tower.width) if width is None else width
    if width % HEAD_WIDTH or width < HEAD_WIDTH:
        raise UsageError(
            f"width={width} is no multiple of {HEAD_WIDTH}, the width of an attention head",
            f"use {max(round(width / HEAD_WIDTH), 1) * HEAD_WIDTH}",
        )
    model = SideModel(tower, width, fusion, num_classes)
    for key, tensor in model.state_dict(keep_vars=True).items():
        if key.startswith("head."):
            continue
        if id(tensor) in sources:
            model.origins[key] = Origin(sources[id(tensor)], "copy")
        else:
            rule = "silent" if key.startswith("fuse_side.") else "random"
            model.origins[key] = Origin(None, rule)
    return model


def width_for(tower_width: int) -> int:
    """S for a tower: as published, else the multiple of 64 nearest to 5/12 of its width."""
    nearest = max((5 * tower_width + 6 * HEAD_WIDTH) // (12 * HEAD_WIDTH), 1) * HEAD_WIDTH
    return WIDTHS.get(tower_width, nearest)


def _blocks_read(cut: str, arch: str, depth: int) -> list[int]:
    """Numbers of the blocks that a cut keeps."""
    every = list(range(depth))
    if cut == "all":
        return every
    match = CUT.fullmatch(cut)
    if match is None:
        raise UsageError(f"unknown cut '{cut}' of plan side4video", "use all, top:K or bottom:K")
    count = int(match["count"])
    if not 1 <= count <= depth:
        raise UsageError(f"cut {cut}: {arch} has {depth} blocks", f"use 1 to {depth}")
    return every[-count:] if match["end"] == "top" else every[:count]


def _why_inexact(model: SideModel) -> str:
    if model.fuse_side is None:
        return "with fusion=none, as published, the head reads the side network alone"
    return ""


PLAN = Plan(side4video, why_inexact=_why_inexact, frozen_tower=True)
