"""``dist``: a frozen image tower, and a network beside it that learns motion.

The model: `vidinit.zoo.dist_network`. A still clip does not get the image network's logits: nothing
in the side network starts at zero, by design. A conversion proves that the tower is timm's network
to the bit, and that no gradient reaches it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from ...errors import UsageError
from ..adapters.tower import PRECISIONS, Tower, set_projection
from ..adapters.tower_model import check_rgb
from ..dist_network.model import DistModel
from ..dist_network.side import HEAD_WIDTH, SideNetwork
from ..folding import FrameCount
from ..images.networks import clip_spec_of
from ..names import check_option
from ..spec import Origin
from .plan import Plan

TOWER_FRAMES = 8  # T of a new model
MOST_POOLS = 48  # as many layers as the deepest tower; more is a slip of the finger


def dist(
    image_model: nn.Module,
    *,
    num_classes: int = 0,
    gamma: int = 2,
    pools: int = 2,
    dim: int = 384,
    temporal_dim: int = 96,
    blocks: Sequence[int] | None = None,
    projection: int | None = None,
    tower_precision: str = "fp32",
) -> DistModel:
    """A side network for a timm vision transformer, which becomes the frozen tower.

    Args:
        image_model: with its projection into the joint space as classifier, or without any.
        num_classes: of a linear head; 0 for none.
        gamma: the tower sees every gamma-th frame.
        pools: A, pooling layers: 2 for Something-Something, 4 for Kinetics.
        dim: D, a multiple of 64.
        temporal_dim: E; 0 leaves the temporal encoder out, as an ablation.
        blocks: which blocks of the tower are read, from 0; default: all.
        projection: outputs of the tower's classifier, which is then its projection into a space of
            image and text; 0 takes the classifier off. Default: those of CLIP's kind are kept.
        tower_precision: of the tower's weights: fp32, bf16 or fp16.

    Returns:
        The model for clips of 8 * gamma frames, the side network at random, with `origins` filled.

    Raises:
        UsageError: a network that is no such tower, or numbers that do not go together.
    """
    check_option("tower_precision", tower_precision, list(PRECISIONS))
    if dim % HEAD_WIDTH or dim < HEAD_WIDTH:
        raise UsageError(f"dim={dim} is no multiple of {HEAD_WIDTH}, the width of an attention")
    for name, value, least in (
        ("gamma", gamma, 1),
        ("pools", pools, 1),
        ("temporal_dim", temporal_dim, 0),
    ):
        if value < least:
            raise UsageError(f"{name} must be at least {least}, not {value}")
    if pools > MOST_POOLS:
        raise UsageError(f"pools={pools} is more than {MOST_POOLS}", "the paper has 2 or 4")
    check_rgb(image_model)
    spec = clip_spec_of(image_model, frames=TOWER_FRAMES * gamma, stride=1, size=None)
    set_projection(image_model, projection)
    sources = {id(t): key for key, t in image_model.state_dict(keep_vars=True).items()}
    tower = Tower(image_model, blocks=blocks, precision=tower_precision)
    keys = {key: sources.get(id(t)) for key, t in tower.state_dict(keep_vars=True).items()}
    fine, coarse = FrameCount(), FrameCount()
    side = SideNetwork(
        tower.width,
        tower.patch,
        len(tower.blocks),
        frames=TOWER_FRAMES,
        gamma=gamma,
        pools=pools,
        joint=tower.joint,
        dim=dim,
        temporal_dim=temporal_dim,
        fine=fine,
        coarse=coarse,
    )
    model = DistModel(tower, side, fine, coarse, num_classes)
    size = tower.image_size[0]
    model.spec = replace(spec, size=size, sampling="uniform", crop_pct=1.0)
    for key in model.state_dict():
        source = keys.get(key.removeprefix("tower."))
        known = key.startswith("tower.") and source is not None
        model.origins[key] = Origin(source, "copy") if known else Origin(None, "random")
    return model


# The tower's classifier may be its projection into the space of image and text, so it comes along;
# without a head of its own the model embeds clips in that space.
PLAN = Plan(
    dist,
    keeps_classifier=True,
    sets_clip=True,
    frozen_tower=True,
    proof="blocks",
    leaves_unused=True,  # the last block has a way to the frames between that nothing reads
    default_classes=0,
)
