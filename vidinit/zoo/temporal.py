"""Every operator that mixes time, in the folded layout of the house.

Activations travel as ``(B*T, C, H, W)`` in channels_last memory, which is ``(B, T, H, W, C)`` read
straight through. In that layout a spatial convolution is a plain conv2d, and a ``(t, 1, 1)``
convolution is a conv2d with kernel ``(t, 1)`` on a free view of height T and width H*W; nothing is
copied. Dense ``t x k x k`` kernels use conv3d in channels_last_3d, which is the same memory again.
Depthwise ``t x k x k`` kernels are a sum of t shifted depthwise conv2d, because depthwise conv3d is
several times slower to train.

Shapes in comments: B clips, T frames, C channels, H x W pixels, O output channels, k kernel size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .folding import (
    FrameCount,
    Pads,
    conv2d_padded,
    conv3d_folded,
    conv_pads,
    depthwise_conv3d,
    fold,
    frames_by_space,
    time_by_space,
    unfold,
)

# ------------------------------------------------------------------ the STS operator


def sts_split(out_channels: int) -> tuple[int, int, int]:
    """Output channels of (row scan, column scan, dynamic part): the larger half comes first."""
    static = -(-out_channels // 2)
    row = -(-static // 2)
    return row, static - row, out_channels - static


def sts_temporal(x: Tensor, weight: Tensor, frames: int) -> Tensor:
    """STS form of a dense (t, 1, 1) kernel (facts of the ECCV 2022 paper's code: `reshape_t`).

    The first half of the output channels never mixes time: its t taps slide along the flattened
    rows (first quarter) or columns (second quarter) of each frame, running on from one row's end
    into the next as the released models do. The second half is the ordinary temporal convolution.

    Args:
        x: (B*T, C, H, W).
        weight: (O, C, t, 1), t odd.
        frames: T.

    Returns:
        (B*T, O, H, W).
    """
    bt, c, h, w = x.shape
    taps = weight.shape[2]
    row, column, _ = sts_split(weight.shape[0])
    nhwc = x.permute(0, 2, 3, 1)

    def scan(pixels: Tensor, kernel: Tensor) -> Tensor:  # pixels (B*T, ?, ?, C)
        flat = pixels.reshape(bt, 1, h * w, c).permute(0, 3, 1, 2)
        out = F.conv2d(flat, kernel.transpose(2, 3), padding=(0, taps // 2))
        return out.permute(0, 2, 3, 1)  # (B*T, 1, H*W, O')

    rows = scan(nhwc, weight[:row]).reshape(bt, h, w, row)
    columns = scan(nhwc.transpose(1, 2), weight[row : row + column]).reshape(bt, w, h, column)
    dynamic = F.conv2d(
        time_by_space(x, frames), weight[row + column :], padding=(taps // 2, 0)
    )  # (B, O', T, H*W)
    dynamic = frames_by_space(dynamic, h, w).permute(0, 2, 3, 1)
    return torch.cat([rows, columns.transpose(1, 2), dynamic], dim=3).permute(0, 3, 1, 2)


def sts_depthwise(x: Tensor, weight: Tensor, frames: int, stride: int, pads: Pads) -> Tensor:
    """STS form of a depthwise 3 x 3 x 3 kernel (`reshape_st`).

    On the first half of the channels the middle slice is a plain 3x3 convolution, and the first and
    last slices are 9-tap scans over the flattened rows and columns; the three maps are added, and
    time is never mixed. The second half is the ordinary depthwise 3-D convolution. With a stride
    the scans step stride**2 along the flat map, as the released models were trained, so their
    samples do not lie under the 3x3 kernel's.

    Args:
        x: (B*T, C, H, W), C even, H and W multiples of the stride.
        weight: (C, 1, 3, 3, 3).
        frames: T.
        stride: spatial stride.
        pads: spatial zero padding of the 3x3 kernels.
    """
    bt, c, h, w = x.shape
    half = c // 2
    still, moving = x[:, :half], x[:, half:]
    taps = weight[:half, :, :].flatten(3)  # (C/2, 1, 3, 9)
    out_h, out_w = h // stride, w // stride
    nhwc = still.permute(0, 2, 3, 1)

    def scan(pixels: Tensor, kernel: Tensor) -> Tensor:  # (B*T, ?, ?, C/2) to (B*T, C/2, 1, L)
        flat = pixels.reshape(bt, 1, h * w, half).permute(0, 3, 1, 2)
        return F.conv2d(
            flat, kernel.unsqueeze(2), stride=(1, stride**2), padding=(0, 4), groups=half
        )

    static = conv2d_padded(still, weight[:half, :, 1], stride, pads, half)
    static = static + scan(nhwc, taps[:, :, 0]).reshape(bt, half, out_h, out_w)
    columns = scan(nhwc.transpose(1, 2), taps[:, :, 2]).reshape(bt, half, out_w, out_h)
    static = static + columns.transpose(2, 3)
    dynamic = depthwise_conv3d(moving, weight[half:], frames, stride, pads)
    return torch.cat([static, dynamic], dim=1)


def check_sts(in_channels: int, kernel: tuple[int, int, int], groups: int) -> str:
    """Why the STS operator is not defined for a kernel; the empty string where it is."""
    taps, kh, kw = kernel
    if taps % 2 == 0 or taps < 3:
        return f"it needs an odd number of temporal taps, at least 3, not {taps}"
    if (kh, kw) == (1, 1):
        return "" if groups == 1 else "a t x 1 x 1 kernel must have groups=1"
    if groups == 1:
        return f"a {taps}x{kh}x{kw} kernel must be depthwise"
    if groups != in_channels:
        return f"a {taps}x{kh}x{kw} kernel with {groups} groups is not depthwise"
    if kernel != (3, 3, 3):
        return f"a depthwise kernel must be 3x3x3, not {taps}x{kh}x{kw}"
    return "" if in_channels % 2 == 0 else f"{in_channels} depthwise channels cannot be halved"


def _check_scan_size(height: int, width: int, stride: int) -> None:
    if height % stride or width % stride:
        raise ValueError(
            f"STS with stride {stride} needs a feature map whose sides are multiples of {stride}, "
            f"not {height}x{width}; use an input size divisible by 32"
        )


def sts_conv(
    x: Tensor, weight: Tensor, *, stride: int | tuple[int, int, int] = 1, groups: int = 1
) -> Tensor:
    """The STS convolution in plain form, with same padding in time and space and no bias.

    Args:
        x: (B, C, T, H, W).
        weight: as `nn.Conv3d` holds it: (O, C, t, 1, 1) with ``groups=1``, or (C, 1, 3, 3, 3) with
            ``groups=C``.
        stride: spatial stride, or (1, s, s). Only depthwise kernels may be strided.
        groups: 1 or C.

    Returns:
        (B, O, T, H/s, W/s).

    Raises:
        ValueError: for kernels, strides or sizes the operator is not defined for.

    Li et al., "In Defense of Image Pre-Training for Spatiotemporal Recognition", ECCV 2022.
    """
    steps = (1, stride, stride) if isinstance(stride, int) else tuple(stride)
    if steps[0] != 1 or steps[1] != steps[2]:
        raise ValueError(f"STS needs stride 1 in time and equal strides in space, not {steps}")
    kernel = (weight.shape[2], weight.shape[3], weight.shape[4])
    reason = check_sts(x.shape[1], kernel, groups)
    if reason:
        raise ValueError(f"STS is not defined here: {reason}")
    spatial, frames = steps[1], x.shape[2]
    if kernel[1] == 1:
        if spatial != 1:
            raise ValueError("STS of a t x 1 x 1 kernel has no spatial stride")
        if weight.shape[0] < 3:
            raise ValueError(f"STS needs at least 3 output channels, not {weight.shape[0]}")
        return unfold(sts_temporal(fold(x), weight.flatten(3), frames), frames)
    _check_scan_size(x.shape[3], x.shape[4], spatial)
    return unfold(sts_depthwise(fold(x), weight, frames, spatial, (1, 1, 1, 1)), frames)


# ------------------------------------------------------------------ layers


class TemporalConv(nn.Conv2d):
    """A (t, 1, 1) convolution with same padding in time; STS or plain, with identical keys.

    The weight is (O, C/groups, t, 1), the 5-D weight of `nn.Conv3d` less its last axis, so that
    ``model.to(memory_format=torch.channels_last)`` works.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        taps: int,
        frames: FrameCount,
        *,
        stride: int = 1,
        groups: int = 1,
        sts: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            (taps, 1),
            stride=(stride, 1),
            padding=(taps // 2, 0),
            groups=groups,
            bias=False,
        )
        self.frames = frames
        self.sts = sts

    def forward(self, x: Tensor, frames: int | None = None) -> Tensor:
        """(B*T, C, H, W) to (B*T', O, H, W); ``frames`` is T where the shared count is not."""
        t = self.frames.value if frames is None else frames
        if self.sts:
            return sts_temporal(x, self.weight, t)
        out = self._conv_forward(time_by_space(x, t), self.weight, None)
        return frames_by_space(out, x.shape[2], x.shape[3])

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return super().extra_repr() + (", sts=True" if self.sts else "")


class VolumeConv(nn.Module):
    """A t x k x k convolution in place of an image network's k x k convolution.

    Time: stride 1, zero padding t // 2. Space: stride and padding of the source convolution,
    TensorFlow's SAME padding included. STS or plain, with identical keys.
    """

    def __init__(
        self, source: nn.Conv2d, taps: int, frames: FrameCount, *, sts: bool = False
    ) -> None:
        super().__init__()
        kh, kw = source.kernel_size
        self.stride = source.stride[0]
        self.groups = source.groups
        self.pads = conv_pads(source)
        self.depthwise = source.groups == source.in_channels == source.out_channels
        self.frames = frames
        self.sts = sts
        self.weight = nn.Parameter(
            torch.empty(
                source.out_channels,
                source.in_channels // source.groups,
                taps,
                kh,
                kw,
                device=source.weight.device,
                dtype=source.weight.dtype,
            )
        )
        self.bias = None if source.bias is None else nn.Parameter(torch.empty_like(source.bias))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming-normal with fan-out, as video networks trained from scratch start."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T, O, H', W')."""
        t, h, w = self.frames.value, x.shape[2], x.shape[3]
        pads = self.pads(h, w)
        if self.sts:
            _check_scan_size(h, w, self.stride)
            out = sts_depthwise(x, self.weight, t, self.stride, pads)
        elif self.depthwise:
            out = depthwise_conv3d(x, self.weight, t, self.stride, pads)
        else:
            out = conv3d_folded(x, self.weight, t, self.stride, pads, self.groups)
        return out if self.bias is None else out + self.bias.view(1, -1, 1, 1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> VolumeConv:
        # Module.to(memory_format=torch.channels_last) raises on 5-D parameters: hand it 4-D ones.
        def on_four_axes(t: Tensor) -> Tensor:
            return fn(t.flatten(3)).unflatten(3, t.shape[3:]) if t.dim() == 5 else fn(t)

        return super()._apply(on_four_axes, recurse)

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        o, i, *kernel = self.weight.shape
        return (
            f"{i * self.groups}, {o}, kernel={tuple(kernel)}, stride={self.stride}"
            + (", depthwise" if self.depthwise else "")
            + (", sts=True" if self.sts else "")
        )


class TemporalPool(nn.Module):
    """Max-pool of kernel and stride (2, 1, 1); a clip of one frame passes as it is."""

    def __init__(self, frames: FrameCount) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*(T // 2), C, H, W); halves the shared frame count."""
        t = self.frames.value
        if t < 2:
            return x
        out = F.max_pool2d(time_by_space(x, t), (2, 1), (2, 1))
        self.frames.value = t // 2
        return frames_by_space(out, x.shape[2], x.shape[3])
