"""Small Side4Video models."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from vit_support import CLASSES, SMALL

from vidinit.conversion.table import transfer
from vidinit.zoo.adapters.side_model import SideModel
from vidinit.zoo.plans.side4video import side4video

SIDE = SMALL["img_size"]


def converted(vit: nn.Module, **options: Any) -> SideModel:
    """A model with the network's weights, in eval mode, as `convert` makes it."""
    tower = copy.deepcopy(vit)
    tower.reset_classifier(0)  # type: ignore[operator]
    model = side4video(tower, num_classes=CLASSES, **options)
    model.name = "side4video-small"
    model.spec = replace(model.spec, size=tower.patch_embed.img_size[0])  # type: ignore[union-attr]
    transfer(model, vit.state_dict(), "head", "center")
    return model.eval()


def awake(model: SideModel) -> SideModel:
    """The side network reaches the logits, and its norms have statistics of their own."""
    torch.manual_seed(1)
    with torch.no_grad():
        if model.fuse_side is not None:
            model.fuse_side.weight.normal_(std=0.3)
        for module in model.side.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return model


def clips(count: int = 2, frames: int = 4, side: int = SIDE) -> Tensor:
    return torch.randn(count, 3, frames, side, side)
