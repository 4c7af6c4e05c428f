"""The folded layout: clips lie in the batch, and time is unfolded only where it is mixed.

Activations travel as ``(B*T, C, H, W)`` in channels_last memory, which is ``(B, T, H, W, C)`` read
straight through. In that layout a spatial convolution is a plain conv2d, and a ``(t, 1, 1)``
convolution is a conv2d with kernel ``(t, 1)`` on a free view of height T and width H*W; nothing is
copied.

Shapes in comments: B clips, T frames, C channels, H x W pixels, O output channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pads = tuple[int, int, int, int]  # left, right, top, bottom: the order of F.pad


class FrameCount:
    """How many frames of a clip lie behind one another in the folded batch.

    A model owns one and sets it at the start of its forward pass; its temporal layers read it. They
    sit deep inside image backbones whose forward passes know nothing of time.
    """

    __slots__ = ("value",)

    def __init__(self, value: int = 1) -> None:
        self.value = value


def fold(clip: Tensor) -> Tensor:
    """(B, C, T, H, W) to (B*T, C, H, W) in channels_last memory."""
    b, c, t, h, w = clip.shape
    return (
        clip.permute(0, 2, 1, 3, 4)
        .reshape(b * t, c, h, w)
        .contiguous(memory_format=torch.channels_last)
    )


def unfold(x: Tensor, frames: int) -> Tensor:
    """(B*T, C, H, W) to (B, C, T, H, W); a free channels_last_3d view of channels_last input."""
    bt, c, h, w = x.shape
    nhwc = x.permute(0, 2, 3, 1).reshape(bt // frames, frames, h, w, c)
    return nhwc.permute(0, 4, 1, 2, 3)


def time_by_space(x: Tensor, frames: int) -> Tensor:
    """(B*T, C, H, W) to (B, C, T, H*W), a free view of channels_last input."""
    bt, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(bt // frames, frames, h * w, c).permute(0, 3, 1, 2)


def frames_by_space(x: Tensor, height: int, width: int) -> Tensor:
    """(B, C, T, H*W) back to (B*T, C, H, W)."""
    b, c, t, _ = x.shape
    return x.permute(0, 2, 3, 1).reshape(b * t, height, width, c).permute(0, 3, 1, 2)


def same_pads(height: int, width: int, kernel: tuple[int, int], stride: tuple[int, int]) -> Pads:
    """TensorFlow's SAME padding for one input size: the odd pixel goes right and below."""
    down = max((-(-height // stride[0]) - 1) * stride[0] + kernel[0] - height, 0)
    right = max((-(-width // stride[1]) - 1) * stride[1] + kernel[1] - width, 0)
    return (right // 2, right - right // 2, down // 2, down - down // 2)


def conv2d_padded(x: Tensor, weight: Tensor, stride: int, pads: Pads, groups: int) -> Tensor:
    """conv2d with four pads; the symmetric ones are left to the convolution itself."""
    left, right, top, bottom = pads
    if left == right and top == bottom:
        return F.conv2d(x, weight, stride=stride, padding=(top, left), groups=groups)
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)


def conv3d_folded(
    x: Tensor, weight: Tensor, frames: int, stride: int, pads: Pads, groups: int
) -> Tensor:
    """conv3d on folded activations: zero padding and stride 1 in time.

    Args:
        x: (B*T, C, H, W).
        weight: (O, C/groups, t, k, k), t odd.
        frames: T.
        stride: spatial stride.
        pads: spatial zero padding.
        groups: as for `nn.Conv3d`.

    Returns:
        (B*T, O, H', W') in channels_last memory.
    """
    left, right, top, bottom = pads
    if left != right or top != bottom:
        x, left, top = F.pad(x, pads), 0, 0
    out = F.conv3d(
        unfold(x, frames),
        weight,
        stride=(1, stride, stride),
        padding=(weight.shape[2] // 2, top, left),
        groups=groups,
    )
    return fold(out)


def depthwise_conv3d(x: Tensor, weight: Tensor, frames: int, stride: int, pads: Pads) -> Tensor:
    """Depthwise t x k x k convolution: zero padding and stride 1 in time.

    On a CPU conv3d infers several times faster than it trains, so it is used where no gradient is
    wanted; else the sum over the taps of depthwise conv2d, shifted in time.

    Args:
        x: (B*T, C, H, W).
        weight: (C, 1, t, k, k), t odd.
        frames: T.
        stride: spatial stride.
        pads: spatial zero padding.
    """
    channels, taps = weight.shape[0], weight.shape[2]
    if x.device.type == "cpu" and not torch.is_grad_enabled():
        return conv3d_folded(x, weight, frames, stride, pads, channels)
    center = taps // 2
    out = conv2d_padded(x, weight[:, :, center], stride, pads, channels)
    out = out.unflatten(0, (-1, frames))  # (B, T, C, H', W')
    for tap in range(taps):
        shift = tap - center
        if shift == 0 or abs(shift) >= frames:
            continue
        part = conv2d_padded(x, weight[:, :, tap], stride, pads, channels)
        part = part.unflatten(0, (-1, frames))
        empty = torch.zeros_like(part[:, : abs(shift)])
        # Frame t reads frame t + shift; beyond the ends of the clip there is nothing.
        if shift < 0:
            out = out + torch.cat([empty, part[:, :shift]], dim=1)
        else:
            out = out + torch.cat([part[:, shift:], empty], dim=1)
    return out.flatten(0, 1)


def conv_pads(source: nn.Conv2d) -> Callable[[int, int], Pads]:
    """The spatial padding of an image network's convolution, as a function of the input size."""
    kernel, stride = source.kernel_size, source.stride
    # timm's TensorFlow ports pad at run time and hold padding 0; their class name says so.
    if type(source).__name__ == "Conv2dSame":
        return SamePads((kernel[0], kernel[1]), (stride[0], stride[1]))
    if isinstance(source.padding, str):
        raise ValueError(f"padding={source.padding!r} is not supported")
    return FixedPads((source.padding[1], source.padding[1], source.padding[0], source.padding[0]))


class SamePads:
    """`same_pads` of one kernel; a class, so that models can be pickled."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        self.kernel, self.stride = kernel, stride

    def __call__(self, height: int, width: int) -> Pads:
        """The pads for one input size."""
        return same_pads(height, width, self.kernel, self.stride)


class FixedPads:
    """Padding that does not depend on the input size."""

    def __init__(self, pads: Pads) -> None:
        self.pads = pads

    def __call__(self, height: int, width: int) -> Pads:
        """The pads for one input size."""
        return self.pads
