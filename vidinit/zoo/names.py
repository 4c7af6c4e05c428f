"""Every name of the zoo, as plain data: no heavy import, so names are checked before anything else.

A name is ``<plan>-<backbone>``. The entries below are the named graphs of the papers; beyond them,
``<plan>-<timm name>`` (``s3d-tf_efficientnet_lite0``) puts a plan on any timm CNN.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError, suggest

PLANS: dict[str, str] = {
    "c2d": "no temporal kernels: frames are averaged at the end",
    "i3d": "every k x k kernel becomes 3 x k x k",
    "s3d": "every k x k kernel is followed by a 3 x 1 x 1 kernel",
    "sts": "3 x 1 x 1 or depthwise 3 x 3 x 3 kernels, half static and half dynamic",
}
"""Temporal plans, the values of ``--to`` that are applied to the source's own architecture."""


@dataclass(frozen=True)
class Entry:
    """One zoo model.

    Attributes:
        backbone: timm name of the image network it is made of; None where it is no inflated one.
        plan: temporal plan put on the backbone.
        builder: ``module:function`` below `vidinit.zoo` for models with a file of their own.
        frames, stride, size: the clip it is trained on by default (frames, step, pixels); a size of
            None is the image network's. A builder sets its own.
        options: extra arguments of the plan.
    """

    backbone: str | None = None
    plan: str | None = None
    builder: str | None = None
    frames: int = 8
    stride: int = 8
    size: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


ZOO: dict[str, Entry] = {
    "c2d-r50": Entry("resnet50", "c2d", size=224, options={"pool": True}),
    "r2plus1d-18": Entry(builder="resnet3d:r2plus1d_18"),
    "slowonly-r50": Entry("resnet50", "sts", size=224, options={"sts": False}),
    "sts-slowonly-r50": Entry("resnet50", "sts", size=224),
}

ALIASES: dict[str, str] = {
    "r3d50": "slowonly-r50",
    "sts-r3d50": "sts-slowonly-r50",
}

TEACHERS: dict[str, str] = {
    "imagenet": "resnet50",
    "imagenet-lite": "tf_efficientnet_lite0",
}
"""Short names of image teachers and the timm model behind each."""


def list_models(pattern: str = "*") -> list[str]:
    """Names of the zoo that match a shell pattern, aliases included, in natural order."""

    def natural(name: str) -> list[tuple[int, int | str]]:
        parts = re.split(r"(\d+)", name)
        return [(0, int(p)) if p.isdigit() else (1, p) for p in parts if p]

    return sorted(fnmatch.filter([*ZOO, *ALIASES], pattern), key=natural)


def find_entry(name: str) -> Entry:
    """The entry behind a name, an alias, or ``<plan>-<timm name>``.

    The timm name itself is not checked here: that needs timm.

    Raises:
        UsageError: for a name that is none of these, with a suggestion.
    """
    name = ALIASES.get(name, name)
    if name in ZOO:
        return ZOO[name]
    plan, _, backbone = name.partition("-")
    if plan in PLANS and backbone:
        return Entry(backbone, plan)
    known = [*ZOO, *ALIASES]
    raise UsageError(
        f"unknown model '{name}'",
        suggest(name, known) or "see `vidinit profile --help` or vidinit.list_models()",
    )


def find_target(target: str, source: str) -> tuple[str, Entry]:
    """What ``--to`` means for an image source: (model name, entry).

    A bare plan is applied to the source's own architecture.

    Raises:
        UsageError: for an unknown target, with a suggestion.
    """
    if target in PLANS:
        name = f"{target}-{source}"
        return name, Entry(source, target)
    if target in ZOO or target in ALIASES:
        return target, find_entry(target)
    plan, _, backbone = target.partition("-")
    if plan in PLANS and backbone == source:
        return target, Entry(source, plan)
    known = [*PLANS, *ZOO, *ALIASES]
    hint = suggest(target, known) or f"use a plan ({', '.join(PLANS)}) or a zoo name"
    raise UsageError(f"unknown target '{target}'", hint)


def find_teacher(name: str) -> str:
    """The timm name behind a teacher's short name; other names are returned as they are."""
    return TEACHERS.get(name, name)
