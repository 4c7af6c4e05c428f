"""``i3d``: every k x k kernel, dense, grouped or depthwise, becomes 3 x k x k.

Carreira and Zisserman, "Quo Vadis, Action Recognition?", 2017. With ``bottleneck=True`` it is the
I3D of the SlowFast line instead, for ResNets (I3D_8x8_R50 of PySlowFast): a 5x7x7 stem and 3x1x1
kernels in place of the first 1x1 of every block, of every other block from stage 2 on.
"""

from __future__ import annotations

import re

from torch import nn

from ...errors import UsageError
from ..names import check_option
from ..temporal import TIME_PADDINGS
from .inflate import TAPS, InflatedNet, Inflation
from .plan import Plan
from .read_network import ConvLayer, Network

STEM_TAPS = 5
BLOCK_TAPS = {1: (3,), 2: (3, 1), 3: (3, 1), 4: (1, 3)}
"""With bottleneck kernels: taps of a block's first 1x1, by stage; its blocks take them in turn."""


def i3d(
    image_model: nn.Module,
    *,
    num_classes: int,
    cut: str = "all",
    gating: bool = False,
    time_padding: str = "zeros",
    bottleneck: bool = False,
    pool: bool = False,
) -> InflatedNet:
    """Give the kernels of a CNN time.

    Args:
        image_model: timm network without classifier; it becomes the trunk.
        num_classes: size of the new head.
        cut: which layers see time; see `Inflation.cut`.
        gating: S3D-G's gate behind each of them.
        time_padding: ``zeros``, or ``replicate``: the end frames repeated, which makes mean
            inflation exact on still clips.
        bottleneck: the form of the SlowFast line, for ResNets with bottlenecks.
        pool: a 2x1x1 max-pool after the first stage, on ResNets only.

    Raises:
        UsageError: for networks and options that do not suit, with the reason.
    """
    check_option("padding in time", time_padding, TIME_PADDINGS)
    work = Inflation("i3d", image_model, num_classes)
    if pool:
        work.add_pool()
    layers = bottleneck_layers(work.network) if bottleneck else work.network.layers
    work.require_volumes(layers)
    for layer in work.cut(layers, cut):
        taps = STEM_TAPS if bottleneck and layer.is_spatial else TAPS
        work.inflate(layer, taps, time_padding=time_padding)
        work.follow(layer, None, gating=gating)
    work.note_single_frames()
    return work.finish()


def bottleneck_layers(network: Network) -> list[ConvLayer]:
    """The stem and the first 1x1 of the blocks that see time, in the order they run."""
    layers = [c for c in network.convs if c.name == "conv1" and c.is_spatial]
    blocks = 0
    for conv in network.convs:
        match = re.fullmatch(r"layer([1-4])\.(\d+)\.conv1", conv.name)
        if match and conv.is_plain_pointwise:
            blocks += 1
            taps = BLOCK_TAPS[int(match[1])]
            if taps[int(match[2]) % len(taps)] > 1:
                layers.append(conv)
    if not blocks or layers[0].name != "conv1":
        raise UsageError(
            f"plan i3d with bottleneck=True is defined for ResNets with bottlenecks and one "
            f"convolution as stem, not for {network.name}",
            "use plan i3d without it",
        )
    return layers


PLAN = Plan(i3d)
