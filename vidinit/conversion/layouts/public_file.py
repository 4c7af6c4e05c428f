"""A public checkpoint read under our names, and what several code bases' files have in common.

A layout's file says how a code base's checkpoints are recognized: by one of the functions here,
which look at keys and shapes alone, and by what it knows of the code base beyond that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...zoo.families import residual3d, x3d
from ...zoo.families.slowfast import BLOCKS_50_50

if TYPE_CHECKING:
    from .scheme import Scheme

# Depths of residual networks by the blocks of their stages.
BOTTLENECKS: dict[tuple[int, ...], int] = {
    residual3d.BLOCKS[depth]: depth for depth in residual3d.BOTTLENECKS
}
BASIC: dict[tuple[int, ...], int] = {residual3d.BLOCKS[depth]: depth for depth in residual3d.BASIC}
X3D_BLOCKS: dict[tuple[int, ...], str] = {x3d.BLOCKS[version]: version for version in ("s", "l")}


@dataclass
class Candidate:
    """A zoo model that a public file may hold.

    Attributes:
        target: zoo name.
        options: for `create_model`, the entry's defaults among them.
        refusal: why the file cannot become a zoo model although it is understood.
        notes: what the keys do not tell, one sentence each.
        clip: frames and size, where parameters have values for each of them.
        tower: width and number of blocks of the model's frozen tower where it is not in the file.
    """

    target: str
    options: dict[str, Any] = field(default_factory=dict)
    refusal: str = ""
    notes: tuple[str, ...] = ()
    clip: dict[str, Any] = field(default_factory=dict)
    tower: tuple[int, int] | None = None


class PublicFile:
    """A public state dict, read under our names.

    Args:
        scheme: whose names they are.
        state: the public state dict.
        asked: True where the user named the layout.
    """

    def __init__(self, scheme: Scheme, state: Mapping[str, Tensor], *, asked: bool) -> None:
        self.scheme = scheme
        self.state = state
        self.asked = asked

    def get(self, key: str) -> Tensor | None:
        """The tensor that our key ``key`` stands for; None where the file has none."""
        public = self.scheme.public_key(key)
        return None if public is None else self.state.get(public)

    def taps(self, key: str) -> int:
        """Temporal taps of a kernel; 0 where the file has none."""
        value = self.get(key)
        if value is None:
            return 0
        return int(value.shape[2]) if value.dim() == 5 else 1

    def depthwise(self, key: str) -> bool:
        """True where the file has this kernel and each of its outputs reads one channel."""
        value = self.get(key)
        return value is not None and value.shape[1] == 1

    def blocks(self, layer: str, path: str = "") -> tuple[int, ...]:
        """Blocks of the four stages, counted by a tensor that each of them has."""
        counts = []
        for stage in range(1, 5):
            count = 0
            while self.get(f"{path}layer{stage}.{count}.{layer}") is not None:
                count += 1
            counts.append(count)
        return tuple(counts)


def find_trunk(file: PublicFile) -> Candidate | None:
    """C2D, I3D and Slow: ResNets with temporal taps in the first convolutions of blocks."""
    stem, middle = file.get("trunk.conv1.weight"), file.get("trunk.layer4.0.conv2.weight")
    if stem is None or stem.dim() != 5 or middle is None or middle.shape[1] == 1:
        return None
    depth = BOTTLENECKS.get(file.blocks("conv3.weight", "trunk."))
    if depth is None:
        return None
    if file.taps("trunk.conv1.weight") > 1 or file.taps("trunk.layer1.0.conv1.weight") > 1:
        kind = "i3d"
    else:
        kind = "slowonly" if file.taps("trunk.layer3.0.conv1.weight") > 1 else "c2d"
    found = Candidate(f"{kind}-r{depth}")
    if file.taps("trunk.layer4.0.conv2.weight") > 1:
        found.refusal = "its 3x3 kernels see time too, which no ResNet of the zoo's I3D has"
    return found


def find_pooled_trunk(file: PublicFile) -> Candidate | None:
    """`find_trunk` of a code base whose C2D and I3D may pool in time."""
    found = find_trunk(file)
    if found is None or found.refusal or found.target.startswith("slowonly"):
        return found
    found.options["pool"] = file.scheme.pooled is not False
    if file.scheme.pooled is None:
        kind = found.target.partition("-")[0]
        found.notes = (f"the keys do not tell whether {kind} pools in time: it does here",)
    return found


def find_csn(file: PublicFile) -> Candidate | None:
    """The channel-separated networks: depthwise 3x3x3 kernels, in the ip form behind a 1x1x1."""
    if file.depthwise("layer1.0.conv2.0.weight"):
        kind = "ir"
    elif file.depthwise("layer1.0.conv2.0.2.weight"):
        kind = "ip"
    else:
        return None
    depth = BOTTLENECKS.get(file.blocks("conv3.0.weight"))
    return None if depth is None else Candidate(f"{kind}-csn-{depth}")


def find_slowfast(file: PublicFile) -> Candidate | None:
    """SlowFast, by its lateral kernels; without norms in them it is the STS repository's graph."""
    if file.get("slow.conv1.weight") is None or file.get("fast.conv1.weight") is None:
        return None
    depths = {BOTTLENECKS.get(file.blocks("conv3.weight", path)) for path in ("slow.", "fast.")}
    if len(depths) > 1:
        return Candidate("slowfast-r50-8x8", refusal="its two pathways have different depths")
    depth, fusion = depths.pop(), file.taps("lateral.0.conv.weight")
    name = f"slowfast-r{depth}-{'4x16' if fusion == 5 else '8x8'}"
    if depth == 101:
        short = file.taps(f"slow.layer3.{BLOCKS_50_50}.conv1.weight") == 1
        name = f"slowfast-r101-{'16x8' if short else '8x8'}"
    options: dict[str, Any] = {"fusion": fusion}
    if file.get("lateral.0.norm.weight") is None:
        return Candidate(f"sts-{name}", {**options, "sts": False})
    return Candidate(name, options)


def find_linspace_slowfast(file: PublicFile) -> Candidate | None:
    """`find_slowfast` of a code base that spreads the slow frames evenly, the last one included."""
    found = find_slowfast(file)
    if found is not None and found.target.startswith("slowfast") and not found.refusal:
        found.options["slow_frames"] = "linspace"
    return found


def find_x3d(file: PublicFile) -> Candidate | None:
    """X3D; XS, S and M have the same shapes, and are all taken for S."""
    if file.get("stem.conv_t.weight") is None:
        return None
    version = X3D_BLOCKS.get(file.blocks("conv3.weight"))
    if version is None:
        return None
    normed = file.get("layer1.0.downsample.1.weight") is not None
    return Candidate(f"x3d-{version}", {"norm_shortcut": normed})
