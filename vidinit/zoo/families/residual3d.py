"""Residual networks with kernels over time: blocks, stems and the trunk of R3D, R(2+1)D and CSN.

A `Graph` says how one network differs from the next; `resnet3d` and `csn` hold the published ones.
Activations are folded, (B*T, C, H, W) in channels_last memory.

Shapes in comments: B clips, T frames, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..base import VideoModel, init_convolutions
from ..folding import FrameCount
from ..modify.drop_path import ClipDropPath
from ..temporal import TemporalConv, VolumeConv

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BASIC = (18, 34)
BOTTLENECKS = (50, 101, 152)
WIDTHS = (64, 128, 256, 512)

Stride = tuple[int, int]  # in time, in space


def mid_planes(inputs: int, outputs: int, size: int = 3) -> int:
    """Width between the halves of a factored kernel (section 3.5 of the R(2+1)D paper).

    It gives the 1 x size x size and 3x1x1 pair as many weights as a 3 x size x size kernel.
    """
    area = size * size
    return (3 * area * inputs * outputs) // (area * inputs + 3 * outputs)


class Conv2Plus1D(nn.Sequential):
    """1 x k x k convolution, norm, ReLU, 3x1x1 convolution; each takes its part of the stride.

    Args:
        inputs, mid, outputs: channels.
        stride: in time, in space.
        frames: the model's frame count.
        eps: of the norm.
        size: k. A 1x1 kernel has one temporal tap, others three.
        sts: the temporal kernel in its STS form.
    """

    def __init__(
        self,
        inputs: int,
        mid: int,
        outputs: int,
        stride: Stride,
        frames: FrameCount,
        eps: float,
        *,
        size: int = 3,
        sts: bool = False,
    ) -> None:
        time: nn.Module
        if size == 1:
            time = nn.Conv2d(mid, outputs, 1, bias=False)
        else:
            time = TemporalConv(mid, outputs, 3, frames, stride=stride[0], sts=sts)
        super().__init__(
            nn.Conv2d(inputs, mid, size, stride=stride[1], padding=size // 2, bias=False),
            nn.BatchNorm2d(mid, eps=eps),
            nn.ReLU(inplace=True),
            time,
        )


ConvMaker = Callable[[int, int, int, Stride, FrameCount], nn.Module]
"""Makes a block's k x k convolution of (inputs of the block, inputs, outputs, stride, frames)."""


def flat_conv(_: int, inputs: int, outputs: int, stride: Stride, frames: FrameCount) -> nn.Module:
    """1x3x3, without a stride in time."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride[1], padding=1, bias=False)


def volume_conv(_: int, inputs: int, outputs: int, stride: Stride, frames: FrameCount) -> nn.Module:
    """3x3x3."""
    return VolumeConv(inputs, outputs, (3, 3, 3), frames, stride=stride)


def factored_conv(
    block: int,
    inputs: int,
    outputs: int,
    stride: Stride,
    frames: FrameCount,
    *,
    per_block: bool,
    eps: float,
    sts: bool = False,
) -> nn.Module:
    """1x3x3 and 3x1x1; ``per_block`` takes the width between from the block's input."""
    mid = mid_planes(block if per_block else inputs, outputs)
    return Conv2Plus1D(inputs, mid, outputs, stride, frames, eps, sts=sts)


class Shortcut(nn.Sequential):
    """A 1x1 convolution and a norm on every step-th frame."""

    def __init__(self, conv: nn.Module, norm: nn.Module, step: int, frames: FrameCount) -> None:
        super().__init__(conv, norm)
        self.step = step
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T', C', H', W')."""
        if self.step > 1:
            x = x.unflatten(0, (-1, self.frames.value))[:, :: self.step].flatten(0, 1)
        return super().forward(x)


@dataclass(frozen=True)
class Graph:
    """The differences between the networks built here.

    Attributes:
        depth: a key of `BLOCKS`.
        stem: makes the layers before the stages, 3 to 64 channels at half the size.
        convs: makes the 3x3 kernels of each stage.
        steps: stride in time of each stage.
        pool: a 3x3 max-pool with stride 2 behind the stem, as image ResNets have.
        eps: of the norms.
        split_shortcut: the shortcuts' 1x1 kernels are factored too.
    """

    depth: int
    stem: Callable[[FrameCount], nn.Sequential]
    convs: tuple[ConvMaker, ...]
    steps: tuple[int, ...]
    pool: bool
    eps: float
    split_shortcut: bool = False

    def norm(self, channels: int) -> nn.BatchNorm2d:
        """A batch norm with this graph's eps."""
        return nn.BatchNorm2d(channels, eps=self.eps)

    def shortcut(
        self, inputs: int, outputs: int, stride: Stride, frames: FrameCount
    ) -> Shortcut | None:
        """The projection of a block whose input and output differ; None where they do not."""
        if stride == (1, 1) and inputs == outputs:
            return None
        conv: nn.Module
        if self.split_shortcut:
            mid = mid_planes(inputs, outputs, 1)
            # The STS paper's code gives the norm inside a factored kernel torch's own eps.
            conv = Conv2Plus1D(inputs, mid, outputs, stride, frames, 1e-5, size=1)
        else:
            conv = nn.Conv2d(inputs, outputs, 1, stride=stride[1], bias=False)
        return Shortcut(conv, self.norm(outputs), stride[0], frames)


class BasicBlock(nn.Module):
    """Two 3x3 kernels with a shortcut."""

    is_block = True
    expansion = 1

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: Stride,
        conv: ConvMaker,
        graph: Graph,
        frames: FrameCount,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.step = stride[0]
        self.conv1 = nn.Sequential(
            conv(inputs, inputs, planes, stride, frames), graph.norm(planes), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(conv(inputs, planes, planes, (1, 1), frames), graph.norm(planes))
        self.downsample = graph.shortcut(inputs, planes, stride, frames)
        self.drop_path = ClipDropPath(frames)

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T', C', H', W'); updates the shared frame count."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.conv1(x)
        self.frames.stride(self.step)
        return F.relu(self.drop_path(self.conv2(out)) + identity, inplace=True)


class Bottleneck(nn.Module):
    """A 3x3 kernel between two 1x1 kernels, with a shortcut."""

    is_block = True
    expansion = 4

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: Stride,
        conv: ConvMaker,
        graph: Graph,
        frames: FrameCount,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.step = stride[0]
        outputs = planes * self.expansion
        self.conv1 = nn.Sequential(
            nn.Conv2d(inputs, planes, 1, bias=False), graph.norm(planes), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(
            conv(inputs, planes, planes, stride, frames), graph.norm(planes), nn.ReLU(inplace=True)
        )
        self.conv3 = nn.Sequential(nn.Conv2d(planes, outputs, 1, bias=False), graph.norm(outputs))
        self.downsample = graph.shortcut(inputs, outputs, stride, frames)
        self.drop_path = ClipDropPath(frames)

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T', C', H', W'); updates the shared frame count."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.conv2(self.conv1(x))
        self.frames.stride(self.step)
        return F.relu(self.drop_path(self.conv3(out)) + identity, inplace=True)


class ResNet3d(VideoModel):
    """Stem, four stages of residual blocks, mean over space and time, linear head."""

    def __init__(self, graph: Graph, num_classes: int) -> None:
        block = Bottleneck if graph.depth in BOTTLENECKS else BasicBlock
        super().__init__(WIDTHS[-1] * block.expansion, num_classes)
        self.stem = graph.stem(self.frames)
        self.pool = nn.MaxPool2d(3, 2, 1) if graph.pool else nn.Identity()
        inputs = WIDTHS[0]
        for stage, (planes, depth) in enumerate(zip(WIDTHS, BLOCKS[graph.depth], strict=True)):
            stride, conv = (graph.steps[stage], 1 if stage == 0 else 2), graph.convs[stage]
            layers = []
            for _ in range(depth):
                layers.append(block(inputs, planes, stride, conv, graph, self.frames))
                inputs, stride = planes * block.expansion, (1, 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        init_convolutions(self)

    def feature_maps(self, x: Tensor) -> Tensor:
        """(B*T, 3, H, W) to (B*T', C, H', W') with C = 512, or 2048 with bottlenecks."""
        x = self.pool(self.stem(x))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x


def volume_stem(frames: FrameCount, *, eps: float, taps: int = 3) -> nn.Sequential:
    """A kernel of taps x 7 x 7, norm, ReLU; one tap makes it an image network's."""
    conv: nn.Module
    if taps == 1:
        conv = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    else:
        conv = VolumeConv(3, 64, (taps, 7, 7), frames, stride=(1, 2))
    return nn.Sequential(conv, nn.BatchNorm2d(64, eps=eps), nn.ReLU(inplace=True))


def factored_stem(
    frames: FrameCount, *, mid: int, eps: float, mid_eps: float, sts: bool = False
) -> nn.Sequential:
    """1x7x7 and 3x1x1, norm, ReLU."""
    halves = Conv2Plus1D(3, mid, 64, (1, 2), frames, mid_eps, size=7, sts=sts)
    return nn.Sequential(*halves, nn.BatchNorm2d(64, eps=eps), nn.ReLU(inplace=True))
