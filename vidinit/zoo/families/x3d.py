"""X3D (Feichtenhofer, CVPR 2020), numerically equal to pytorchvideo's, and its STS form.

A mobile network grown along space, time, width and depth: inverted bottlenecks around depthwise
3 x 3 x 3 kernels, squeeze-and-excitation over the whole clip in every other block, and no stride or
pool in time before the head. No image network fits its weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import VideoModel
from ..folding import FrameCount, clip_mean
from ..modify.drop_path import ClipDropPath
from ..names import check_option
from ..spec import GRAY
from ..temporal import TemporalConv, VolumeConv

BLOCKS = {
    "xs": (3, 5, 11, 7),
    "s": (3, 5, 11, 7),
    "m": (3, 5, 11, 7),
    "l": (5, 10, 25, 15),
}
"""Blocks of each stage; XS, S and M differ in their clips alone."""

STEM_WIDTH = 24
WIDTHS = (24, 48, 96, 192)
FEATURES = 2048


def inner_width(width: int) -> int:
    """Channels of a stage's depthwise kernels: 2.25 times the stage's."""
    return width * 9 // 4


def squeeze_width(channels: int) -> int:
    """A sixteenth, as the nearest multiple of 8, at least 8 and never less than nine tenths."""
    wanted = channels / 16
    width = max(8, int(wanted + 4) // 8 * 8)
    return width if width >= 0.9 * wanted else width + 8


class SqueezeExcite(nn.Module):
    """A weight in 0 to 1 for each channel, from its mean over the clip's time and space.

    Args:
        channels: C.
        frames: the model's frame count.
    """

    def __init__(self, channels: int, frames: FrameCount) -> None:
        super().__init__()
        self.frames = frames
        squeezed = squeeze_width(channels)
        self.fc1 = nn.Linear(channels, squeezed)
        self.fc2 = nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to the same."""
        clips = x.unflatten(0, (-1, self.frames.value))
        hidden = F.relu(self.fc1(clip_mean(x, self.frames.value)), inplace=True)
        weight = torch.sigmoid(self.fc2(hidden))
        return (clips * weight[:, None, :, None, None]).flatten(0, 1)


class Stem(nn.Module):
    """A 1 x 3 x 3 convolution that halves the frames' sides, then a depthwise 5 x 1 x 1 one."""

    def __init__(self, frames: FrameCount, *, bn_eps: float) -> None:
        super().__init__()
        self.conv_s = nn.Conv2d(3, STEM_WIDTH, 3, stride=2, padding=1, bias=False)
        self.conv_t = TemporalConv(STEM_WIDTH, STEM_WIDTH, 5, frames, groups=STEM_WIDTH)
        self.norm = nn.BatchNorm2d(STEM_WIDTH, eps=bn_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, 3, H, W) to (B*T, 24, H/2, W/2)."""
        return F.relu(self.norm(self.conv_t(self.conv_s(x))), inplace=True)


class Block(nn.Module):
    """Convolutions 1 x 1 x 1, depthwise 3 x 3 x 3 (which strides in space), 1 x 1 x 1; a shortcut.

    Args:
        inputs, outputs: channels.
        stride: in space.
        frames: the model's frame count.
        squeeze: True where squeeze-and-excitation follows the depthwise kernel.
        norm_shortcut: True where a shortcut that only strides has a norm, too (mmaction2).
        sts, aligned: form of the depthwise kernel, see `VolumeConv`.
        bn_eps: of the norms.
    """

    is_block = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        frames: FrameCount,
        *,
        squeeze: bool,
        norm_shortcut: bool,
        sts: bool,
        aligned: bool,
        bn_eps: float,
    ) -> None:
        super().__init__()
        inner = inner_width(outputs)
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner, eps=bn_eps)
        self.conv2 = VolumeConv(
            inner,
            inner,
            (3, 3, 3),
            frames,
            stride=(1, stride),
            groups=inner,
            sts=sts,
            aligned=aligned,
        )
        self.bn2 = nn.BatchNorm2d(inner, eps=bn_eps)
        self.se = SqueezeExcite(inner, frames) if squeeze else nn.Identity()
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, eps=bn_eps)
        nn.init.zeros_(self.bn3.weight)  # the papers' recipe: a fresh block passes its input
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            )
            if inputs != outputs or norm_shortcut:
                self.downsample.append(nn.BatchNorm2d(outputs, eps=bn_eps))
        self.drop_path = ClipDropPath(frames)

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T, C', H', W')."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.silu(self.se(self.bn2(self.conv2(out))))
        out = self.drop_path(self.bn3(self.conv3(out)))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)), inplace=True)


class X3D(VideoModel):
    """Stem, four stages of `Block` that halve the sides, a 432-wide layer, two linear ones.

    Args:
        num_classes: size of the head.
        blocks: of each stage.
        norm_shortcut, sts, aligned, bn_eps: as for `Block`.
    """

    def __init__(
        self,
        num_classes: int,
        blocks: tuple[int, int, int, int],
        *,
        norm_shortcut: bool = False,
        sts: bool = False,
        aligned: bool = False,
        bn_eps: float = 1e-5,
    ) -> None:
        super().__init__(FEATURES, num_classes, dropout=0.5)
        self.stem = Stem(self.frames, bn_eps=bn_eps)
        stages = []
        inputs = STEM_WIDTH
        for depth, width in zip(blocks, WIDTHS, strict=True):
            layers = []
            for index in range(depth):
                layers.append(
                    Block(
                        inputs,
                        width,
                        2 if index == 0 else 1,
                        self.frames,
                        squeeze=index % 2 == 0,  # every other block, the first one included
                        norm_shortcut=norm_shortcut,
                        sts=sts,
                        aligned=aligned,
                        bn_eps=bn_eps,
                    )
                )
                inputs = width
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        last = inner_width(inputs)
        self.conv5 = nn.Conv2d(inputs, last, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(last, eps=bn_eps)
        self.fc1 = nn.Linear(last, FEATURES, bias=False)
        for name, module in self.named_modules():
            # The small linear layers are 1 x 1 x 1 convolutions in the paper and start as such.
            if isinstance(module, (nn.Conv2d, nn.Linear)) and name != "head":
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def feature_maps(self, x: Tensor) -> Tensor:
        """Folded frames (B*T, 3, H, W) to the last maps (B*T, 432, H/32, W/32)."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return F.relu(self.bn5(self.conv5(x)), inplace=True)

    def pooled(self, maps: Tensor) -> Tensor:
        """(B*T, 432, H, W) to (B, 2048)."""
        return F.relu(self.fc1(super().pooled(maps)), inplace=True)

    def spread(self, maps: Tensor, clips: int) -> Tensor:
        """(B*T, 432, H, W) to (B, N, 2048): the descriptor that each position alone would give."""
        return F.relu(self.fc1(super().spread(maps, clips)), inplace=True)


def x3d(
    num_classes: int, *, version: str = "s", norm_shortcut: bool = False, bn_eps: float = 1e-5
) -> X3D:
    """X3D as the paper and pytorchvideo have it.

    XS, S and M: 3,794,274 parameters with 400 classes; 0.605, 1.963 and 4.732 GMACs at their
    training crops. L: 6,153,384 parameters, 18.368 GMACs.

    Args:
        num_classes: size of the head.
        version: ``xs``, ``s`` and ``m``, which are one network, or ``l``.
        norm_shortcut: a norm in the first shortcut too, which only strides, as in the networks of
            PySlowFast and mmaction2.
        bn_eps: of all norms.

    Raises:
        UsageError: for another version.
    """
    check_option("X3D version", version, BLOCKS)
    model = X3D(num_classes, BLOCKS[version], norm_shortcut=norm_shortcut, bn_eps=bn_eps)
    model.spec = GRAY
    return model


def sts_x3d(num_classes: int, *, sts: bool = True, aligned: bool = False) -> X3D:
    """STS-X3D-S (Li et al., ECCV 2022): STS in all 26 depthwise kernels.

    mmaction2's graph: the first shortcut, which only strides, has a norm too. 3,794,322 parameters
    with 400 classes.

    Args:
        num_classes: size of the head.
        sts: False for the plain twin, with identical keys.
        aligned: scans of the strided kernels that lie under their 3x3 ones, for any input size; the
            default is what the released models were trained with, for multiples of 32.
    """
    return X3D(num_classes, BLOCKS["s"], norm_shortcut=True, sts=sts, aligned=aligned)
