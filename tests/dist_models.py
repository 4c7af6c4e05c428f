"""Small DiST models."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.layers import QuickGELU
from torch import Tensor, nn

from vidinit.zoo.dist_network.model import DistModel
from vidinit.zoo.plans.dist import dist

SIDE = 32  # pixels; patches of 16
SMALL = {"dim": 64, "temporal_dim": 16, "pools": 2}


def small_vit(depth: int = 3, arch: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    options = {"img_size": SIDE, "depth": depth, "embed_dim": 48, "num_heads": 3, **options}
    return timm.create_model(arch, num_classes=0, **options)


def clip_like_vit(depth: int = 3, joint: int = 64) -> nn.Module:
    """What OpenAI's image towers are made of, with their projection."""
    return timm.create_model(
        "vit_base_patch16_clip_quickgelu_224",
        img_size=SIDE,
        depth=depth,
        embed_dim=48,
        num_heads=3,
        num_classes=joint,
        act_layer=QuickGELU,
    )


def small_dist(vit: nn.Module | None = None, frames: int = 4, **options: Any) -> DistModel:
    """A model whose tower sees every second of ``frames`` frames; larger weights than at first."""
    from dataclasses import replace

    model = dist(vit or small_vit(), **{**SMALL, **options})
    model.spec = replace(model.spec, frames=frames)
    with torch.no_grad():
        for parameter in model.side.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def clips(count: int = 2, frames: int = 4, side: int = SIDE) -> Tensor:
    return torch.randn(count, 3, frames, side, side)
