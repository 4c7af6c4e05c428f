"""R(2+1)D-18 (Tran et al., CVPR 2018), numerically equal to torchvision's.

Every 3x3x3 convolution is a 1x3x3 one, batch norm, ReLU, and a 3x1x1 one. The width between the two
is computed once per block from the block's input and output widths, as torchvision does (the paper
does it per convolution). The tree of names is torchvision's; temporal weights lack its last axis.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .base import ClipSpec, VideoModel
from .folding import FrameCount
from .temporal import TemporalConv


def mid_planes(inputs: int, outputs: int) -> int:
    """Width that gives the 1x3x3 and 3x1x1 pair as many weights as a 3x3x3 kernel (section 3.5)."""
    return (inputs * outputs * 3 * 3 * 3) // (inputs * 3 * 3 + 3 * outputs)


class Conv2Plus1D(nn.Sequential):
    """1x3x3 convolution, norm, ReLU, 3x1x1 convolution; both take the stride."""

    def __init__(
        self, inputs: int, outputs: int, mid: int, stride: int, frames: FrameCount
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, mid, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(mid),
            nn.ReLU(inplace=True),
            TemporalConv(mid, outputs, 3, frames, stride=stride),
        )


class Block(nn.Module):
    """Two factored convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, frames: FrameCount) -> None:
        super().__init__()
        self.frames = frames
        self.stride = stride
        mid = mid_planes(inputs, outputs)
        self.conv1 = nn.Sequential(
            Conv2Plus1D(inputs, outputs, mid, stride, frames),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )
        self.conv2 = nn.Sequential(
            Conv2Plus1D(outputs, outputs, mid, 1, frames), nn.BatchNorm2d(outputs)
        )
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T', C', H', W'); updates the shared frame count."""
        frames = self.frames.value
        identity = x
        if self.downsample is not None:
            if self.stride > 1:  # the 1x1x1 shortcut strides in time too
                clips = x.unflatten(0, (-1, frames))[:, :: self.stride]
                identity = clips.flatten(0, 1)
            identity = self.downsample(identity)
        out = self.conv1(x)
        self.frames.value = -(-frames // self.stride)
        return F.relu(self.conv2(out) + identity, inplace=True)


class R2Plus1D(VideoModel):
    """Stem, four stages of `Block`, mean over space and time, linear head."""

    def __init__(self, blocks: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__(512, num_classes)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 45, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(45),
            nn.ReLU(inplace=True),
            TemporalConv(45, 64, 3, self.frames),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
        )
        widths = (64, 64, 128, 256, 512)
        for stage, depth in enumerate(blocks):
            inputs, outputs = widths[stage], widths[stage + 1]
            layers = [Block(inputs, outputs, 1 if stage == 0 else 2, self.frames)]
            layers += [Block(outputs, outputs, 1, self.frames) for _ in range(depth - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def embed_frames(self, x: Tensor) -> Tensor:
        """(B*T, 3, H, W) to (B, 512)."""
        x = self.stem(x)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x.mean(dim=(2, 3)).unflatten(0, (-1, self.frames.value)).mean(dim=1)


def resnet3d(num_classes: int, *, kind: str, depth: int, midplanes: str) -> R2Plus1D:
    """R(2+1)D-18: 31,505,325 parameters with 400 classes, 20.26 GMACs at 8x112x112."""
    model = R2Plus1D((2, 2, 2, 2), num_classes)
    # The pixel statistics torchvision's Kinetics models were trained with.
    model.spec = ClipSpec(
        mean=(0.43216, 0.394666, 0.37645),
        std=(0.22803, 0.22145, 0.216989),
    )
    return model
