"""I2D, I3D, S3D, S3D-G and everything between them: Inception-v1 with time in chosen layers.

Carreira and Zisserman (CVPR 2017) inflate Inception-v1 to I3D; Xie et al. (ECCV 2018) put its
temporal kernels in the top or the bottom K layers only (section 4.2), split them into 1 x k x k and
t x 1 x 1 (S3D, 4.3), and gate the features (S3D-G, 4.4). Eleven layers can see time: the stem
(conv1a), conv2c, and the nine mixed blocks. The temporal strides and pools stay in every variant;
a stem that does not see time takes every second frame.

With the same weights the nets equal torchvision's `s3d` and, with ``padding="same"``, the I3D of
TensorFlow's ports. Those score every window of the head and average the scores; the head here
scores the average of the windows, which is the same number at less cost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageError
from ..base import VideoModel, init_convolutions
from ..folding import FrameCount, conv2d_padded, same_pads
from ..modify.depth import numbered
from ..names import INCEPTION_LAYERS, check_option
from ..spec import KINETICS, SIGNED, Origin
from ..temporal import PADDINGS, SelfGating, TemporalConv, VolumeConv, VolumePool

MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "mixed3b": (64, 96, 128, 16, 32, 32),
    "mixed3c": (128, 128, 192, 32, 96, 64),
    "mixed4b": (192, 96, 208, 16, 48, 64),
    "mixed4c": (160, 112, 224, 24, 64, 64),
    "mixed4d": (128, 128, 256, 24, 64, 64),
    "mixed4e": (112, 144, 288, 32, 64, 64),
    "mixed4f": (256, 160, 320, 32, 128, 128),
    "mixed5b": (256, 160, 320, 32, 128, 128),
    "mixed5c": (384, 192, 384, 48, 128, 128),
}
"""Widths of the mixed blocks: b0, b1a, b1b, b2a, b2b, b3b."""

ORDER = (
    *("conv1a", "pool2a", "conv2b", "conv2c", "pool3a", "mixed3b", "mixed3c", "pool4a"),
    *("mixed4b", "mixed4c", "mixed4d", "mixed4e", "mixed4f", "pool5a", "mixed5b", "mixed5c"),
)
"""The trunk, from the pixels up."""

GOOGLENET_BLOCKS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
GOOGLENET = {
    "conv1a": "conv1",
    "conv2b": "conv2",
    "conv2c": "conv3",
    **dict(zip(MIXED, (f"inception{at}" for at in GOOGLENET_BLOCKS), strict=True)),
}
"""Our layers by torchvision's names of the image network's; then the units of a mixed block."""

GOOGLENET_UNITS = dict(
    zip(
        ("b0", "b1a", "b1b", "b2a", "b2b", "b3b"),
        ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1"),
        strict=True,
    )
)

KINDS = ("i3d", "s3d")
POOLS = ("s3d", "googlenet")


@dataclass(frozen=True)
class Settings:
    """The settings that all layers of a net share: frame count, padding, norms, and gates."""

    frames: FrameCount
    padding: str
    eps: float
    momentum: float
    gate_bias: bool


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, ceil(H / stride), ceil(W / stride))."""
        kernel, step = self.kernel_size[0], self.stride[0]
        pads = same_pads(x.shape[2], x.shape[3], (kernel, kernel), (step, step))
        return conv2d_padded(x, self.weight, step, pads, self.groups)


class TimeNorm(nn.BatchNorm2d):
    """The norm behind a temporal convolution, which no image network has."""

    is_new = True


class Unit(nn.Module):
    """Convolution, norm and ReLU; in time too where the kind says so; gated where asked for.

    Args:
        inputs, outputs: channels.
        net: settings of the net.
        kernel: k, in space and in time.
        kind: ``2d`` (1 x k x k), ``i3d`` (k x k x k), or ``s3d``: 1 x k x k to the output width,
            norm, ReLU, then k x 1 x 1, norm, ReLU.
        stride: in space and in time; the unit updates the frame count.
        gated: multiply the result by a number per clip and channel.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        net: Settings,
        *,
        kernel: int = 1,
        kind: str = "2d",
        stride: int = 1,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.frames = net.frames
        self.stride = stride
        self.conv: nn.Conv2d | VolumeConv
        if kind == "i3d":
            self.conv = VolumeConv(
                inputs,
                outputs,
                (kernel, kernel, kernel),
                net.frames,
                stride=(stride, stride),
                time_padding=net.padding,
            )
        elif net.padding == "same" and kernel > 1:
            self.conv = SameConv2d(inputs, outputs, kernel, stride=stride, bias=False)
        else:
            self.conv = nn.Conv2d(
                inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False
            )
        self.bn = nn.BatchNorm2d(outputs, eps=net.eps, momentum=net.momentum)
        self.time: TemporalConv | None = None
        self.time_bn: TimeNorm | None = None
        if kind == "s3d":
            self.time = TemporalConv(
                outputs, outputs, kernel, net.frames, stride=stride, time_padding=net.padding
            )
            self.time_bn = TimeNorm(outputs, eps=net.eps, momentum=net.momentum)
        self.gate = SelfGating(outputs, net.frames, bias=net.gate_bias) if gated else None
        self.skips = kind == "2d" and stride > 1

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T', C', H', W')."""
        if self.skips:
            clips = x.unflatten(0, (-1, self.frames.value))[:, :: self.stride]
            x = clips.flatten(0, 1)
        x = F.relu(self.bn(self.conv(x)), inplace=True)
        if self.time is not None and self.time_bn is not None:
            x = F.relu(self.time_bn(self.time(x)), inplace=True)
        if self.stride > 1:
            self.frames.stride(self.stride)
        return x if self.gate is None else self.gate(x)

    def origins(self, prefix: str, source: str) -> dict[str, Origin]:
        """Where the image network's convolution and norm go.

        A gate with zero weights multiplies by 1/2, so the norm before it is doubled.
        """
        separable, gated = self.time is not None, self.gate is not None
        rule = "inflate" if isinstance(self.conv, VolumeConv) else "copy"
        made = {"conv.weight": Origin(f"{source}.conv.weight", rule)}
        for key in self.bn.state_dict():
            affine = key in ("weight", "bias")
            rule = "double" if affine and gated and not separable else "copy"
            made[f"bn.{key}"] = Origin(f"{source}.bn.{key}", rule)
        if separable:
            made |= {
                "time.weight": Origin(None, "dirac"),
                "time_bn.weight": Origin(None, "unit-gain-2" if gated else "unit-gain"),
                "time_bn.bias": Origin(None, "zeros"),
                "time_bn.running_mean": Origin(None, "zeros"),
                "time_bn.running_var": Origin(None, "ones"),
                "time_bn.num_batches_tracked": Origin(None, "zeros"),
            }
        if self.gate is not None:
            made |= {f"gate.{key}": Origin(None, "zeros") for key in self.gate.state_dict()}
        return {f"{prefix}.{key}": origin for key, origin in made.items()}


class Mixed(nn.Module):
    """Inception block: 1x1x1, two of 1x1x1 and k = 3, max-pool and 1x1x1, side by side.

    The last unit of each of the four branches is gated. (TF-slim's way; one gate behind the
    concatenation would have more weights.)
    """

    is_block = True

    def __init__(
        self,
        inputs: int,
        widths: tuple[int, int, int, int, int, int],
        net: Settings,
        *,
        kind: str,
        gated: bool,
    ) -> None:
        super().__init__()
        c0, c1a, c1b, c2a, c2b, c3b = widths
        self.b0 = Unit(inputs, c0, net, gated=gated)
        self.b1a = Unit(inputs, c1a, net)
        self.b1b = Unit(c1a, c1b, net, kernel=3, kind=kind, gated=gated)
        self.b2a = Unit(inputs, c2a, net)
        self.b2b = Unit(c2a, c2b, net, kernel=3, kind=kind, gated=gated)
        self.b3a = VolumePool((3, 3), (1, 1), net.frames, padding=(1, 1))
        self.b3b = Unit(inputs, c3b, net, gated=gated)

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T, c0 + c1b + c2b + c3b, H, W)."""
        branches = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))
        return torch.cat(branches, dim=1)


class Inception3D(VideoModel):
    """The trunk of Inception-v1, pools in time, mean over windows, linear head.

    Args:
        num_classes: size of the head.
        layers: kind of each of the eleven layers, from the stem up: ``2d``, ``i3d`` or ``s3d``.
        gating: gate the layers that see time: conv2c and the branches of the mixed blocks. The stem
            has no gate.
        gate_bias, padding, pools, window, bn_eps: as for `inception3d`.
        momentum: of the batch norms.
        dropout: before the head.
    """

    def __init__(
        self,
        num_classes: int,
        layers: Sequence[str],
        *,
        gating: bool,
        gate_bias: bool,
        padding: str,
        pools: str,
        window: int | None,
        bn_eps: float,
        momentum: float,
        dropout: float,
    ) -> None:
        super().__init__(1024, num_classes, dropout=dropout)
        self.window = window
        net = Settings(self.frames, padding, bn_eps, momentum, gate_bias)
        stem, second, *blocks = layers
        self.conv1a = Unit(3, 64, net, kernel=7, kind=stem, stride=2)
        self.conv2b = Unit(64, 64, net)
        self.conv2c = Unit(64, 192, net, kernel=3, kind=second, gated=gating and second != "2d")
        channels = 192
        for (name, widths), kind in zip(MIXED.items(), blocks, strict=True):
            block = Mixed(channels, widths, net, kind=kind, gated=gating and kind != "2d")
            setattr(self, name, block)
            channels = widths[0] + widths[2] + widths[4] + widths[5]

        def pool(
            kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int]
        ) -> VolumePool:
            return VolumePool(
                kernel,
                stride,
                self.frames,
                padding=None if padding == "same" else pads,
                ceil_mode=pools == "googlenet",
            )

        rim = 1 if pools == "s3d" else 0
        self.pool2a = pool((1, 3), (1, 2), (0, rim))
        self.pool3a = pool((1, 3), (1, 2), (0, rim))
        self.pool4a = pool((3, 3), (2, 2), (1, rim))
        self.pool5a = pool((2, 2), (2, 2), (0, 0))
        init_convolutions(self)
        for name, source in GOOGLENET.items():
            layer = getattr(self, name)
            if isinstance(layer, Unit):
                self.origins |= layer.origins(name, source)
                continue
            for unit, origin in GOOGLENET_UNITS.items():
                made = getattr(layer, unit).origins(f"{name}.{unit}", f"{source}.{origin}")
                self.origins |= made

    def layer_ids(self) -> dict[str, int]:
        """The eleven layers that a cut counts, and the head."""
        return numbered(self, [["conv1a"], ["conv2b", "conv2c"], *([name] for name in MIXED)])

    def feature_maps(self, x: Tensor, last: str = ORDER[-1]) -> Tensor:
        """(B*T, 3, H, W) to (B*T', 1024, H', W'), or to the maps of a layer before the last."""
        for name in ORDER[: ORDER.index(last) + 1]:
            x = getattr(self, name)(x)
        return x

    def map_layers(self) -> dict[str, int]:
        """The mixed blocks: up to ``mixed4f`` a position is 16 pixels wide, from then on 32."""
        return {name: w[0] + w[2] + w[4] + w[5] for name, w in MIXED.items()}

    def maps(self, clip: Tensor, layer: str | None = None) -> Tensor:
        """(B, 3, T, H, W) to (B, T', H', W', C) of a mixed block; default: the last.

        Raises:
            UsageError: for another layer.
        """
        if layer is None:
            return super().maps(clip)
        check_option("layer", layer, MIXED)
        maps = self.feature_maps(self._folded(clip), layer)
        return self.spread(maps, clip.shape[0]).unflatten(1, (-1, *maps.shape[2:]))

    def pooled(self, maps: Tensor) -> Tensor:
        """(B*T', 1024, H', W') to (B, 1024)."""
        return window_mean(maps, self.frames.value, self.window)


def window_mean(x: Tensor, frames: int, window: int | None) -> Tensor:
    """Mean over all windows of 2 x window x window, each averaged: (B*T, C, H, W) to (B, C).

    The inner frames count twice as much as the first and the last. Along an axis shorter than the
    window all of it is averaged, and in space with a window of None.
    """
    h, w = x.shape[2:]
    if window is not None and window < max(h, w):
        x = F.avg_pool2d(x, (min(window, h), min(window, w)), stride=1)
    clips = x.mean(dim=(2, 3)).unflatten(0, (-1, frames))
    if frames > 1:
        clips = (clips[:, :-1] + clips[:, 1:]) / 2
    return clips.mean(dim=1)


def inception3d(
    num_classes: int,
    *,
    kind: str = "s3d",
    cut: str = "top:11",
    gating: bool = False,
    gate_bias: bool = False,
    padding: str = "zeros",
    pools: str = "s3d",
    window: int | None = 7,
    bn_eps: float = 1e-3,
) -> Inception3D:
    """One net of the Inception family.

    With 400 classes and 64x224x224: I3D has 12,697,264 parameters and 111.2 GMACs, S3D 8,320,048
    and 71.9, Fast-S3D (``top:2``) 6,859,696 and 37.2, I2D (``top:0``) 6,009,904 and 36.9. S3D-G has
    9,539,376 parameters.

    Args:
        num_classes: size of the head.
        kind: how a layer sees time: ``i3d`` (t x k x k) or ``s3d`` (1 x k x k, then t x 1 x 1).
        cut: which layers do: ``top:K`` or ``bottom:K`` of the eleven, K from 0 to 11.
        gating: S3D-G's gates on the layers of the cut: behind conv2c and each branch of a mixed
            block (TF-slim's placement); the stem has none.
        gate_bias: gates with a bias, as the MIL-NCE port has them; the authors' have none.
        padding: ``zeros`` (torchvision, symmetric), ``replicate`` (the same with the end frames
            repeated in time, which makes mean inflation exact), or ``same``: TensorFlow's, in
            space, time and pools, as I3D's published weights want it.
        pools: ``s3d``, or ``googlenet``, which pools in space as torchvision's image network does,
            so that its weights convert exactly. ``padding="same"`` brings its own pools.
        window: side of the head's averaging window, 7 in torchvision; None for the whole map.
        bn_eps: of every norm.

    Raises:
        UsageError: for an option's value that does not exist, or a combination that makes no sense.
    """
    check_option("kind", kind, KINDS)
    check_option("padding", padding, PADDINGS)
    check_option("pools", pools, POOLS)
    if padding == "same" and pools != "s3d":
        raise UsageError(
            f"pools='{pools}' has no SAME padding", "leave out one of pools and padding='same'"
        )
    if gate_bias and not gating:
        raise UsageError("gate_bias needs gates", "add gating=True")
    if window is not None and window < 1:
        raise UsageError(f"window must be at least 1, not {window}", "None is the whole map")
    if bn_eps <= 0:
        raise UsageError(f"bn_eps must be positive, not {bn_eps}")
    model = Inception3D(
        num_classes,
        layer_kinds(kind, cut),
        gating=gating,
        gate_bias=gate_bias,
        padding=padding,
        pools=pools,
        window=window,
        bn_eps=bn_eps,
        momentum=0.001 if kind == "s3d" else 0.01,
        dropout=0.2 if kind == "s3d" else 0.5,
    )
    model.spec = KINETICS if kind == pools == "s3d" else SIGNED
    return model


def layer_kinds(kind: str, cut: str) -> list[str]:
    """The kind of each of the eleven layers, from the stem up.

    Raises:
        UsageError: for a cut of another form.
    """
    match = re.fullmatch(r"(top|bottom):(\d+)", cut)
    if match is None or int(match[2]) > INCEPTION_LAYERS:
        raise UsageError(
            f"cut must be top:K or bottom:K with K from 0 to {INCEPTION_LAYERS}, not '{cut}'"
        )
    seeing, rest = [kind] * int(match[2]), ["2d"] * (INCEPTION_LAYERS - int(match[2]))
    return rest + seeing if match[1] == "top" else seeing + rest
