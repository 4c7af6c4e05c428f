"""``sts``: kernels of which half is static and half dynamic, by the operator in `vidinit.zoo.sts`.

- In networks with depthwise kernels those of 3x3 become 3x3x3 and work by the operator, as in the
  CSN and X3D of its paper.
- In a ResNet with bottlenecks the first 1x1 of every block of the last two stages becomes 3x1x1:
  the paper's SlowOnly.

Kernels the operator is not defined for (5x5 depthwise, odd channel counts, dense 3x3) keep to
single frames, and the table of a conversion says so.
"""

from __future__ import annotations

import re

from torch import nn

from ...errors import UsageError
from ..names import check_option
from ..sts import check_sts
from ..temporal import TIME_PADDINGS
from .inflate import TAPS, InflatedNet, Inflation
from .plan import Plan
from .read_network import ConvLayer, Network


def sts(
    image_model: nn.Module,
    *,
    num_classes: int,
    cut: str = "all",
    gating: bool = False,
    time_padding: str = "zeros",
    sts: bool = True,
    aligned: bool = False,
) -> InflatedNet:
    """Give kernels of a CNN time, half static and half dynamic.

    Args:
        image_model: timm network without classifier; it becomes the trunk.
        num_classes: size of the new head.
        cut: which layers see time; see `Inflation.cut`.
        gating: S3D-G's gate behind each of them.
        time_padding: ``zeros``, or ``replicate``: the end frames repeated, which makes mean
            inflation exact on still clips.
        sts: False gives the plain twin: the same keys, ordinary 3-D kernels.
        aligned: the clean form of strided depthwise kernels, whose scans lie under the 3x3 kernel;
            without it a feature map's sides must be multiples of the stride.

    Raises:
        UsageError: for networks and options that do not suit, with the reason.
    """
    check_option("padding in time", time_padding, TIME_PADDINGS)
    work = Inflation("sts", image_model, num_classes)
    layers = sts_layers(work.network)
    work.require_volumes(layers)
    for layer in work.cut(layers, cut):
        work.inflate(layer, TAPS, time_padding=time_padding, sts=sts, aligned=aligned)
        work.follow(layer, None, gating=gating)
    work.note_single_frames(lambda layer: why_no_sts(layer) if layer.is_depthwise else "")
    return work.finish()


def sts_layers(network: Network) -> list[ConvLayer]:
    """The layers that become dynamic, in the order they run."""
    depthwise = [layer for layer in network.layers if layer.is_depthwise]
    if depthwise:
        layers = [layer for layer in depthwise if not why_no_sts(layer)]
    else:
        layers = [
            conv
            for conv in network.convs
            if re.fullmatch(r"layer[34]\.\d+\.conv1", conv.name) and conv.is_plain_pointwise
        ]
    if not layers:
        raise UsageError(
            f"plan sts finds no kernel it is defined for in {network.name}: no depthwise 3x3 "
            "convolution with an even number of channels and no ResNet bottleneck",
            "use --to s3d or --to i3d",
        )
    return layers


def why_no_sts(layer: ConvLayer) -> str:
    """Why the operator is not defined for a k x k kernel given time; empty where it is."""
    kernel = (TAPS, layer.conv.kernel_size[0], layer.conv.kernel_size[1])
    return check_sts(layer.conv.in_channels, kernel, layer.conv.groups)


PLAN = Plan(sts)
