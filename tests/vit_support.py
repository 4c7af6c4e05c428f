"""Small vision transformers of every plain kind, with weights that forgive nothing."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import timm
import torch
from torch import nn

from vidinit.conversion.table import transfer
from vidinit.zoo.families.timesformer import TimeSformer
from vidinit.zoo.plans.timesformer import timesformer

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3}
CLASSES = 7
KINDS = {
    "augreg": "vit_tiny_patch16_224",
    "deit3": "deit3_small_patch16_224",  # layer scale, the class token has no position
    "clip": "vit_base_patch16_clip_quickgelu_224",  # a norm before the blocks
    "dinov2": "vit_small_patch14_dinov2",  # layer scale
    "registers": "vit_small_patch14_reg4_dinov2",
    "siglip": "vit_base_patch16_siglip_224",  # no prefix token, attention pool
    "mean": "vit_base_patch16_gap_224",  # no prefix token, mean pool
    "eva": "eva_large_patch14_196",
}


def small_vit(kind: str, **changes: Any) -> nn.Module:
    """A network of one of `KINDS`, three blocks deep, randomized, in eval mode."""
    torch.manual_seed(0)
    vit = timm.create_model(KINDS[kind], num_classes=CLASSES, **{**SMALL, **changes})
    with torch.no_grad():
        for parameter in vit.parameters():
            scale = 0.15 if parameter.dim() > 1 else 0.3
            parameter.add_(torch.randn_like(parameter) * scale)
    return vit.eval()


def converted(vit: nn.Module, frames: int = 8, **options: Any) -> TimeSformer:
    """A TimeSformer with the network's weights, in eval mode."""
    trunk = copy.deepcopy(vit)
    trunk.reset_classifier(0)  # type: ignore[operator]
    model = timesformer(trunk, num_classes=CLASSES, **options)
    model.name = "timesformer-small"
    model.spec = replace(model.spec, frames=frames)
    transfer(model, vit.state_dict(), "head", "center")
    return model.eval()


def wake(model: TimeSformer, *, time: bool = True) -> TimeSformer:
    """Temporal projections and a time embedding that do something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "temporal_fc" in name or (time and name == "time_embed"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model
