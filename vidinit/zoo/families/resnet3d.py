"""R3D, MCx, rMCx and R(2+1)D (Tran et al., CVPR 2018), and the R(2+1)D of the STS paper.

One residual network in five forms: its 3x3 kernels are 3x3x3 (R3D), 1x3x3 in the upper (MCx) or
the lower (rMCx) groups, or 1x3x3 and 3x1x1 with a norm and a ReLU between (R(2+1)D). The tree of
names is torchvision's, with ``head`` for ``fc``; temporal weights lack their last axis. r3d_18,
mc3_18 and r2plus1d_18 of torchvision are equalled number for number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from torch import nn

from ..folding import FrameCount
from ..names import MIXED_KINDS, check_option
from ..spec import KINETICS, Origin
from .residual3d import (
    BASIC,
    BLOCKS,
    ConvMaker,
    Graph,
    ResNet3d,
    factored_conv,
    factored_stem,
    flat_conv,
    mid_planes,
    volume_conv,
    volume_stem,
)

KINDS = ("r3d", *MIXED_KINDS, "r2plus1d")
MIDPLANES = ("per_block", "per_conv")
STEMS = ("narrow", "wide")


def resnet3d(
    num_classes: int,
    *,
    kind: str,
    depth: int,
    midplanes: str = "per_block",
    bn_eps: float = 1e-5,
    stem: str = "narrow",
) -> ResNet3d:
    """A network of "A Closer Look at Spatiotemporal Convolutions" (Tran et al., CVPR 2018).

    R3D-18 has 33,371,472 parameters with 400 classes and takes 20.348 GMACs at 8x112x112.

    Args:
        num_classes: size of the head.
        kind: ``r3d``; ``mcX``: groups below X see time, the stem being group 1 (X 2 to 5);
            ``rmcX``: groups from X on see time; ``r2plus1d``.
        depth: 18, 34, 50, 101 or 152; bottlenecks from 50 on.
        midplanes: where R(2+1)D takes the width between its halves from: ``per_block`` (the block's
            input and output, as torchvision does) or ``per_conv`` (each kernel's, as the paper and
            the IG-65M checkpoints do). Other kinds have none.
        bn_eps: of the batch norms; 1e-3 in the authors' code, 1e-5 in torchvision's.
        stem: ``narrow`` is the papers'; ``wide`` one an image ResNet fits exactly: a 3x3 max-pool
            with stride 2 behind it, and 128 channels between R(2+1)D's halves instead of 45.

    Raises:
        UsageError: for a value that is none of these.
    """
    check_option("kind", kind, KINDS)
    check_option("depth", depth, BLOCKS)
    check_option("midplanes", midplanes, MIDPLANES)
    check_option("stem", stem, STEMS)
    wide = stem == "wide"
    factored = partial(factored_conv, per_block=midplanes == "per_block", eps=bn_eps)
    # Group 1 is the stem, groups 2 to 5 are the stages.
    border = int(kind[-1]) if kind in MIXED_KINDS else 0
    in_time = [(g < border) if kind.startswith("mc") else (g >= border) for g in range(1, 6)]
    full: ConvMaker = factored if kind == "r2plus1d" else volume_conv
    makers = [full if sees_time else flat_conv for sees_time in in_time[1:]]
    steps = [2 if sees_time and stage > 0 else 1 for stage, sees_time in enumerate(in_time[1:])]
    make_stem: Callable[[FrameCount], nn.Sequential]
    if kind == "r2plus1d":
        mid = 128 if wide else 45
        make_stem = partial(factored_stem, mid=mid, eps=bn_eps, mid_eps=bn_eps)
    else:
        make_stem = partial(volume_stem, eps=bn_eps, taps=3 if in_time[0] else 1)
    graph = Graph(depth, make_stem, tuple(makers), tuple(steps), pool=wide, eps=bn_eps)
    model = ResNet3d(graph, num_classes)
    model.spec = KINETICS
    model.origins = image_origins(model)
    return model


def sts_r2plus1d(num_classes: int, *, depth: int = 34, sts: bool = True) -> ResNet3d:
    """R(2+1)D as in "In Defense of Image Pre-Training" (Li et al., ECCV 2022).

    Unlike the original it has a max-pool, no stride in time, an 83-wide stem, and factored
    shortcuts. At depth 34: 63,759,281 parameters with 400 classes, 87.638 GMACs at 8x224x224.

    Args:
        num_classes: size of the head.
        depth: 34 as in the paper, or 18.
        sts: False gives the plain twin, with identical keys.

    Raises:
        UsageError: for another depth.
    """
    check_option("depth", depth, BASIC)
    eps, mid_eps = 1e-3, 1e-5
    conv = partial(factored_conv, per_block=False, eps=mid_eps, sts=sts)
    mid = mid_planes(3, 64, 7)
    stem = partial(factored_stem, mid=mid, eps=eps, mid_eps=mid_eps, sts=sts)
    graph = Graph(depth, stem, (conv,) * 4, (1, 1, 1, 1), pool=True, eps=eps, split_shortcut=True)
    model = ResNet3d(graph, num_classes)
    model.origins = image_origins(model)
    return model


def image_origins(model: ResNet3d) -> dict[str, Origin]:
    """Where the weights of the image ResNet of the same depth go.

    The rule ``factor`` stands at both halves of a factored kernel and at the norm between them: one
    image kernel makes all three (`vidinit.conversion.factor`).
    """
    state = model.state_dict()
    stem = {"0": "conv1.0", "1": "conv1.1"}
    if "stem.3.weight" in state:
        stem = {"0": "conv1.0.0", "1": "conv1.0.1", "3": "conv1.0.3", "4": "conv1.1"}
    origins: dict[str, Origin] = {}
    for key, value in state.items():
        public = key
        if key.startswith("stem."):
            _, layer, leaf = key.split(".")
            public = f"{stem[layer]}.{leaf}"
        match = _UNIT.fullmatch(public)
        if match is None:
            continue  # the head
        block, layer, part, half, leaf = match.groups("")
        if layer == "downsample":
            source = f"{block}downsample.{part}."
        else:
            source = f"{block}{'bn' if part == '1' else 'conv'}{layer[-1]}."
        if half:
            origins[key] = Origin(f"{source}weight", "factor")
        else:
            origins[key] = Origin(source + leaf, "inflate" if value.dim() == 5 else "copy")
    return origins


_UNIT = re.compile(
    r"(layer\d\.\d+\.)?"  # block
    r"(conv\d|downsample)\."
    r"([01])\."  # convolution or norm
    r"([013]\.)?"  # spatial half, norm between, temporal half
    r"(\w+)"
)
