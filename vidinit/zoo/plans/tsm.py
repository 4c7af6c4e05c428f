"""``tsm``: an eighth of the channels moves one frame on, an eighth one back; no parameters.

Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", 2019. The shift stands
in front of every residual branch. Beyond the ends of a clip there are zeros, as in the paper, so
that a still clip does not get the image network's logits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from ..temporal import shift_before
from .inflate import InflatedNet, Inflation
from .plan import Plan
from .read_network import ConvLayer, Network

SHORTCUTS = re.compile(r"(downsample|shortcut|skip\w*|identity)\b")


def tsm(image_model: nn.Module, *, num_classes: int, cut: str = "all") -> InflatedNet:
    """Put shifts into a CNN, whose keys stay as they are.

    Args:
        image_model: timm network without classifier; it becomes the trunk.
        num_classes: size of the new head.
        cut: which layers see time; see `Inflation.cut`.

    Raises:
        UsageError: for networks and cuts that do not suit, with the reason.
    """
    work = Inflation("tsm", image_model, num_classes)
    for layer in work.cut(shift_layers(image_model, work.network), cut):
        for conv in (layer, *layer.parallel):
            shift_before(conv.conv, work.frames)
    return work.finish()


def shift_layers(trunk: nn.Module, network: Network) -> list[ConvLayer]:
    """The convolutions that a shift stands in front of, in the order they run.

    The first convolution of every residual branch that holds a k x k one (TSM's ``blockres``). The
    block is the nearest ancestor with a ``drop_path``, as timm's residual blocks have. Branches
    side by side (RepVGG) that read the same tensor are one layer. Where there is no such block
    (VGG, DenseNet, Inception): the k x k convolution itself. Never the stem.
    """
    chosen: dict[str, ConvLayer] = {}
    for layer in network.layers:
        if layer.stage == 0:
            continue
        block = next((a for a in _ancestors(layer.name) if _is_block(trunk.get_submodule(a))), None)
        if block is None:
            chosen[layer.name] = layer
            continue
        inner = [c for c in network.convs if c.name.startswith(f"{block}.")]
        # timm's ResNetV2 runs the shortcut first, which is none of the branch.
        inner = [c for c in inner if not SHORTCUTS.match(c.name.removeprefix(f"{block}."))]
        first, *others = inner
        first.parallel = [c for c in others if c.reads == first.reads]
        chosen[first.name] = first
    return [conv for conv in network.convs if conv.name in chosen]


def _ancestors(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _is_block(module: nn.Module) -> bool:
    return hasattr(module, "drop_path") or hasattr(module, "drop_path1")


def _why_inexact(model: object) -> str:
    return "the shift fills the first and last frame with zeros"


PLAN = Plan(tsm, why_inexact=_why_inexact)
