"""Channel-separated networks (Tran et al., ICCV 2019), and the ir-CSN of the STS paper.

R3D's bottlenecks with a depthwise 3x3x3 kernel. Interaction-reduced (ir) networks leave it at that;
interaction-preserved (ip) ones put a 1x1x1 kernel before it. No image network has such kernels, so
none fits them: they are taught, or trained on images as clips of one frame.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from ..folding import FrameCount
from ..names import check_option
from ..temporal import VolumeConv
from .residual3d import BOTTLENECKS, ConvMaker, Graph, ResNet3d, Stride, volume_stem

KINDS = ("ir", "ip")


def reduced_conv(
    _: int,
    inputs: int,
    outputs: int,
    stride: Stride,
    frames: FrameCount,
    *,
    sts: bool = False,
    aligned: bool = False,
) -> nn.Module:
    """Depthwise 3x3x3."""
    return VolumeConv(
        inputs, outputs, (3, 3, 3), frames, stride=stride, groups=inputs, sts=sts, aligned=aligned
    )


def preserved_conv(
    block: int, inputs: int, outputs: int, stride: Stride, frames: FrameCount, *, eps: float
) -> nn.Module:
    """1x1x1 and a norm, without a ReLU, then depthwise 3x3x3."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs, eps=eps),
        reduced_conv(block, outputs, outputs, stride, frames),
    )


def csn(num_classes: int, *, depth: int = 50, kind: str = "ir", bn_eps: float = 1e-3) -> ResNet3d:
    """A network of "Video Classification with Channel-Separated Convolutional Networks".

    ir-CSN-50 has 13,131,152 parameters with 400 classes and takes 42.309 GMACs at 32x224x224.

    Args:
        num_classes: size of the head.
        depth: 50, 101 or 152.
        kind: ``ir`` (interaction-reduced) or ``ip`` (interaction-preserved).
        bn_eps: of the batch norms; 1e-3 in the authors' code, 1e-5 in pytorchvideo's.

    Raises:
        UsageError: for another depth or kind.
    """
    check_option("depth", depth, BOTTLENECKS)
    check_option("kind", kind, KINDS)
    conv: ConvMaker = reduced_conv if kind == "ir" else partial(preserved_conv, eps=bn_eps)
    return _build(num_classes, depth, conv, (1, 2, 2, 2), bn_eps)


def sts_csn(
    num_classes: int, *, depth: int = 50, sts: bool = True, aligned: bool = False
) -> ResNet3d:
    """ir-CSN as in "In Defense of Image Pre-Training" (Li et al., ECCV 2022).

    Unlike the original it has no stride in time: 80.343 GMACs at 32x224x224 for ir-CSN-50.

    Args:
        num_classes: size of the head.
        depth: 50 as in the paper, 101 or 152.
        sts: False gives the plain twin, with identical keys.
        aligned: the clean form of the strided scans, for inputs of any size; the released weights
            were trained with the other, which needs multiples of 32.

    Raises:
        UsageError: for another depth.
    """
    check_option("depth", depth, BOTTLENECKS)
    conv = partial(reduced_conv, sts=sts, aligned=aligned)
    return _build(num_classes, depth, conv, (1, 1, 1, 1), 1e-3)


def _build(
    num_classes: int, depth: int, conv: ConvMaker, steps: tuple[int, ...], eps: float
) -> ResNet3d:
    stem = partial(volume_stem, eps=eps)
    graph = Graph(depth, stem, (conv,) * 4, steps, pool=True, eps=eps)
    return ResNet3d(graph, num_classes)
