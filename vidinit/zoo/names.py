"""Every name of the zoo, as plain data: no heavy import, so names are checked before anything else.

A name is ``<plan>-<backbone>``. The entries below are the named graphs of the papers; beyond them,
``<plan>-<timm name>`` (``s3d-tf_efficientnet_lite0``, ``i3d@top:2-resnet18``) puts a plan on any
timm network that it takes.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import UsageError, suggest
from .encoders.kinds import NAME as ENCODER
from .encoders.kinds import is_encoder_name


@dataclass(frozen=True)
class PlanFile:
    """The file of a temporal plan, and what its name needs.

    Attributes:
        module: its file in `vidinit.zoo.plans`, which `load_plan` imports.
        help: its line in `vidinit list plans`.
        gated: True where a name may end in ``-g``, which sets the plan's option ``gating``.
    """

    module: str
    help: str
    gated: bool = False


PLANS: dict[str, PlanFile] = {
    "aim": PlanFile(
        "aim",
        "vision transformers, frozen: their attention over time, too, and adapters around it",
    ),
    "c2d": PlanFile("c2d", "no temporal kernels: frames are averaged at the end"),
    "dist": PlanFile(
        "dist",
        "vision transformers: a frozen image tower, and a network beside it that learns motion",
    ),
    "i3d": PlanFile("i3d", "every k x k kernel becomes 3 x k x k", gated=True),
    "s3d": PlanFile("s3d", "every k x k kernel is followed by a 3 x 1 x 1 kernel", gated=True),
    "side4video": PlanFile(
        "side4video",
        "vision transformers: a frozen image tower, and a narrow video transformer beside it",
    ),
    "st-adapter": PlanFile(
        "st_adapter",
        "vision transformers, frozen: small kernels over the clip between their parts",
    ),
    "sts": PlanFile(
        "sts",
        "3 x 1 x 1 or depthwise 3 x 3 x 3 kernels, half static and half dynamic",
        gated=True,
    ),
    "tsm": PlanFile(
        "tsm", "an eighth of the channels from the next frame, an eighth from the last one"
    ),
    "timesformer": PlanFile(
        "timesformer", "vision transformers: attention over time, then over space, in each block"
    ),
    "zero-cost": PlanFile(
        "zero_cost",
        "vision transformers, frozen: heads that look at neighboring frames, and adapters that "
        "can be merged",
    ),
}
"""Temporal plans, the values of ``--to`` that are applied to the source's own architecture."""

CLASSES = 400
"""Default size of a head: Kinetics-400's, with which the papers count parameters."""

PLAN_SUFFIXES = r"(?P<gating>-g(?![^-@]))?(?:@(?P<cut>(?:top|bottom):\d+|stages:\d+(?:,\d+)*))?"
INCEPTION_LAYERS = 11  # layers of the Inception-v1 trunk that can see time
MIXED_KINDS = tuple(f"{kind}{group}" for kind in ("mc", "rmc") for group in range(2, 6))
"""Residual networks that see time in some of their groups, counted from 1, the stem."""


@dataclass(frozen=True)
class Entry:
    """One zoo model.

    Attributes:
        backbone: timm name of the image network it is made of or whose weights fit it;
            ``torchvision:googlenet`` for the Inception family; None where no image network fits.
        plan: temporal plan put on the backbone; None where a builder makes the model.
        builder: ``module:function`` below `vidinit.zoo.families`, which takes the number of classes
            and the options as keywords.
        frames, stride, size: the clip it is trained on by default (frames, step, pixels); a size of
            None is the image network's.
        options: arguments of the plan or the builder.
    """

    backbone: str | None = None
    plan: str | None = None
    builder: str | None = None
    frames: int = 8
    stride: int = 8
    size: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


def _resnet(plan: str, depth: int, **options: Any) -> Entry:
    return Entry(f"resnet{depth}", plan, size=224, options=options)


def _inception(kind: str, cut: str = "top:11", gating: bool = False) -> Entry:
    options = {"kind": kind, "cut": cut, "gating": gating}
    return Entry(
        "torchvision:googlenet",
        builder="inception3d:inception3d",
        frames=64,
        stride=1,
        size=224,
        options=options,
    )


def _resnet3d(kind: str, depth: int, frames: int = 8, **options: Any) -> Entry:
    return Entry(
        f"resnet{depth}",
        builder="resnet3d:resnet3d",
        frames=frames,
        stride=2,
        size=112,
        options={"kind": kind, "depth": depth, **options},
    )


def _csn(kind: str, depth: int) -> Entry:
    options = {"kind": kind, "depth": depth}
    return Entry(builder="csn:csn", frames=32, stride=2, size=224, options=options)


def _slowfast(builder: str, depth: int, alpha: int, fusion: int, frames: int = 32) -> Entry:
    options = {"depth": depth, "alpha": alpha, "fusion": fusion}
    return Entry(
        f"resnet{depth}",
        builder=f"slowfast:{builder}",
        frames=frames,
        stride=2,
        size=224,
        options=options,
    )


def _dist(tower: str) -> Entry:
    return Entry(f"vit_{tower}", "dist", frames=16)


def _frozen(plan: str, tower: str, stride: int = 8) -> Entry:
    return Entry(f"vit_{tower}", plan, stride=stride)


_CLIP = {
    "b16": "base_patch16_clip_quickgelu_224",
    "l14": "large_patch14_clip_quickgelu_224",
}


def _timesformer(size: str, frames: int = 8, stride: int = 32, side: int = 224) -> Entry:
    return Entry(f"vit_{size}_patch16_224", "timesformer", None, frames, stride, side)


def _x3d(version: str, frames: int, stride: int, size: int) -> Entry:
    return Entry(
        builder="x3d:x3d", frames=frames, stride=stride, size=size, options={"version": version}
    )


_STS = {
    "sts-slowonly-r50": _resnet("sts", 50),
    "sts-slowfast-r50-4x16": _slowfast("sts_slowfast", 50, 8, 5),
    "sts-slowfast-r50-8x8": _slowfast("sts_slowfast", 50, 4, 7),
    "sts-r2plus1d-34": Entry(
        "resnet34", builder="resnet3d:sts_r2plus1d", size=224, options={"depth": 34}
    ),
    "sts-ir-csn-50": Entry(
        builder="csn:sts_csn", frames=32, stride=2, size=224, options={"depth": 50}
    ),
    "sts-x3d-s": Entry(builder="x3d:sts_x3d", frames=13, stride=6, size=160),
}
"""The graphs of the code of STS (Li et al., ECCV 2022)."""

ZOO: dict[str, Entry] = {
    **{
        f"c2d-r{d}": Entry(f"resnet{d}", "c2d", size=224, options={"pool": True}) for d in (50, 101)
    },
    **{
        f"i3d-r{d}": Entry(
            f"resnet{d}", "i3d", size=224, options={"bottleneck": True, "pool": True}
        )
        for d in (50, 101)
    },
    **{f"slowonly-r{d}": _resnet("sts", d, sts=False) for d in (50, 101)},
    **{f"tsm-r{d}": _resnet("tsm", d) for d in (18, 34, 50, 101)},
    "slowfast-r50-4x16": _slowfast("slowfast", 50, 8, 5),
    "slowfast-r50-8x8": _slowfast("slowfast", 50, 4, 7),
    "slowfast-r101-8x8": _slowfast("slowfast", 101, 4, 5),
    "slowfast-r101-16x8": _slowfast("slowfast_50_50", 101, 4, 5, 64),
    **{f"r3d-{d}": _resnet3d("r3d", d) for d in (18, 34, 50, 101, 152)},
    **{f"{kind}-18": _resnet3d(kind, 18) for kind in MIXED_KINDS},
    "r2plus1d-18": _resnet3d("r2plus1d", 18, midplanes="per_block"),
    **{
        f"r2plus1d-{d}": _resnet3d("r2plus1d", d, 32, midplanes="per_conv", bn_eps=1e-3)
        for d in (34, 50, 101, 152)
    },
    **{f"{kind}-csn-{d}": _csn(kind, d) for kind in ("ir", "ip") for d in (50, 101, 152)},
    "x3d-xs": _x3d("xs", 4, 12, 160),
    "x3d-s": _x3d("s", 13, 6, 160),
    "x3d-m": _x3d("m", 16, 5, 224),
    "x3d-l": _x3d("l", 16, 5, 312),
    "i2d": _inception("i3d", "top:0"),
    "i3d": _inception("i3d"),
    "s3d": _inception("s3d"),
    "s3d-g": _inception("s3d", gating=True),
    "fast-s3d": _inception("s3d", "top:2"),
    **_STS,
    **{
        # The same graphs with ordinary kernels, which STS trains on images first. That of
        # sts-slowonly-r50 is slowonly-r50.
        name.replace("sts", "plain", 1): replace(entry, options={**entry.options, "sts": False})
        for name, entry in _STS.items()
        if entry.builder is not None
    },
    "dist-b16": _dist("base_patch16_clip_quickgelu_224"),
    "dist-l14": _dist("large_patch14_clip_quickgelu_224"),
    "dist-l14-336": _dist("large_patch14_clip_quickgelu_336"),
    **{
        f"{plan}-{size}": _frozen(plan, tower, stride=16)
        for plan in ("st-adapter", "aim", "zero-cost")
        for size, tower in _CLIP.items()
    },
    "side4video-b16": _frozen("side4video", "base_patch16_clip_quickgelu_224"),
    "side4video-l14": _frozen("side4video", "large_patch14_clip_quickgelu_224"),
    "timesformer-b16": _timesformer("base"),
    "timesformer-b16-hr": _timesformer("base", 16, 16, 448),
    "timesformer-l16": _timesformer("large"),
}

CUTS: dict[str, Entry] = {
    f"{name}@{end}:{k}": _inception(name[:3], f"{end}:{k}", name.endswith("-g"))
    for name in ("i3d", "s3d", "s3d-g")
    for end in ("top", "bottom")
    for k in range(INCEPTION_LAYERS + 1)
}
"""The cuts of section 4.2 of the S3D paper: temporal kernels in the top or bottom K layers."""

ALIASES: dict[str, str] = {
    "r3d50": "slowonly-r50",
    "sts-r3d50": "sts-slowonly-r50",
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the zoo that match a shell pattern, aliases included, in natural order.

    The 72 cuts (``s3d@top:2``) are listed where the pattern holds an ``@``.
    """

    def natural(name: str) -> list[tuple[int, int | str]]:
        parts = re.split(r"(\d+)", name)
        return [(0, int(p)) if p.isdigit() else (1, p) for p in parts if p]

    names = [*ZOO, *ALIASES, *(CUTS if "@" in pattern else ())]
    return sorted(fnmatch.filter(names, pattern), key=natural)


def check_option(option: str, value: object, known: Collection[object]) -> None:
    """Raise UsageError, with a suggestion, unless the value is one of the known ones."""
    if value not in known:
        words = [str(word) for word in known]
        hint = suggest(str(value), words) or f"use {', '.join(words[:-1])} or {words[-1]}"
        raise UsageError(f"unknown {option} '{value}'", hint)


def parse_plan(name: str) -> tuple[Entry, str] | None:
    """``s3d-g@top:2-resnet50`` to (entry without backbone, ``resnet50``); None for other forms.

    The second part is empty for a plan alone.
    """
    plans = "|".join(map(re.escape, sorted(PLANS, key=len, reverse=True)))
    match = re.match(rf"(?P<plan>{plans}){PLAN_SUFFIXES}", name)
    if match is None or name[match.end() : match.end() + 1] not in ("", "-"):
        return None
    options: dict[str, Any] = {}
    if match["gating"]:
        if not PLANS[match["plan"]].gated:
            return None
        options["gating"] = True
    if match["cut"]:
        options["cut"] = match["cut"]
    return Entry(plan=match["plan"], options=options), name[match.end() + 1 :]


def find_entry(name: str) -> Entry:
    """The entry behind a name, an alias, a cut, or ``<plan>-<timm name>``.

    The timm name itself is not checked here: that needs timm.

    Raises:
        UsageError: for a name that is none of these, with a suggestion.
    """
    name = ALIASES.get(name, name)
    named = _named(name)
    if named is not None:
        return named
    parsed = parse_plan(name)
    if parsed is not None and parsed[1]:
        entry, backbone = parsed
        return Entry(backbone, entry.plan, options=entry.options)
    known = [*ZOO, *ALIASES, *CUTS]
    raise UsageError(f"unknown model '{name}'", suggest(name, known) or "see `vidinit list models`")


def find_target(target: str, source: str) -> tuple[str, Entry]:
    """The model that ``--to`` names for an image source: (model name, entry).

    A bare plan is applied to the source's own architecture; ``i3d`` and ``s3d`` are such. On the
    network behind the zoo's Inception family that gives the zoo's own nets.

    Raises:
        UsageError: for an unknown target, with a suggestion.
    """
    target = ALIASES.get(target, target)
    named = _named(target)
    if named is not None and named.backbone == source:
        return target, named
    parsed = parse_plan(target)
    if parsed is not None and parsed[1] in ("", source):
        entry = Entry(source, parsed[0].plan, options=parsed[0].options)
        return (target if parsed[1] else f"{target}-{source}"), entry
    if named is not None:
        return target, named
    known = [*PLANS, *ZOO, *ALIASES, *CUTS]
    hint = suggest(target, known) or f"use a plan ({', '.join(PLANS)}) or a zoo name"
    raise UsageError(f"unknown target '{target}'", hint)


def _named(name: str) -> Entry | None:
    if is_encoder_name(name):
        return Entry(
            builder="video_encoder:video_encoder", options={"kind": name.removeprefix(ENCODER)}
        )
    return ZOO.get(name) or CUTS.get(name)
