"""Multiply-adds by counting what a forward pass runs, without running it."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def shadow_of(model: nn.Module) -> nn.Module:
    """A copy without values, on the meta device, where a pass costs nothing."""
    return copy.deepcopy(model).to("meta").eval().requires_grad_(False)


def count_macs(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-adds of the convolutions and matrix products of one forward pass.

    The pass runs on the meta device, so nothing is computed. Papers on video models print this
    number and call it FLOPs; PyTorch's counter gives twice as much.

    Args:
        model: any module taking one tensor.
        shape: of its input, (1, 3, T, H, W) for one clip.
    """
    shadow = shadow_of(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(shape, device="meta"))
    return int(counter.get_total_flops()) // 2
