"""What a public file holds: zoo name and options, read off its keys and shapes.

One function per family, whatever the code base: it looks at the file through a scheme, under our
names.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...zoo.dist_network.model import dist
from ...zoo.families import residual3d, x3d
from ...zoo.families.slowfast import BLOCKS_50_50
from ...zoo.names import ZOO
from .scheme import Scheme

# Depths of residual networks by the blocks of their stages.
BOTTLENECKS: dict[tuple[int, ...], int] = {
    residual3d.BLOCKS[depth]: depth for depth in residual3d.BOTTLENECKS
}
BASIC: dict[tuple[int, ...], int] = {residual3d.BLOCKS[depth]: depth for depth in residual3d.BASIC}
VITS = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large"}
"""Plain ViTs by width and number of blocks."""
X3D_BLOCKS: dict[tuple[int, ...], str] = {x3d.BLOCKS[version]: version for version in ("s", "l")}


@dataclass
class Guess:
    """What a family's function found.

    Attributes:
        target: zoo name.
        options: for `create_model`, whether or not they are the entry's defaults.
        refusal: why the file cannot become a zoo model although it is understood.
        notes: what the keys do not tell, one sentence each.
        clip: frames and size, where parameters have values for each of them.
    """

    target: str
    options: dict[str, Any] = field(default_factory=dict)
    refusal: str = ""
    notes: tuple[str, ...] = ()
    clip: dict[str, Any] = field(default_factory=dict)


class View:
    """A public state dict under our names.

    Args:
        scheme: whose names they are.
        state: the public state dict.
        asked: whether the user named the layout.
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
        """Whether the file has this kernel and it reads one channel each."""
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


def _trunk(view: View) -> Guess | None:
    """C2D, I3D and Slow: ResNets with temporal taps in the first convolutions of blocks."""
    stem, middle = view.get("trunk.conv1.weight"), view.get("trunk.layer4.0.conv2.weight")
    if stem is None or stem.dim() != 5 or middle is None or middle.shape[1] == 1:
        return None
    depth = BOTTLENECKS.get(view.blocks("conv3.weight", "trunk."))
    if depth is None:
        return None
    if view.taps("trunk.conv1.weight") > 1 or view.taps("trunk.layer1.0.conv1.weight") > 1:
        kind = "i3d"
    else:
        kind = "slowonly" if view.taps("trunk.layer3.0.conv1.weight") > 1 else "c2d"
    guess = Guess(f"{kind}-r{depth}")
    layout = view.scheme.layout
    if view.taps("trunk.layer4.0.conv2.weight") > 1:
        guess.refusal = "its 3x3 kernels see time too, which no ResNet of the zoo's I3D has"
    elif layout in ("mmaction", "sts-image"):
        if kind == "i3d":
            guess.refusal = (
                "mmaction2's I3D strides in time in its stem and its first pool, the zoo's does not"
            )
        if layout == "sts-image":
            guess.target = f"sts-{guess.target}"
    elif kind != "slowonly":
        guess.options["pool"] = view.scheme.pooled is not False
        if view.scheme.pooled is None:
            guess.notes = (f"the keys do not tell whether {kind} pools in time: it does here",)
    return guess


def _frames(view: View) -> Guess | None:
    """mmaction2's TSN, which is its C2D without pools: a 2-D ResNet for each frame."""
    stem, first = view.get("trunk.conv1.weight"), view.get("trunk.layer1.0.conv1.weight")
    if stem is None or stem.dim() != 4 or first is None:
        return None
    depth = BOTTLENECKS.get(view.blocks("conv3.weight", "trunk."))
    if depth is None:
        return None
    note = "the keys do not tell TSN and C2D without pools from C2D with pools: it has none here"
    return Guess(f"c2d-r{depth}", {"pool": False}, notes=(note,))


def _tsm(view: View) -> Guess | None:
    if view.get("trunk.layer1.0.conv1.weight") is None:
        return None
    depth = BOTTLENECKS.get(view.blocks("conv3.weight", "trunk."), 50)
    refusal = ""
    if depth != 50:
        refusal = "deep networks of mmaction2 shift in every second block only, the zoo's in all"
    return Guess(f"tsm-r{depth}", refusal=refusal)


def _csn(view: View) -> Guess | None:
    if view.depthwise("layer1.0.conv2.0.weight"):
        kind = "ir"
    elif view.depthwise("layer1.0.conv2.0.2.weight"):
        kind = "ip"
    else:
        return None
    depth = BOTTLENECKS.get(view.blocks("conv3.0.weight"))
    if depth is None:
        return None
    if view.scheme.layout == "sts-image":
        return Guess(f"sts-{kind}-csn-{depth}")
    return Guess(f"{kind}-csn-{depth}")


def _resnet3d(view: View) -> Guess | None:
    """R3D, MCx, rMCx and R(2+1)D under torchvision's names."""
    stem = view.get("stem.0.weight")
    counts = view.blocks("conv2.1.weight")
    deep = view.get("layer1.0.conv3.0.weight") is not None
    depth = (BOTTLENECKS if deep else BASIC).get(counts)
    if stem is None or depth is None or view.depthwise("layer1.0.conv2.0.weight"):
        return None
    if view.depthwise("layer1.0.conv2.0.2.weight"):
        return None
    if view.get("stem.3.weight") is None:
        taps = [view.taps(f"layer{stage}.0.conv2.0.weight") for stage in range(1, 5)]
        return Guess(_mixed_kind(view.taps("stem.0.weight"), taps) + f"-{depth}")
    second = view.get("layer2.0.conv2.0.0.weight")
    if second is None:
        return None
    mid, planes = int(second.shape[0]), int(second.shape[1])
    per_conv = mid == 27 * planes * planes // (9 * planes + 3 * planes)
    if per_conv and view.scheme.layout == "torchvision" and not view.asked:
        return None  # torchvision's own class cannot build it: VMZ's
    guess = Guess(f"r2plus1d-{depth}", {"midplanes": "per_conv" if per_conv else "per_block"})
    if deep and view.scheme.layout == "vmz":
        guess.refusal = "VMZ's deep R(2+1)D pools behind its stem, the zoo's does not"
    return guess


def _mixed_kind(stem: int, taps: list[int]) -> str:
    """``r3d``, ``mcX`` or ``rmcX``: groups count from 1, the stem."""
    if stem > 1:
        first_flat = next((group for group, t in enumerate(taps, 2) if t == 1), None)
        return "r3d" if first_flat is None else f"mc{first_flat}"
    return f"rmc{next((group for group, t in enumerate(taps, 2) if t > 1), 6)}"


def _r2plus1d(view: View) -> Guess | None:
    """mmaction2's R(2+1)D, whose shortcuts are factored too."""
    if view.get("stem.3.weight") is None or view.get("layer2.0.downsample.0.3.weight") is None:
        return None
    depth = BASIC.get(view.blocks("conv2.1.weight"))
    guess = Guess(f"sts-r2plus1d-{depth}")
    if view.scheme.layout == "mmaction":
        guess.refusal = (
            "mmaction2's R(2+1)D strides in time, the zoo's with these kernels does not; the STS "
            "repository's does not either: if it is one of its files, use the layout sts-image"
        )
    return guess


def _slowfast(view: View) -> Guess | None:
    if view.get("slow.conv1.weight") is None or view.get("fast.conv1.weight") is None:
        return None
    depths = {BOTTLENECKS.get(view.blocks("conv3.weight", path)) for path in ("slow.", "fast.")}
    if len(depths) > 1:
        return Guess("slowfast-r50-8x8", refusal="its two pathways have different depths")
    depth, fusion = depths.pop(), view.taps("lateral.0.conv.weight")
    name = f"slowfast-r{depth}-{'4x16' if fusion == 5 else '8x8'}"
    if depth == 101:
        short = view.taps(f"slow.layer3.{BLOCKS_50_50}.conv1.weight") == 1
        name = f"slowfast-r101-{'16x8' if short else '8x8'}"
    options: dict[str, Any] = {"fusion": fusion}
    if view.get("lateral.0.norm.weight") is None:
        name = f"sts-{name}"
        if view.scheme.layout != "sts-image":
            options["sts"] = False
    elif view.scheme.layout in ("pytorchvideo", "pyslowfast"):
        options["slow_frames"] = "linspace"
    return Guess(name, options)


def _x3d(view: View) -> Guess | None:
    if view.get("stem.conv_t.weight") is None:
        return None
    version = X3D_BLOCKS.get(view.blocks("conv3.weight"))
    if version is None:
        return None
    if view.scheme.layout == "sts-image" and version == "s":
        return Guess("sts-x3d-s")
    normed = view.get("layer1.0.downsample.1.weight") is not None
    return Guess(f"x3d-{version}", {"norm_shortcut": normed})


def _s3d(view: View) -> Guess | None:
    if view.get("conv1a.time.weight") is None or view.get("mixed3b.b0.conv.weight") is None:
        return None
    return Guess("s3d", {"window": None if view.scheme.layout == "kylemin" else 7})


def _i3d(view: View) -> Guess | None:
    if view.get("conv1a.conv.weight") is None or view.get("mixed3b.b0.conv.weight") is None:
        return None
    return Guess("i3d", {"padding": "same"})


def _timesformer(view: View) -> Guess | None:
    """Plain ViTs with temporal parts; without any, where the layout says that it is one."""
    patch, places = view.get("trunk.patch_embed.proj.weight"), view.get("trunk.pos_embed")
    if patch is None or places is None or patch.dim() != 4:
        return None
    time, divided = view.get("time_embed"), view.get("trunk.blocks.0.temporal_fc.weight")
    is_image = time is None and divided is None
    if is_image and view.scheme.layout == "timesformer" and not view.asked:
        return None  # a timm ViT has these names
    depth = 0
    while view.get(f"trunk.blocks.{depth}.norm1.weight") is not None:
        depth += 1
    width, side = int(patch.shape[0]), int(patch.shape[-1])
    size = side * math.isqrt(places.shape[1] - 1)
    clip = {"size": size} if time is None else {"size": size, "frames": int(time.shape[1])}
    options: dict[str, Any] = {}
    if divided is None:
        options["attention"] = "space" if time is None else "joint"
    kind = VITS.get((width, depth))
    if kind is None:
        refusal = f"no plain ViT is {width} wide and has {depth} blocks"
        return Guess("timesformer-b16", refusal=refusal)
    target = f"timesformer-{kind[0]}16"
    if side != 16 or target not in ZOO:
        target = f"timesformer-vit_{kind}_patch{side}_224"
    elif kind == "base" and clip == {"size": 448, "frames": 16}:
        target = "timesformer-b16-hr"
    note = "the keys do not tell the number of heads: it is the width over 64"
    return Guess(target, options, notes=(note,), clip=clip)


DIST_TOWERS = {(768, 16): "dist-b16", (1024, 14): "dist-l14"}
"""Names by the tower's width and patch."""


def _dist(view: View) -> Guess | None:
    token, stem = view.get("side.to_space.0.token"), view.get("side.stem.weight")
    fuse, places = view.get("side.to_space.0.weight"), view.get("tower.vit.pos_embed")
    patch = view.get("tower.vit.patch_embed.proj.weight")
    if token is None or stem is None or fuse is None:
        return None
    if places is None or patch is None:
        return Guess("dist-b16", refusal="its tower is not in it: only the side network is")
    side, gamma = int(patch.shape[-1]), int(fuse.shape[2])
    size = side * math.isqrt(places.shape[0] - 1)
    name = DIST_TOWERS.get((int(patch.shape[0]), side), "dist-b16")
    known = (int(patch.shape[0]), side) in DIST_TOWERS
    guess = Guess("dist-l14-336" if name == "dist-l14" and size == 336 else name)
    if not known:
        guess.refusal = f"the zoo has no tower {patch.shape[0]} wide with patches of {side} pixels"
    elif stem.shape[-1] != side:
        guess.refusal = (
            f"its stem has patches of {stem.shape[-1]} pixels, its tower of {side}: it cannot run"
        )
    pools = 0
    while view.get(f"side.pools.{pools}.pos_embed") is not None:
        pools += 1
    found = {"gamma": gamma, "pools": pools, "dim": token.shape[-1], "temporal_dim": len(stem)}
    defaults = inspect.signature(dist).parameters
    guess.options = {k: v for k, v in found.items() if v != defaults[k].default}
    guess.clip = {"frames": gamma * int(token.shape[2]), "size": size}
    return guess


FAMILIES: dict[str, Callable[[View], Guess | None]] = {
    "trunk": _trunk,
    "frames": _frames,
    "tsm": _tsm,
    "csn": _csn,
    "resnet3d": _resnet3d,
    "r2plus1d": _r2plus1d,
    "slowfast": _slowfast,
    "x3d": _x3d,
    "s3d": _s3d,
    "i3d": _i3d,
    "timesformer": _timesformer,
    "dist": _dist,
}
FIRST_KERNELS = (
    *("trunk.conv1.weight", "slow.conv1.weight", "stem.conv_s.weight", "stem.0.weight"),
    *("conv1a.conv.weight", "trunk.patch_embed.proj.weight", "side.stem.weight"),
)
"""Our keys of the kernels that read the pixels."""
