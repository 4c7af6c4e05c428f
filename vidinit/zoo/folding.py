"""The folded layout: clips lie in the batch, and time is unfolded only where it is mixed.

Activations travel as ``(B*T, C, H, W)`` in channels_last memory, which is ``(B, T, H, W, C)`` read
straight through. In that layout a spatial convolution is a plain conv2d, and a ``(t, 1, 1)``
convolution is a conv2d with kernel ``(t, 1)`` on a free view of height T and width H*W; nothing is
copied. Dense ``t x k x k`` kernels use conv3d in channels_last_3d, which is the same memory again.
Depthwise ``t x k x k`` kernels are a sum of t shifted depthwise conv2d, because depthwise conv3d
trains several times slower.

Shapes in comments: B clips, T frames, C channels, H x W pixels, O output channels.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pads = tuple[int, int, int, int]  # left, right, top, bottom: the order of F.pad


class FrameCount:
    """How many frames of a clip lie behind one another in the folded batch.

    A model owns one and sets it at the start of its forward pass; its temporal layers read it. They
    sit deep inside image backbones whose forward passes know nothing of time.

    `torch.compile` makes a graph per clip length: with a symbolic T, the shapes behind strides in
    time grow into formulas that it cannot compare in reasonable time.

    Attributes:
        still: the clip is one frame that stands for a clip which does not move: kernels are summed
            over time, as such a clip's inner frames see them, and nothing is shifted.
    """

    __slots__ = ("_value", "still")

    def __init__(self, value: int = 1) -> None:
        self._value = value
        self.still = False

    @property
    def value(self) -> int:
        """T."""
        return self._value

    @value.setter
    def value(self, frames: int) -> None:
        # An index has to be a number: the compiler guards on this one.
        self._value = operator.index(frames) if torch.compiler.is_dynamo_compiling() else frames

    def stride(self, step: int) -> None:
        """Count the frames that a layer of same padding and this stride leaves: ceil(T / step)."""
        self.value = -(-self.value // step)


def fold(clip: Tensor) -> Tensor:
    """(B, C, T, H, W) to (B*T, C, H, W) in channels_last memory."""
    b, c, t, h, w = clip.shape
    # Copies only where the clip is not in channels_last_3d memory already.
    return clip.permute(0, 2, 3, 4, 1).reshape(b * t, h, w, c).permute(0, 3, 1, 2)


def unfold(x: Tensor, frames: int) -> Tensor:
    """(B*T, C, H, W) to (B, C, T, H, W); a free channels_last_3d view of channels_last input."""
    bt, c, h, w = x.shape
    nhwc = x.permute(0, 2, 3, 1).reshape(bt // frames, frames, h, w, c)
    return nhwc.permute(0, 4, 1, 2, 3)


def time_by_space(x: Tensor, frames: int) -> Tensor:
    """(B*T, C, H, W) to (B, C, T, H*W), a free view of channels_last input."""
    bt, c, h, w = x.shape
    # (B*T, H, W, C) is (B, T, H*W, C) as it lies in memory: an "image" of T rows and H*W columns.
    return x.permute(0, 2, 3, 1).reshape(bt // frames, frames, h * w, c).permute(0, 3, 1, 2)


def frames_by_space(x: Tensor, height: int, width: int) -> Tensor:
    """(B, C, T, H*W) back to (B*T, C, H, W)."""
    b, c, t, _ = x.shape
    return x.permute(0, 2, 3, 1).reshape(b * t, height, width, c).permute(0, 3, 1, 2)


def pad_frames(x: Tensor, frames: int, before: int, after: int, *, replicate: bool) -> Tensor:
    """(B*T, C, H, W) to (B*(before + T + after), C, H, W): zeros, or the end frames repeated."""
    clips = x.unflatten(0, (-1, frames))
    first, last = clips[:, :1], clips[:, -1:]
    if not replicate:
        first = last = torch.zeros_like(first)
    return torch.cat([first] * before + [clips] + [last] * after, dim=1).flatten(0, 1)


def clip_mean(x: Tensor, frames: int) -> Tensor:
    """Mean over space and time: (B*T, C, H, W) to (B, C)."""
    return x.mean(dim=(2, 3)).unflatten(0, (-1, frames)).mean(dim=1)


def same_axis_pads(length: int, taps: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis, (before, after): the odd one goes to the end."""
    total = max((-(-length // stride) - 1) * stride + taps - length, 0)
    return total // 2, total - total // 2


def same_pads(height: int, width: int, kernel: tuple[int, int], stride: tuple[int, int]) -> Pads:
    """TensorFlow's SAME padding of a frame: the odd pixel goes right and below."""
    across = same_axis_pads(width, kernel[1], stride[1])
    return (*across, *same_axis_pads(height, kernel[0], stride[0]))


def conv2d_padded(
    x: Tensor, weight: Tensor, stride: int, pads: Pads, groups: int, dilation: int = 1
) -> Tensor:
    """conv2d with four pads; the symmetric ones are left to the convolution itself."""
    left, right, top, bottom = pads
    padding = (0, 0)
    if left == right and top == bottom:
        padding = (top, left)
    else:
        x = F.pad(x, pads)
    return F.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)


def conv3d_folded(
    x: Tensor,
    weight: Tensor,
    frames: int,
    stride: tuple[int, int],
    pads: Pads,
    groups: int,
    time_pad: int,
    dilation: int = 1,
) -> Tensor:
    """conv3d on folded activations.

    Args:
        x: (B*T, C, H, W).
        weight: (O, C/groups, t, k, k).
        frames: T.
        stride: in time, in space.
        pads: spatial zero padding.
        groups: as for `nn.Conv3d`.
        time_pad: frames of zeros before and after the clip.
        dilation: in space.

    Returns:
        (B*T', O, H', W') in channels_last memory.
    """
    left, right, top, bottom = pads
    if left != right or top != bottom:
        x, left, top = F.pad(x, pads), 0, 0
    if frames <= weight.shape[2] and time_pad > 2:
        # The CPU's weight gradient of 7-tap kernels with a stride is wrong, or ends the process,
        # where the clip is no longer than the kernel; padded by hand it is right.
        x = pad_frames(x, frames, time_pad, time_pad, replicate=False)
        frames, time_pad = frames + 2 * time_pad, 0
    out = F.conv3d(
        unfold(x, frames),
        weight,
        stride=(stride[0], stride[1], stride[1]),
        padding=(time_pad, top, left),
        dilation=(1, dilation, dilation),
        groups=groups,
    )
    return fold(out)


def depthwise_conv3d(
    x: Tensor,
    weight: Tensor,
    frames: int,
    stride: tuple[int, int],
    pads: Pads,
    time_pad: int,
    dilation: int = 1,
) -> Tensor:
    """Depthwise t x k x k convolution; arguments as for `conv3d_folded`, weight (C, 1, t, k, k).

    On a CPU conv3d infers several times faster than it trains, so it is used where no gradient is
    wanted; else the sum over the taps of depthwise conv2d, shifted in time.
    """
    channels, taps = weight.shape[0], weight.shape[2]
    # The meta device counts multiply-adds as the plain operator has them, padding included.
    if x.device.type in ("cpu", "meta") and not torch.is_grad_enabled():
        return conv3d_folded(x, weight, frames, stride, pads, channels, time_pad, dilation)
    step, space = stride
    length = (frames + 2 * time_pad - taps) // step + 1
    clips = x.unflatten(0, (-1, frames))
    total: Tensor | None = None  # (B, T', C, H', W')
    # The middle tap, which most often covers the whole clip, comes first.
    for tap in sorted(range(taps), key=lambda tap: abs(tap - time_pad)):
        # Output frame i reads frame i*step + tap - time_pad; outside the clip there is nothing.
        first = max(0, -((tap - time_pad) // step))
        last = min(length, (frames - 1 - tap + time_pad) // step + 1)
        if last <= first:
            continue
        begin = first * step + tap - time_pad
        whole = step == 1 and last - first == frames
        frames_read = clips[:, begin : begin + (last - first - 1) * step + 1 : step]
        read = x if whole else frames_read.flatten(0, 1)
        part = conv2d_padded(read, weight[:, :, tap], space, pads, channels, dilation)
        part = part.unflatten(0, (-1, last - first))
        if last - first < length:
            empty = torch.zeros_like(part[:, :1])
            part = torch.cat([empty] * first + [part] + [empty] * (length - last), dim=1)
        total = part if total is None else total + part
    if total is None:
        raise ValueError(f"{taps} temporal taps do not fit {frames} frames with padding {time_pad}")
    return total.flatten(0, 1)


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
