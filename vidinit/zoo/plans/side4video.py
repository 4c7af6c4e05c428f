"""``side4video``: a frozen image tower, and a narrow video transformer beside it.

The model: `vidinit.zoo.adapters.side_model`. With ``fusion=zero``, which is not the paper's, a
converted model is the image network on any clip: the layer that adds the side network's descriptor
starts at zero. With ``fusion=none``, as published, the head reads the side network alone.
"""

from __future__ import annotations

from torch import nn

from ...errors import UsageError
from ..adapters.side_model import FUSIONS, SideModel
from ..adapters.side_network import HEAD_WIDTH
from ..adapters.tower import Tower, arch_of
from ..adapters.tower_model import check_rgb
from ..families.vit import cut_blocks
from ..names import check_option
from .plan import Plan

WIDTHS = {768: 320, 1024: 512, 1792: 576}
"""S by the tower's width, as published: for CLIP's B and L, and for EVA's E."""


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
    check_rgb(image_model)
    sources = {id(t): key for key, t in image_model.state_dict(keep_vars=True).items()}
    tower = Tower(image_model)
    tower.blocks = list(cut_blocks(cut, arch, len(tower.blocks), "plan side4video"))
    width = width_for(tower.width) if width is None else width
    if width % HEAD_WIDTH or width < HEAD_WIDTH:
        raise UsageError(
            f"width={width} is no multiple of {HEAD_WIDTH}, the width of an attention head",
            f"use {max(round(width / HEAD_WIDTH), 1) * HEAD_WIDTH}",
        )
    model = SideModel(tower, width, fusion, num_classes)
    model.note_origins(sources, r"^fuse_side\.")
    return model


def width_for(tower_width: int) -> int:
    """S for a tower: as published, else the multiple of 64 nearest to 5/12 of its width."""
    nearest = max((5 * tower_width + 6 * HEAD_WIDTH) // (12 * HEAD_WIDTH), 1) * HEAD_WIDTH
    return WIDTHS.get(tower_width, nearest)


def _why_inexact(model: SideModel) -> str:
    if model.fuse_side is None:
        return "with fusion=none, as published, the head reads the side network alone"
    return ""


PLAN = Plan(side4video, why_inexact=_why_inexact, frozen_tower=True)
