"""Facts of the videos, of the machine, and of the image weights at hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...data.rows import LabelKind, Rows
from ...measure.memory import free_memory
from ...measure.speed import pick_device
from ...zoo.images.hub import where_at_hand
from ...zoo.images.networks import PACKAGED, packaged_file
from ..finetune.choice import group_of
from ..shared.skewed_classes import class_counts
from ..shared.spans import lengths_of

GB = 2**30
SOURCES = ("resnet50", "tf_efficientnet_lite2", "tf_efficientnet_lite0")
"""Image networks that a start is made of, the largest first."""


@dataclass(frozen=True)
class Spread:
    """Five numbers of a distribution: its ends, its tenths, and its middle."""

    least: float
    tenth: float
    median: float
    ninetieth: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of some values, of which there is at least one."""
        return cls(*(round(float(one), 3) for one in np.quantile(values, (0, 0.1, 0.5, 0.9, 1))))


@dataclass(frozen=True)
class Facts:
    """All that choices rest on.

    Attributes:
        clips: that are trained on.
        held_out: that are validated on.
        classes: names.
        counts: training clips of each.
        held_out_counts: validation clips of each.
        kind: of the labels.
        groups: of the training clips that stay together; as many as clips where all are apart.
        own_val: False where the validation clips were held out of the training data.
        frames: of a clip's video, or of the part of it that is meant.
        seconds: the same in time; None where the videos have none.
        fps: frames per second, in the middle; 0 without time.
        short_side: of the pictures in pixels, in the middle.
        unlabelled: videos without labels that were given.
        cores: of this machine that may be used.
        memory_gb: that is free where is computed.
        gpu: its name; None for none.
        weights: where the weights of each of `SOURCES` come from, by name; those alone that are
            at hand.
    """

    clips: int
    held_out: int
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    held_out_counts: tuple[int, ...]
    kind: LabelKind
    groups: int
    own_val: bool
    frames: Spread
    seconds: Spread | None
    fps: float
    short_side: int
    cores: int
    memory_gb: float
    gpu: str | None = None
    unlabelled: int = 0
    weights: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For plan.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Facts:
        """The inverse of `as_dict`, also behind JSON."""
        lists: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        lists["frames"] = Spread(**values["frames"])
        lists["seconds"] = None if values["seconds"] is None else Spread(**values["seconds"])
        return cls(**lists)

    @property
    def chance(self) -> float:
        """Accuracy on the validation clips of always giving their most frequent class."""
        counts = self.held_out_counts if self.held_out else self.counts
        return max(counts, default=0) / max(sum(counts), 1)


def look(train: Rows, val: Rows | None, *, own_val: bool, unlabelled: int, device: str) -> Facts:
    """The facts.

    Args:
        train, val: rows whose files were checked.
        own_val: see `Facts`.
        unlabelled: videos without labels.
        device: that is computed on, as ``auto`` or ``cpu``.
    """
    import torch

    lengths = list(lengths_of([*train.rows, *(val.rows if val else ())])) or [(1, 0.0)]
    timed = [(frames, fps) for frames, fps in lengths if fps > 0]
    sides = [min(row.probe.height, row.probe.width) for row in train.rows if row.probe]
    place = pick_device(device)
    return Facts(
        clips=len(train),
        held_out=len(val) if val else 0,
        classes=tuple(train.classes or ()),
        counts=tuple(class_counts(train)[0]) if train.classes else (),
        held_out_counts=tuple(class_counts(val)[0]) if val and val.classes else (),
        kind=train.kind,
        groups=len({group_of(row) for row in train.rows}),
        own_val=own_val,
        frames=Spread.of([frames for frames, _ in lengths]),
        seconds=Spread.of([frames / fps for frames, fps in timed]) if timed else None,
        fps=float(np.median([fps for _, fps in timed])) if timed else 0.0,
        short_side=int(np.median(sides)) if sides else 224,
        cores=_cores(),
        memory_gb=round(free_memory(place) / GB, 1),
        gpu=torch.cuda.get_device_name(place) if place.type == "cuda" else None,
        unlabelled=unlabelled,
        weights=weights_at_hand(),
    )


def _cores() -> int:
    """Cores that this process may use; not all systems know more than how many there are."""
    own = getattr(os, "sched_getaffinity", None)
    return len(own(0)) if own is not None else os.cpu_count() or 1


def weights_at_hand() -> dict[str, str]:
    """Where the weights of each of `SOURCES` come from, of those that can be had."""
    import timm

    found = {}
    for name in SOURCES:
        if name in PACKAGED and packaged_file(name) is not None:
            found[name] = f"the package {PACKAGED[name][0]}"
            continue
        config = timm.get_pretrained_cfg(name)
        repo = None if config is None else config.hf_hub_id
        if repo and (where := where_at_hand(repo)):
            found[name] = where
    return found
