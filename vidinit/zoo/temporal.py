"""Every layer that mixes time, on folded activations.

The layout, and how convolutions run in it: `vidinit.zoo.folding`.

Layers read T from the model's `FrameCount`. Convolutions with a stride in time leave it alone (a
residual block reads it for both its branches): who owns them calls `FrameCount.stride`. Pools
stand in the main path and update it themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .folding import (
    FixedPads,
    FrameCount,
    Pads,
    clip_mean,
    conv2d_padded,
    conv3d_folded,
    conv_pads,
    depthwise_conv3d,
    fold,
    frames_by_space,
    pad_frames,
    same_axis_pads,
    same_pads,
    time_by_space,
    unfold,
)
from .sts import require_sts, sts_conv, sts_depthwise, sts_temporal

__all__ = ["SelfGating", "TemporalConv", "TemporalShift", "VolumeConv", "VolumePool", "sts_conv"]

TIME_PADDINGS = ("zeros", "replicate")
"""Frames beyond the ends of a clip: zeros, or the end frames once more."""

PADDINGS = (*TIME_PADDINGS, "same")
"""Of a layer: ``same`` is TensorFlow's, in space too, where a stride makes it uneven."""


def _time_padded(
    x: Tensor, frames: int, taps: int, stride: int, padding: str
) -> tuple[Tensor, int, int]:
    """The clip with the padding a convolution cannot do itself: (x, frames, zeros left to it)."""
    if padding == "zeros":
        return x, frames, taps // 2
    before = after = taps // 2
    if padding == "same":
        before, after = same_axis_pads(frames, taps, stride)
        if before == after:
            return x, frames, before
    x = pad_frames(x, frames, before, after, replicate=padding == "replicate")
    return x, frames + before + after, 0


class TemporalConv(nn.Conv2d):
    """A (t, 1, 1) convolution; STS or plain, with identical keys.

    The weight is (O, C/groups, t, 1), the 5-D weight of `nn.Conv3d` less its last axis, so that
    ``model.to(memory_format=torch.channels_last)`` works.

    Args:
        in_channels, out_channels, groups, bias: as for `nn.Conv2d`.
        taps: t, odd.
        frames: the model's frame count.
        stride: in time; the result has ceil(T / stride) frames.
        sts: the STS operator instead (dense kernels without stride only).
        time_padding: ``zeros``, ``replicate`` (end frames repeated: makes mean inflation exact) or
            ``same`` (TensorFlow's, which differs from zeros with a stride).
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
        bias: bool = False,
        sts: bool = False,
        time_padding: str = "zeros",
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            (taps, 1),
            stride=(stride, 1),
            groups=groups,
            bias=bias,
        )
        if sts:
            require_sts(in_channels, (taps, 1, 1), groups, stride)
        self.frames = frames
        self.sts = sts
        self.time_padding = time_padding

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T', O, H, W)."""
        t = self.frames.value
        if self.sts:
            replicate = self.time_padding == "replicate" or self.frames.still
            out = sts_temporal(x, self.weight, t, replicate=replicate)
            return out if self.bias is None else out + self.bias.view(1, -1, 1, 1)
        if self.frames.still:  # every tap sees the same frame, so their sum does
            return F.conv2d(x, self.weight.sum(2, keepdim=True), self.bias, groups=self.groups)
        x, t, pad = _time_padded(x, t, self.kernel_size[0], self.stride[0], self.time_padding)
        out = F.conv2d(
            time_by_space(x, t), self.weight, self.bias, self.stride, (pad, 0), 1, self.groups
        )
        return frames_by_space(out, x.shape[2], x.shape[3])

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return super().extra_repr() + (", sts=True" if self.sts else "")


class VolumeConv(nn.Module):
    """A t x k x k convolution, dense, grouped or depthwise; STS or plain, with identical keys.

    Args:
        in_channels, out_channels, groups, bias: as for `nn.Conv3d`.
        kernel: (t, kh, kw), t odd.
        frames: the model's frame count.
        stride: (time, space); the result has ceil(T / time) frames.
        pads: spatial zero padding as a function of the input size; default: half the kernel.
        sts: the STS operator instead (depthwise 3x3x3 kernels without a stride in time only).
        aligned: the clean form of its strided scans.
        time_padding: as for `TemporalConv`; ``same`` pads space by TensorFlow's rule too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int, int],
        frames: FrameCount,
        *,
        stride: tuple[int, int] = (1, 1),
        pads: Callable[[int, int], Pads] | None = None,
        groups: int = 1,
        bias: bool = False,
        sts: bool = False,
        aligned: bool = False,
        time_padding: str = "zeros",
    ) -> None:
        super().__init__()
        if sts:
            require_sts(in_channels, kernel, groups, stride[0])
        if pads is None:
            kh, kw = kernel[1:]
            pads = FixedPads((kw // 2, kw // 2, kh // 2, kh // 2))
        self.kernel = kernel
        self.stride = stride
        self.groups = groups
        self.pads = pads
        self.depthwise = groups == in_channels == out_channels
        self.frames = frames
        self.sts = sts
        self.aligned = aligned
        self.time_padding = time_padding
        self.dilation = 1
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *kernel))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    @classmethod
    def of(
        cls, source: nn.Conv2d, taps: int, frames: FrameCount, **options: bool | str
    ) -> VolumeConv:
        """One that takes the place of an image network's convolution: same space, ``taps`` in time.

        TensorFlow's SAME padding in space, which timm's ports compute at run time, is kept.
        """
        conv = cls(
            source.in_channels,
            source.out_channels,
            (taps, source.kernel_size[0], source.kernel_size[1]),
            frames,
            stride=(1, source.stride[0]),
            pads=conv_pads(source),
            groups=source.groups,
            bias=source.bias is not None,
            **options,  # type: ignore[arg-type]
        )
        return conv.to(source.weight.device, source.weight.dtype)

    def dilate(self, dilation: int) -> None:
        """Make it a kernel without a stride in space whose taps lie ``dilation`` pixels apart.

        Raises:
            ValueError: for STS kernels, and TensorFlow's padding, of which there is no such form.
        """
        if self.sts or self.time_padding == "same":
            raise ValueError("STS kernels and SAME padding have no dilated form")
        kh, kw = (dilation * (side // 2) for side in self.kernel[1:])
        self.stride, self.dilation = (self.stride[0], 1), dilation
        self.pads = FixedPads((kw, kw, kh, kh))

    def reset_parameters(self) -> None:
        """Kaiming-normal with fan-out, as video networks trained from scratch start."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T', O, H', W')."""
        t, (h, w) = self.frames.value, x.shape[2:]
        (step, space), (taps, kh, kw) = self.stride, self.kernel
        pads = (
            same_pads(h, w, (kh, kw), (space, space))
            if self.time_padding == "same"
            else self.pads(h, w)
        )
        if self.sts:
            replicate = self.time_padding == "replicate" or self.frames.still
            out = sts_depthwise(
                x, self.weight, t, space, pads, aligned=self.aligned, replicate=replicate
            )
        elif self.frames.still:
            out = conv2d_padded(x, self.weight.sum(2), space, pads, self.groups, self.dilation)
        else:
            x, t, pad = _time_padded(x, t, taps, step, self.time_padding)
            stride, apart = (step, space), self.dilation
            if self.depthwise:
                out = depthwise_conv3d(x, self.weight, t, stride, pads, pad, apart)
            else:
                out = conv3d_folded(x, self.weight, t, stride, pads, self.groups, pad, apart)
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
            + (f", dilation={self.dilation}" if self.dilation > 1 else "")
            + (", depthwise" if self.depthwise else "")
            + (", sts=True" if self.sts else "")
        )


class VolumePool(nn.Module):
    """Max-pool of kernel (t, k, k).

    The maximum is separable: where torch's 3-D pool cannot do it (SAME padding, ceil mode in space
    alone, pools of one axis), a spatial and a temporal pool follow one another.

    Args:
        kernel, stride: (time, space).
        frames: the model's frame count; the pool updates it.
        padding: (time, space) of minus infinity, or None for TensorFlow's SAME.
        ceil_mode: in space, as for `nn.MaxPool2d`.

    A clip shorter than an unpadded temporal kernel passes as it is, so that images can go through.
    """

    def __init__(
        self,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        frames: FrameCount,
        *,
        padding: tuple[int, int] | None = (0, 0),
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T', C, H', W')."""
        (taps, k), (step, space) = self.kernel, self.stride
        # One pass where torch's pool is defined so; below, space and time one after the other.
        if self.padding is not None and not self.ceil_mode and min(taps, k) > 1:
            t, (pad_time, pad) = self.frames.value, self.padding
            if t + 2 * pad_time >= taps:
                volume = F.max_pool3d(
                    unfold(x, t), (taps, k, k), (step, space, space), (pad_time, pad, pad)
                )
                self.frames.value = volume.shape[2]
                return fold(volume)
        if (k, space) != (1, 1):
            pad = 0
            if self.padding is None:
                pads = same_pads(x.shape[2], x.shape[3], (k, k), (space, space))
                x = F.pad(x, pads, value=float("-inf"))
            else:
                pad = self.padding[1]
            x = F.max_pool2d(x, k, space, pad, ceil_mode=self.ceil_mode)
        if (taps, step) == (1, 1):
            return x
        t = self.frames.value
        if self.padding is None:
            before, after = same_axis_pads(t, taps, step)
        else:
            before = after = self.padding[0]
        if t + before + after < taps:  # an image, or a clip almost as short
            return x
        flat = time_by_space(x, t)
        if before != after:
            flat, before, after = F.pad(flat, (0, 0, before, after), value=float("-inf")), 0, 0
        out = F.max_pool2d(flat, (taps, 1), (step, 1), (before, 0))
        self.frames.value = out.shape[2]
        return frames_by_space(out, x.shape[2], x.shape[3])

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"kernel={self.kernel}, stride={self.stride}, padding={self.padding}"


class TemporalShift(nn.Module):
    """1/8 of the channels come from the next frame, 1/8 from the last one (TSM, ICCV 2019).

    Beyond the ends of the clip there are zeros; a still one passes as it is. No parameters.
    """

    def __init__(self, frames: FrameCount, division: int = 8) -> None:
        super().__init__()
        self.frames = frames
        self.division = division

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to the same."""
        if self.frames.still:
            return x
        clips = x.unflatten(0, (-1, self.frames.value))
        n = x.shape[1] // self.division
        out = clips.clone()  # a residual branch: the input goes on unshifted beside it
        out[:, :-1, :n] = clips[:, 1:, :n]
        out[:, -1, :n] = 0
        out[:, 1:, n : 2 * n] = clips[:, :-1, n : 2 * n]
        out[:, 0, n : 2 * n] = 0
        return out.flatten(0, 1)

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"1/{self.division}"


class ShiftFirst:
    """A convolution that shifts its input first. Its keys stay those of the convolution.

    Mixed into the convolution's own class by `shift_before`, because timm has several.
    """

    shift: TemporalShift

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T, C', H', W')."""
        return super().forward(self.shift(x))  # type: ignore[misc]

    def __reduce__(self) -> tuple[Any, ...]:
        # pickle looks classes up by name, and the mixed one has none in any module.
        return _blank_shifted, (type(self).__bases__[1],), self.__dict__


_SHIFTED: dict[type, type] = {}


def _shifted(kind: type) -> type:
    if kind not in _SHIFTED:
        _SHIFTED[kind] = type(f"Shifted{kind.__name__}", (ShiftFirst, kind), {})
    return _SHIFTED[kind]


def _blank_shifted(kind: type) -> Any:
    """An instance of the mixed class for pickle to fill."""
    shifted: Any = _shifted(kind)
    return shifted.__new__(shifted)


def shift_before(conv: nn.Conv2d, frames: FrameCount) -> None:
    """Give a convolution a `TemporalShift` of its input, in place."""
    conv.__class__ = _shifted(type(conv))
    conv.shift = TemporalShift(frames)


class SelfGating(nn.Module):
    """Y = scale * sigmoid(W mean(X) + b) * X, the mean over time and space (S3D-G, section 3.3).

    Args:
        channels: C.
        frames: the model's frame count.
        bias: the authors' code has none, the MIL-NCE port has one.
        scale: the paper's gate has 1, so that a fresh one halves its input; with 2 a gate of zero
            weights passes its input unchanged, behind any activation.

    W starts at N(0, 0.01).
    """

    is_new = True  # counted among the temporal parameters: no image network has it

    def __init__(
        self, channels: int, frames: FrameCount, *, bias: bool = False, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels, bias=bias)
        nn.init.trunc_normal_(self.fc.weight, std=0.01)
        if bias:
            nn.init.zeros_(self.fc.bias)
        self.frames = frames
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to the same."""
        clips = x.unflatten(0, (-1, self.frames.value))
        gate = self.scale * torch.sigmoid(self.fc(clip_mean(x, self.frames.value)))
        return (clips * gate[:, None, :, None, None]).flatten(0, 1)
