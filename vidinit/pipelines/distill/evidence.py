"""Evidence of what a distillation has taught, without any label: measured on some clips.

The student at its start and at its end is compared with its teachers on the same clips, by what is
hidden and what is seen of them; it is asked how much the order of frames changes what it says; and
the clips that it finds most alike are shown side by side.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checkpoint import load
from ...console import say
from ...data.loading.datasets import ClipDataset
from ...data.loading.loader import Loader
from ...data.pixels.transforms import Augment
from ...data.rows import Rows
from ...engine import checkpoint_folders, sharding
from ...engine.collectives import from_main
from ...engine.fit import to_device
from ...engine.run_folder import RunFolder
from ...measure.embedding import unit
from ...report.html import Section, figure, table
from ...report.pictures import animation
from ..shared.clips import workers_of
from ..shared.training import Training
from .objectives.base import HIDDEN
from .settings import LOOKED_AT, DistillConfig
from .task import DistillTask
from .teacher_cache import Caches

START = "learned_start.json"
"""In the run folder: what was measured before the first step."""
_FEWEST = 3  # clips of which neighbors and distances can be told
_SHOWN, _NEIGHBORS = 6, 3


class Evidence:
    """Measures a student before and after its training, in the main process.

    Where the weights are sharded nothing is measured.

    Args:
        task: with the student and its teachers.
        on_device: of the run's job.
        held_out: videos that are not trained on; where there are none, the others are shown.
        clips: of the training; it says how videos are read, and what teachers see.
        caches: of the teachers, for the videos that are trained on.
        training: with its folder.
    """

    def __init__(
        self,
        task: DistillTask,
        on_device: Callable[[dict[str, Any], int, int], dict[str, Any]],
        held_out: Rows,
        clips: ClipDataset,
        caches: Caches,
        training: Training[DistillConfig],
    ) -> None:
        self.task, self.on_device, self.clips = task, on_device, clips
        self.held_out, self.caches, self.training = held_out, caches, training
        self.end: Learned | None = None

    def note_start(self) -> None:
        """Measure the student before its first step, once: a run that goes on keeps it."""
        if self._possible():
            from_main(self.training.accelerator, self._measure_start)

    def at_the_end(self) -> dict[str, Any] | None:
        """The run's model now, as `Learned.as_json`; None where nothing is measured."""
        if not self._possible():
            return None
        found: dict[str, Any] = from_main(self.training.accelerator, self._measure_end)
        return found

    def _possible(self) -> bool:
        rows = self.held_out.rows or self.clips.rows.rows
        whole = sharding.kind(self.training.accelerator) == "whole"
        return whole and len(rows) >= _FEWEST and self.clips.sampling.kind != "all"

    def _measure_start(self) -> None:
        run = self.training.run
        if run.writes and not (run.root / START).is_file() and not any_checkpoint(run):
            run.write_json(START, self._measure().as_json())

    def _measure_end(self) -> dict[str, Any]:
        # What was saved, not what was trained: they differ where weights are averaged.
        saved = load(self.training.run.model).state_dict()
        self.task.model.load_state_dict(saved)
        self.end = self._measure()
        return self.end.as_json()

    def _measure(self) -> Learned:
        new = bool(self.held_out.rows)
        rows = self.held_out if new else self.clips.rows
        teachers = self.clips.teachers
        if new and teachers is not None:  # caches are of the others
            teachers = replace(teachers, caches=())
        dataset = replace(
            self.clips,
            rows=rows,
            augment=Augment(self.clips.augment.size, self.clips.augment.interpolation,
                            scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=False),
            center=True,
            repeats=1,
            mirrored=None,
            teachers=teachers,
        )  # fmt: skip
        data = self.training.config.data
        places = np.linspace(0, len(rows.rows) - 1, min(LOOKED_AT, len(rows.rows))).astype(int)
        loader = Loader(
            dataset,
            [(0, place) for place in places.tolist()],
            min(data.clips, LOOKED_AT),
            workers=workers_of(data, 1),
            deadline=data.deadline,
        )
        device = self.training.accelerator.device
        self.task.to(device)
        parts = []
        with _evaluating(self.task), self.training.accelerator.autocast():
            for place, batch in enumerate(loader if new else self.caches.look_up(loader)):
                ready = self.on_device(to_device(batch, device), 0, place)
                parts.append(_of_batch(self.task, batch, ready))
        self.caches.flush()
        return Learned.of(parts, new=new)

    def sections(self) -> Iterator[Section]:
        """The part of the report that answers whether anything was learned."""
        if self.end is not None:
            yield _answer(_read(self.training.run.root / START), self.end)
            yield _neighbors(self.end)


def any_checkpoint(run: RunFolder) -> bool:
    """True where a run has begun to train."""
    return checkpoint_folders.newest(run.checkpoints) is not None


@contextmanager
def _evaluating(task: DistillTask) -> Iterator[None]:
    """Inside, the task is in eval mode and computes no gradients; afterwards as it was."""
    training = task.training
    task.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        task.train(training)


@dataclass(frozen=True)
class _Part:
    """Findings on the clips of a batch."""

    agreement: dict[str, Tensor]
    forward: Tensor
    reversed: Tensor
    shuffled: Tensor
    frames: np.ndarray
    skipped: int


def _of_batch(task: DistillTask, batch: dict[str, Any], ready: dict[str, Any]) -> _Part:
    """Ask the student and its teachers about a batch, before and after it went to the device."""
    learned = task.each()
    seen = task.student_pass(ready, learned)
    agreement: dict[str, Tensor] = {}
    for one in learned:
        agreement |= one.agreement(seen, one.ask(ready))
    clip = ready["clip"]
    order = torch.from_numpy(_shuffle(clip.shape[2])).to(clip.device)
    backward, mixed = (task.model.embed(each) for each in (clip.flip(2), clip[:, :, order]))
    forward = task.model.embed(clip) if HIDDEN in ready else seen.embedding
    forward, backward, mixed = (each.float().cpu() for each in (forward, backward, mixed))
    frames = batch["clip"].cpu().numpy()
    skipped = int(batch["skipped"].sum())
    agreement = {name: value.float().cpu() for name, value in agreement.items()}
    return _Part(agreement, forward, backward, mixed, frames, skipped)


def _shuffle(frames: int) -> np.ndarray:
    """An order of the frames that is neither theirs nor the reverse of it, where there is one."""
    return np.concatenate([np.arange(1, frames, 2), np.arange(0, frames, 2)])


@dataclass(frozen=True)
class Learned:
    """Measures of a student on some clips.

    Attributes:
        agreement: means over the clips by name; see `objectives.base.DistillObjective.agreement`.
        changes: ``reversed`` and ``shuffled``: how far a clip moves, as the cosine distance of its
            descriptors, over the mean distance of two clips.
        clips: how many were looked at.
        new: True where none of them was trained on.
        embeddings: (N, C).
        frames: bytes of the clips, (N, T, H, W, 3) where the student sees RGB.
    """

    agreement: dict[str, float]
    changes: dict[str, float]
    clips: int
    new: bool
    embeddings: np.ndarray
    frames: np.ndarray

    @classmethod
    def of(cls, parts: list[_Part], *, new: bool) -> Learned:
        """Of the parts that batches gave."""
        names = list(dict.fromkeys(name for part in parts for name in part.agreement))
        agreement = {}
        for name in names:
            values = torch.cat([part.agreement[name] for part in parts if name in part.agreement])
            agreement[name] = float(values.nanmean())
        forward = unit(torch.cat([part.forward for part in parts]).numpy())
        apart = 1 - forward @ forward.T
        between = float(apart[~np.eye(len(apart), dtype=bool)].mean())
        changes = {}
        for name in ("reversed", "shuffled"):
            other = unit(torch.cat([getattr(part, name) for part in parts]).numpy())
            changes[name] = float((1 - (forward * other).sum(1)).mean()) / max(between, 1e-9)
        frames = np.concatenate([part.frames for part in parts])
        if skipped := sum(part.skipped for part in parts):
            say(f"note: {skipped} clips of the report cannot be read; others stand in for them")
        return cls(agreement, changes, len(forward), new, forward, frames)

    def as_json(self) -> dict[str, Any]:
        """The numbers, as result.json has them."""
        numbers = {"agreement": self.agreement, "changes": self.changes}
        rounded = {
            key: {name: round(value, 4) for name, value in found.items()}
            for key, found in numbers.items()
        }
        return {**rounded, "clips": self.clips, "held_out": self.new}


def _read(file: Path) -> dict[str, Any]:
    """The measures before the first step; nothing where the file is not there or is broken."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _answer(start: dict[str, Any], end: Learned) -> Section:
    rows: list[list[Any]] = [
        [f"agreement with {name}", start.get("agreement", {}).get(name), value]
        for name, value in end.agreement.items()
    ]
    for name, value in end.changes.items():
        before = start.get("changes", {}).get(name)
        rows.append([f"change where frames are {name}", before, value])
    whose = "that were held out" if end.new else "that were trained on (distill.hold_out=0)"
    note = (
        f"On the center clips of {end.clips} videos {whose}. Agreement: the cosine of student and "
        "teacher, of class logits the share of the clips of which both name the same class first. "
        "Change: how far the descriptor of a clip moves, over the mean distance between two clips; "
        "a student for which the order of frames is nothing has 0."
    )
    if not start:
        note += " What the student knew at its start was not measured."
    return Section("Did it learn anything?", table(["", "at the start", "now"], rows), note)


def _neighbors(end: Learned) -> Section:
    alike = end.embeddings @ end.embeddings.T
    np.fill_diagonal(alike, -np.inf)
    places = np.linspace(0, end.clips - 1, min(_SHOWN, end.clips)).astype(int)
    lines = []
    for place in dict.fromkeys(places.tolist()):
        near = np.argsort(-alike[place], kind="stable")[: min(_NEIGHBORS, end.clips - 1)]
        pictures = [figure(_moving(end.frames[place]), "clip")]
        pictures += [
            figure(_moving(end.frames[one]), f"cosine {alike[place, one]:.3f}") for one in near
        ]
        body = "".join(pictures)
        lines.append(f'<div style="display: flex; flex-wrap: wrap; gap: 0.5rem">{body}</div>')
    note = (
        f"Each row: a clip, and the {_NEIGHBORS} of the {end.clips} whose descriptors are nearest. "
        "Neighbors that share a place and not what happens tell that single frames decide."
    )
    return Section("Nearest clips", "".join(lines), note)


def _moving(frames: np.ndarray) -> str:
    """A clip as a small picture; of optical flow, which has no colors, its two parts as two."""
    if frames.shape[-1] == 2:
        frames = np.concatenate([frames, np.full_like(frames[..., :1], 128)], axis=-1)
    return animation(frames, label="a clip", limit=12_000)
