"""Clips around key frames, with the boxes of the people in them, by key.

As in `datasets`, a key says all there is to know, and pixels stay bytes with their channels last.
Boxes go where the pixels go, by the one map of the clip (`pixels.boxes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from .. import index as file_index
from ..boxes.clips import around
from ..boxes.columns import Boxes
from ..flow.reader import open_flow
from ..flow.settings import Flow
from ..pixels.boxes import Affine, cut_map, letterbox, visible
from ..pixels.transforms import Augment, Interpolation, augment_clip, resize
from ..readers import Reader, VideoReadError, open_row, probe
from ..rows import Row, Rows
from ..views import CLIP, SUBSTITUTE, Sampling, rng
from .quarantine import ReadGuard

# How many key frames may fail for one sample before the data, not a file, is at fault.
_MAX_ATTEMPTS = 16

Fit = Literal["letterbox", "whole"]


@dataclass(frozen=True)
class _Keyframes:
    """Settings that training and evaluation read alike.

    Args:
        rows: the videos.
        boxes: people in their key frames, with the frames' numbers, in fractions (`boxes.located`).
        sampling: dense; how the frames around a key frame are taken.
        fill: color of the bars of a letterbox, 0 to 255 for each channel.
        flow: show optical flow (C = 2); None: RGB (C = 3).
        reader, decode_side: what decodes, and the short side it scales to (`readers.open_row`).
    """

    rows: Rows
    boxes: Boxes
    _: KW_ONLY
    sampling: Sampling
    fill: tuple[int, ...] = (124, 116, 104)
    flow: Flow | None = None
    reader: str = "auto"
    decode_side: int | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def open(self, row: Row) -> Reader:
        """The frames of a video that are shown.

        Raises:
            VideoReadError: it cannot be opened.
        """
        reader = open_row(row, reader=self.reader, short_side=self.decode_side)
        return reader if self.flow is None else open_flow(row, reader, self.flow, self.decode_side)

    def row_of(self, key_frame: int) -> int:
        """The row of a key frame's video."""
        return int(self.boxes.row[key_frame])

    def frames(self, key_frame: int, row: Row) -> np.ndarray:
        """The frames around a key frame, uint8 (T, H, W, C).

        Raises:
            VideoReadError: they cannot be read, or the key frame is behind the end.
        """
        reader = self.open(row)
        assert self.boxes.frame is not None, "boxes are located before they are read"
        frame = int(self.boxes.frame[key_frame])
        if frame >= reader.num_frames:
            raise VideoReadError(row.path, f"{reader.num_frames} frames, and boxes in {frame}")
        return reader.get(around(frame, reader.num_frames, self.sampling, reader.fps))

    def people(self, key_frame: int, shape: tuple[int, ...]) -> np.ndarray:
        """The boxes of a key frame in pixels of frames of a height and width, float64 (N, 4)."""
        first, last = self.boxes.starts[key_frame : key_frame + 2]
        height, width = shape
        size = np.array([width, height, width, height], dtype=np.float64)
        return np.asarray(self.boxes.box[first:last] * size)


@dataclass(frozen=True)
class KeyframeDataset(_Keyframes):
    """Training clips by key (epoch, key frame): random crop, flip and colors, and who is left.

    An item holds ``clip`` uint8 (1, T, size, size, C), ``boxes`` float32 (1, N, 4), x1, y1, x2, y2
    in pixels of the clip, cut at its border, ``goals``, the same as they truly are, ``targets``
    float32 (1, N, classes), 1 for each action of a person, ``valid`` bool (1, N), ``index`` int64
    (1,) of the video that is shown and ``key`` of the key frame, ``skipped`` int64 (1,) (how many
    key frames could not be read in its place) and ``bad`` (the paths of their videos). In a batch
    the N of its clips are filled up to the largest with boxes that are not ``valid``.

    People of whom less than ``visible`` is left in the crop are not among them; N may be 0. A key
    frame that cannot be read is replaced by another, the same one in every run.

    Args:
        augment: what the frames go through; a ``randaug`` would move pixels away from their boxes.
        seed: of everything random.
        visible: least share of a box's area that a crop leaves.
        whole: no random crop: the whole frame, letterboxed.
        shake: the sides of ``boxes`` are moved by up to this share of the box's width and height.
    """

    augment: Augment
    seed: int = 0
    visible: float = 0.5
    whole: bool = False
    shake: float = 0.0

    def __post_init__(self) -> None:
        if self.augment.randaug:
            raise ValueError("RandAugment turns and shifts pictures, and boxes do not follow")

    repeats = 1
    """Clips that an item has, as of a `ClipDataset`."""

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return self.load(key, ReadGuard({}))

    def load(self, key: tuple[int, int], guard: ReadGuard) -> dict[str, Any]:
        """The item of a key; videos that the guard knows of count as unreadable.

        Raises:
            DataError: too many key frames failed in its place.
        """
        epoch, index = key
        bad: list[str] = []
        for candidate in self._candidates(epoch, index):
            number = self.row_of(candidate)
            row = self.rows.rows[number]
            try:
                with guard.reading(number, row.path):
                    frames = self.frames(candidate, row)
            except VideoReadError as error:
                bad.append(row.path)
                reason = error.reason
                continue
            item = self._item(candidate, frames, rng(self.seed, epoch, index, stream=CLIP))
            numbers = {"index": number, "key": candidate, "skipped": len(bad)}
            return {**item, **{k: torch.tensor([v]) for k, v in numbers.items()}, "bad": bad}
        raise DataError(
            f"{len(bad)} key frames in a row cannot be read, the last is of {bad[-1]}: {reason}",
            "repair or remove the unreadable files",
        )

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch: clips stacked, boxes filled up, ``bad`` as one list of all paths."""
        batch = {key: torch.cat([item[key] for item in items]) for key in ("clip", *_NUMBERS)}
        batch |= {name: padded([item[name] for item in items]) for name in _PEOPLE}
        return {**batch, "bad": [path for item in items for path in item["bad"]]}

    def _candidates(self, epoch: int, index: int) -> Iterator[int]:
        """The key frame itself, then those that stand in for it."""
        yield index
        order = rng(self.seed, epoch, index, stream=SUBSTITUTE).permutation(len(self))
        others = [int(other) for other in order[:_MAX_ATTEMPTS] if other != index]
        yield from others[: _MAX_ATTEMPTS - 1]

    def _item(
        self, key_frame: int, frames: np.ndarray, generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """The clip of these frames and the people in it, with what they do."""
        people, size = self.people(key_frame, frames.shape[1:3]), self.augment.size
        before, augment = Affine(), self.augment
        if self.whole:
            clip, before = letterbox(
                torch.from_numpy(frames), (size, size), self.fill, augment.interpolation
            )
            frames = clip.numpy()
            augment = replace(augment, scale=(1.0, 1.0), ratio=(1.0, 1.0), jitter=None)
        clip, cut = augment_clip(frames, augment, generator)
        boxes, share = visible(before.then(cut_map(cut, size)).boxes(people), (size, size))
        # A box without area is no person; of a rounding error of the map nobody is left out.
        keep = (share > 0) & (share >= self.visible - 1e-6)
        goals = boxes[keep]
        return {
            "clip": clip[None],
            "boxes": torch.from_numpy(self._shaken(goals, size, generator))[None],
            "goals": torch.from_numpy(goals)[None],
            "targets": torch.from_numpy(self.actions(key_frame)[keep])[None],
            "valid": torch.ones(1, int(keep.sum()), dtype=torch.bool),
        }

    def _shaken(self, boxes: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
        """Boxes whose sides are moved a little, none beyond the border; drawn behind all else."""
        if not self.shake:
            return boxes
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        moves = generator.uniform(-self.shake, self.shake, boxes.shape)
        return np.clip(boxes + sides * moves, 0, size).astype(np.float32)

    def actions(self, key_frame: int) -> np.ndarray:
        """The actions of the people of a key frame, float32 (N, classes), 1 or 0."""
        return actions_of(self.boxes, *self.boxes.starts[key_frame : key_frame + 2])


_NUMBERS = ("index", "key", "skipped")
_PEOPLE = ("boxes", "goals", "targets", "valid")


@dataclass(frozen=True)
class KeyframeViews(_Keyframes):
    """The clips that boxes are scored in, by key frame, without randomness and substitutes.

    An item holds ``clip`` uint8 (T, H, W, C), the whole frame, ``boxes`` float32 (N, 4) in its
    pixels, ``place`` float32 (4,), the map from fractions of the frame to its pixels, as scale of x
    and y and shift of x and y, ``key`` of the key frame, ``index`` of its video and ``error``:
    None, or why it cannot be read, and then the clip is zero. In a batch ``valid`` bool (B, N) says
    which boxes are none.

    Args:
        size: side of a letterbox; with ``whole`` the short side of the frame.
        fit: ``letterbox``: the frame keeps its aspect, with bars beside it; ``whole``: without
            them. H and W then differ from video to video: a batch has room for one of them.
        interpolation: how frames are resized, with antialiasing.
        partial: what becomes of a file that turns out to be damaged; see `EvalDataset`.
    """

    size: int
    fit: Fit = "letterbox"
    interpolation: Interpolation = "bilinear"
    partial: file_index.Partial = "keep"

    def __getitem__(self, key_frame: int) -> dict[str, Any]:
        return self.load(key_frame, ReadGuard({}))

    def load(self, key: int, guard: ReadGuard) -> dict[str, Any]:
        """The item of a key frame; one of a video that the guard knows of counts as unreadable."""
        number = self.row_of(key)
        row = self.rows.rows[number]
        error = None
        try:
            with guard.reading(number, row.path):
                clip, affine, shape = self._clip(key, row)
        except VideoReadError as failure:
            error = failure.reason
            channels = 3 if self.flow is None else 2
            shape = (self.size, self.size)
            clip = torch.zeros(self.sampling.frames, *shape, channels, dtype=torch.uint8)
            affine = Affine()
        boxes = torch.from_numpy(affine.boxes(self.people(key, shape)))
        height, width = shape
        place = (affine.scale[0] * width, affine.scale[1] * height, *affine.shift)
        numbers = {"index": torch.tensor(number), "key": torch.tensor(key)}
        item = {"clip": clip, "boxes": boxes, "place": torch.tensor(place, dtype=torch.float32)}
        return {**item, **numbers, "error": error}

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch: everything stacked, boxes filled up, ``error`` as a list."""
        errors = [item["error"] for item in items]
        # What cannot be read has no size of its own.
        like = next((i["clip"] for i in items if i["error"] is None), items[0]["clip"])
        clips = [like.new_zeros(like.shape) if item["error"] else item["clip"] for item in items]
        batch = {"clip": torch.stack(clips), "error": errors}
        batch |= {key: torch.stack([i[key] for i in items]) for key in ("place", "index", "key")}
        ones = [torch.ones(1, len(item["boxes"]), dtype=torch.bool) for item in items]
        return {
            **batch,
            "boxes": padded([item["boxes"][None] for item in items]),
            "valid": padded(ones),
        }

    def same_shape(self) -> bool:
        """True where all clips have one shape, so that a batch has room for several."""
        if self.fit == "letterbox":
            return True
        probes = [self.rows.rows[i].probe for i in np.unique(self.boxes.row).tolist()]
        return len({(p.height, p.width) for p in probes if p is not None}) <= 1

    def _clip(self, key_frame: int, row: Row) -> tuple[Tensor, Affine, tuple[int, int]]:
        """The clip of a key frame, the map of its frames to it, and their height and width."""
        try:
            frames = self.frames(key_frame, row)
        except VideoReadError:
            # As `EvalDataset` does: what lies before the first fault of a file is shown.
            if row.probe is None or row.probe.full or self.partial == "drop":
                raise
            found = probe(row.path, full=True)
            if not found.fault:
                raise
            file_index.remember(row.path, found)
            frames = self.frames(key_frame, replace(row, probe=found))
        height, width = frames.shape[1:3]
        clip = torch.from_numpy(np.ascontiguousarray(frames))
        if self.fit == "letterbox":
            clip, affine = letterbox(clip, (self.size, self.size), self.fill, self.interpolation)
        else:
            long = max(height, width) * self.size // min(height, width)
            high, wide = (self.size, long) if height <= width else (long, self.size)
            affine = Affine((wide / width, high / height))
            clip = resize(clip, high, wide, self.interpolation)
        return clip, affine, (height, width)


def actions_of(boxes: Boxes, first: int, last: int) -> np.ndarray:
    """The actions of some boxes, float32 (last - first, classes), 1 or 0."""
    starts = boxes.label_starts[first : last + 1]
    hot = np.zeros((last - first, len(boxes.classes)), dtype=np.float32)
    which = np.repeat(np.arange(last - first), np.diff(starts))
    hot[which, boxes.labels[starts[0] : starts[-1]]] = 1.0
    return hot


def padded(parts: Sequence[Tensor]) -> Tensor:
    """(1, N, ...) each, with N of their own, as (B, largest N, ...), filled up with zeros."""
    most = max(part.shape[1] for part in parts)
    result = parts[0].new_zeros(len(parts), most, *parts[0].shape[2:])
    for place, part in zip(result, parts, strict=True):
        place[: part.shape[1]] = part[0]
    return result
