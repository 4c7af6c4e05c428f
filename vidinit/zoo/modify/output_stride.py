"""Networks with finer maps: the last stage steps no further, and its kernels reach as far.

Detection wants maps with a position for every 16 pixels, where classifiers end at 32. The layers
that would halve the maps for the last time get stride 1, and all k x k kernels of that stage, the
first block's too, dilation 2, as in PySlowFast's and pytorchvideo's networks for AVA. No weight
changes, and none is added.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...errors import UsageError
from ..base import VideoModel
from ..images.networks import timm_module
from ..temporal import TemporalConv, VolumeConv

STRIDE: Literal[16] = 16
"""Pixels of a position."""

_SIZE = 256  # side of the frames that are tried, in pixels


def set_output_stride(model: VideoModel, stride: int = STRIDE) -> None:
    """Let a position of a model's `maps` be ``stride`` pixels wide; in place, noted in `options`.

    A model whose maps are so fine already stays as it is.

    Args:
        model: before it is compiled or fused.
        stride: 16.

    Raises:
        UsageError: for another stride, and with the reason where the last stage does not allow it.
    """
    if stride != STRIDE:
        raise UsageError(f"output_stride={stride} is unknown", f"it can be {STRIDE}, or left out")
    layers, reason = _examined(model)
    if reason:
        raise UsageError(f"{model.name} has no output_stride={STRIDE}: {reason}", "leave it out")
    for name in layers:
        _dilate(model, name)
    model.options["output_stride"] = stride


def why_no_output_stride(model: VideoModel) -> str:
    """Why a model's maps cannot be 16 pixels a position; empty where they can."""
    return _examined(model)[1]


def _examined(model: VideoModel) -> tuple[list[str], str]:
    """Names of the layers that change, and why they cannot; tried on a copy without values."""
    if model.in_patches:
        return [], "its frames are cut into patches, which have one size from first to last"
    if model.map_layers():
        return [], "it ends in pools; maps of 16 pixels a position are those of layer=mixed4f"
    shadow: VideoModel = copy.deepcopy(model).to("meta").eval()
    seen: list[tuple[str, nn.Module, int, int]] = []
    side = _side(shadow, seen)
    if side == 0:
        return [], f"its maps of frames of {_SIZE} pixels could not be had"
    if side == _SIZE // STRIDE:
        return [], ""
    if side != _SIZE // (2 * STRIDE):
        return [], f"its maps have {side} positions in {_SIZE} pixels, not {_SIZE // (2 * STRIDE)}"
    layers: dict[str, None] = {}
    for name, module, before, after in seen:
        if after == side and (before > side or _sees_neighbors(module)):
            if refusal := _why_not(name, module):
                return [], refusal
            layers[name] = None
    if not layers:
        return [], "what halves its maps last is no layer of its own"
    for name in layers:
        _dilate(shadow, name)
    if _side(shadow, []) != 2 * side:
        return [], "its last stage is not halved by its layers alone"
    return list(layers), ""


def _side(model: VideoModel, seen: list[tuple[str, nn.Module, int, int]]) -> int:
    """Rows of a model's maps; fills in its layers: name, module, rows of the input, of the output.

    0 where it does not take such frames.
    """

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            pair = [one for one in (*args[:1], out) if isinstance(one, Tensor) and one.dim() == 4]
            if len(pair) == 2:
                seen.append((name, module, pair[0].shape[2], pair[1].shape[2]))

        return hook

    handles = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if not list(module.children()) and not isinstance(module, TemporalConv)
    ]
    shape = (1, model.in_channels, model.spec.frames, _SIZE, _SIZE)
    try:
        with torch.no_grad():
            return int(model.maps(torch.empty(shape, device="meta")).shape[2])
    except (RuntimeError, AssertionError, ValueError, IndexError, UsageError):
        return 0
    finally:
        for handle in handles:
            handle.remove()


def _sees_neighbors(module: nn.Module) -> bool:
    """True for a convolution whose kernel is wider than a position."""
    return isinstance(module, (nn.Conv2d, VolumeConv)) and max(_kernel(module)) > 1


def _kernel(module: nn.Conv2d | VolumeConv) -> tuple[int, int]:
    """Height and width of a kernel."""
    sides = module.kernel[1:] if isinstance(module, VolumeConv) else module.kernel_size
    return int(sides[0]), int(sides[1])


def _why_not(name: str, module: nn.Module) -> str:
    """Why a layer of the last stage cannot go without its stride; empty where it can."""
    if isinstance(module, (nn.Conv2d, VolumeConv)):
        if any(side % 2 == 0 for side in _kernel(module)):
            return f"{name} has an even kernel, which has no middle"
        if isinstance(module, VolumeConv) and module.sts:
            return f"{name} is an STS kernel, which has no dilated form"
        return ""
    if isinstance(module, nn.AvgPool2d) and module.kernel_size in (2, (2, 2)):
        return ""
    return f"{name} halves its maps, a {type(module).__name__}"


def _dilate(model: nn.Module, name: str) -> None:
    """Take the stride in space from a layer, and spread its kernel to the same reach."""
    module = model.get_submodule(name)
    if isinstance(module, VolumeConv):
        module.dilate(2)
    elif isinstance(module, nn.Conv2d):
        module.stride = (1, 1)
        if max(module.kernel_size) > 1:
            module.dilation = (2, 2)
            if type(module).__name__ != "Conv2dSame":  # it pads when it runs
                high, wide = module.kernel_size
                module.padding = (2 * (high // 2), 2 * (wide // 2))
    else:  # timm's own form of it in dilated networks
        timm_module()
        from timm.layers import AvgPool2dSame

        parent, _, leaf = name.rpartition(".")
        setattr(
            model.get_submodule(parent),
            leaf,
            AvgPool2dSame(2, 1, ceil_mode=True, count_include_pad=False),
        )
