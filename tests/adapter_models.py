"""Small frozen vision transformers of every kind, and adapters on them that do something."""

from __future__ import annotations

import copy
import functools
from typing import Any

import timm
import torch
from torch import Tensor, nn

from vidinit.zoo.adapters.model import AdapterModel
from vidinit.zoo.plans.plan import load_plan

CLASSES = 7
SIDE = 24
SMALL = {"img_size": SIDE, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": ("vit_base_patch16_clip_quickgelu_224", {}),  # a norm before the blocks
    "augreg": ("vit_tiny_patch16_224", {}),
    "deit3": ("deit3_small_patch16_224", {}),  # layer scale, the class token has no position
    "registers": ("vit_small_patch14_reg4_dinov2", {}),
    "siglip": ("vit_base_patch16_siglip_224", {}),  # no prefix token, attention pool
    "mean": ("vit_base_patch16_gap_224", {}),  # the last norm behind the pool
    "norm first": ("vit_tiny_patch16_224", {"global_pool": "avg", "fc_norm": False}),
    "queries normed": ("vit_tiny_patch16_224", {"qk_norm": True, "scale_attn_norm": True}),
    "dinov3": ("vit_small_patch16_dinov3", {}),  # rotations, registers, no biases of queries
    "eva02 clip": ("eva02_base_patch16_clip_224", {}),  # rotations, split projections
    "perception encoder": ("vit_pe_core_base_patch16_224", {}),  # rotations, attention pool
    "eva": ("eva_giant_patch14_224", {}),  # keys without a bias
    "rotations by block": ("vit_small_patch16_rope_mixed_224", {}),
}
PLANS = ("st-adapter", "aim", "zero-cost")


def small_vit(kind: str) -> nn.Module:
    """A network of one of `KINDS`, two blocks deep, randomized, in eval mode."""
    return copy.deepcopy(_made(kind))


@functools.cache
def _made(kind: str) -> nn.Module:
    arch, own = KINDS[kind]
    arguments = {"num_classes": CLASSES, **SMALL, **own}
    if arch.startswith("vit_pe"):
        arguments["attn_pool_num_heads"] = 3
    torch.manual_seed(0)
    vit = timm.create_model(arch, **arguments)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in vit.parameters():
            scale = 0.2 if parameter.dim() > 1 else 0.3
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return vit.eval()


def adapted(vit: nn.Module, plan: str, **options: Any) -> AdapterModel:
    """A new model on a copy of a network, with its classifier for the head, in eval mode."""
    bare: Any = copy.deepcopy(vit)
    bare.reset_classifier(0)
    model = load_plan(plan).build(bare, num_classes=CLASSES, **options)
    assert isinstance(model, AdapterModel)
    model.head.load_state_dict(vit.head.state_dict())  # type: ignore[union-attr]
    model.to(next(vit.parameters()).dtype)
    return model.eval()


def wake(model: AdapterModel, seed: int = 1) -> AdapterModel:
    """Adapters and a time embedding that do something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("adapters.", "time_embed")):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def new_tensors(model: AdapterModel) -> dict[str, Tensor]:
    """Adapters and time embedding, by name."""
    return {k: v for k, v in model.state_dict().items() if k.startswith(("adapters.", "time_emb"))}


def clips(count: int = 2, frames: int = 4, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, 3, frames, side, side, generator=generator)
