"""The STS convolution: half of a temporal kernel's channels stay with one frame, half see time.

Li et al., "In Defense of Image Pre-Training for Spatiotemporal Recognition", ECCV 2022. It adds no
parameters: the same kernel is read in another way, so plain and STS models share their keys.

Shapes in comments: B clips, T frames, C channels, H x W pixels, O output channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .folding import (
    Pads,
    conv2d_padded,
    depthwise_conv3d,
    fold,
    frames_by_space,
    pad_frames,
    time_by_space,
    unfold,
)


def sts_split(out_channels: int) -> tuple[int, int, int]:
    """Output channels of (row scan, column scan, dynamic part): the larger half comes first."""
    static = -(-out_channels // 2)
    row = -(-static // 2)
    return row, static - row, out_channels - static


def sts_temporal(x: Tensor, weight: Tensor, frames: int, *, replicate: bool = False) -> Tensor:
    """STS form of a dense (t, 1, 1) kernel (`reshape_t` in the code of the ECCV 2022 paper).

    The first half of the output channels never mixes time: its t taps slide along the flattened
    rows (first quarter) or columns (second quarter) of each frame, running on from one row's end
    into the next as the released models do. The second half is the ordinary temporal convolution.

    Args:
        x: (B*T, C, H, W).
        weight: (O, C, t, 1), t odd.
        frames: T.
        replicate: the dynamic half sees its end frames repeated instead of zeros.

    Returns:
        (B*T, O, H, W).
    """
    bt, c, h, w = x.shape
    taps = weight.shape[2]
    row, column, _ = sts_split(weight.shape[0])
    nhwc = x.permute(0, 2, 3, 1)

    def scan(pixels: Tensor, kernel: Tensor) -> Tensor:  # pixels (B*T, ?, ?, C)
        flat = pixels.reshape(bt, 1, h * w, c).permute(0, 3, 1, 2)
        # Not transpose: that leaves strides which torch's kernel for tiny maps takes for another
        # memory format than the map's, and its backward pass then fails.
        out = F.conv2d(flat, kernel[..., 0].unsqueeze(2), padding=(0, taps // 2))
        return out.permute(0, 2, 3, 1)  # (B*T, 1, H*W, O')

    rows = scan(nhwc, weight[:row]).reshape(bt, h, w, row)
    # Rows of the transposed frame are its columns.
    columns = scan(nhwc.transpose(1, 2), weight[row : row + column]).reshape(bt, w, h, column)
    pad = taps // 2
    if replicate:
        x, frames, pad = pad_frames(x, frames, pad, pad, replicate=True), frames + 2 * pad, 0
    dynamic = F.conv2d(
        time_by_space(x, frames), weight[row + column :], padding=(pad, 0)
    )  # (B, O', T, H*W)
    dynamic = frames_by_space(dynamic, h, w).permute(0, 2, 3, 1)
    return torch.cat([rows, columns.transpose(1, 2), dynamic], dim=3).permute(0, 3, 1, 2)


def sts_depthwise(
    x: Tensor,
    weight: Tensor,
    frames: int,
    stride: int,
    pads: Pads,
    *,
    aligned: bool = False,
    replicate: bool = False,
) -> Tensor:
    """STS form of a depthwise 3 x 3 x 3 kernel (`reshape_st`).

    On the first half of the channels the middle slice is a plain 3x3 convolution, and the first and
    last slices are 9-tap scans over the flattened rows and columns; the three maps are added, and
    time is never mixed. The second half is the ordinary depthwise 3-D convolution. With a stride
    the scans step stride**2 along the flat map, as the released models were trained, so their
    samples do not lie under the 3x3 kernel's; ``aligned`` scans every pixel and keeps those that
    do.

    Args:
        x: (B*T, C, H, W), C even, H and W multiples of the stride (``aligned``: any size).
        weight: (C, 1, 3, 3, 3).
        frames: T.
        stride: spatial stride.
        pads: spatial zero padding of the 3x3 kernels.
        aligned: the clean form of the strided scans; without a stride both are the same.
        replicate: the dynamic half sees its end frames repeated instead of zeros.

    Raises:
        ValueError: for sizes the strided scans are not defined for.
    """
    if not aligned:
        _check_scan_size(x.shape[2], x.shape[3], stride)
    bt, c, h, w = x.shape
    half = c // 2
    still, moving = x[:, :half], x[:, half:]
    taps = weight[:half, :, :].flatten(3)  # (C/2, 1, 3, 9)
    step = 1 if aligned else stride
    out_h, out_w = h // step, w // step
    nhwc = still.permute(0, 2, 3, 1)

    def scan(pixels: Tensor, kernel: Tensor) -> Tensor:  # (B*T, ?, ?, C/2) to (B*T, C/2, 1, L)
        flat = pixels.reshape(bt, 1, h * w, half).permute(0, 3, 1, 2)
        return F.conv2d(flat, kernel.unsqueeze(2), stride=(1, step**2), padding=(0, 4), groups=half)

    # Slice 1 of the kernel scans space as it is; slices 0 and 2 scan it row by row and column by
    # column, which is how the reshaped kernel falls onto the flat map.
    static = conv2d_padded(still, weight[:half, :, 1], stride, pads, half)
    rows = scan(nhwc, taps[:, :, 0]).reshape(bt, half, out_h, out_w)
    columns = scan(nhwc.transpose(1, 2), taps[:, :, 2]).reshape(bt, half, out_w, out_h)
    scans = rows + columns.transpose(2, 3)
    static = static + (scans[:, :, ::stride, ::stride] if aligned else scans)
    time_pad = 1
    if replicate:
        moving, frames = pad_frames(moving, frames, 1, 1, replicate=True), frames + 2
        time_pad = 0
    dynamic = depthwise_conv3d(moving, weight[half:], frames, (1, stride), pads, time_pad)
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


def require_sts(in_channels: int, kernel: tuple[int, int, int], groups: int, step: int) -> None:
    """Raise ValueError unless the STS operator is defined for a kernel and a stride in time."""
    reason = check_sts(in_channels, kernel, groups)
    if not reason and step != 1:
        reason = "it has no time stride"
    if reason:
        raise ValueError(f"STS is not defined here: {reason}")


def _check_scan_size(height: int, width: int, stride: int) -> None:
    if height % stride or width % stride:
        raise ValueError(
            f"STS with stride {stride} needs a feature map whose sides are multiples of {stride}, "
            f"not {height}x{width}; use an input size divisible by 32, or aligned=True"
        )


def sts_conv(
    x: Tensor,
    weight: Tensor,
    *,
    stride: int | tuple[int, int, int] = 1,
    groups: int = 1,
    aligned: bool = False,
) -> Tensor:
    """The STS convolution in plain form, with same padding in time and space and no bias.

    Args:
        x: (B, C, T, H, W).
        weight: as `nn.Conv3d` holds it: (O, C, t, 1, 1) with ``groups=1``, or (C, 1, 3, 3, 3) with
            ``groups=C``.
        stride: spatial stride, or (1, s, s). Only depthwise kernels may be strided.
        groups: 1 or C.
        aligned: strided depthwise kernels only: scans whose samples lie under the 3x3 kernel's.
            The default is what the released models were trained with.

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
    require_sts(x.shape[1], kernel, groups, steps[0])
    spatial, frames = steps[1], x.shape[2]
    if kernel[1] == 1:
        if spatial != 1:
            raise ValueError("STS of a t x 1 x 1 kernel has no spatial stride")
        if weight.shape[0] < 3:
            raise ValueError(f"STS needs at least 3 output channels, not {weight.shape[0]}")
        return unfold(sts_temporal(fold(x), weight.flatten(3), frames), frames)
    pads = (1, 1, 1, 1)
    out = sts_depthwise(fold(x), weight, frames, spatial, pads, aligned=aligned)
    return unfold(out, frames)
