"""Clips and views by key: read from a row, or from another one in place of a bad row.

A data set is asked by key, and a key says all there is to know: nothing is drawn from a shared
generator, so workers, processes and interruptions never change a sample. Pixels stay bytes with
their channels last: three of RGB, two of optical flow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from .. import index as file_index
from ..flow.reader import FlowReader, open_flow
from ..flow.settings import Flow
from ..pixels.transforms import Augment, Interpolation, augment_clip, eval_crops
from ..readers import Reader, VideoReadError, open_row, probe
from ..readers.opening import Segment
from ..rows import Row, Rows
from ..views import CLIP, SUBSTITUTE, Sampling, clip_span, eval_indices, rng, train_indices
from .quarantine import ReadGuard
from .teacher_frames import CROPS, CUTS, TeacherFrames

# How many files may fail for one sample before the data, not a file, is at fault.
_MAX_ATTEMPTS = 16


@dataclass(frozen=True)
class ClipDataset:
    """Training clips by key (epoch, index): random frames, crop and augmentation.

    An item holds R = ``repeats`` clips of one video, from one decode: ``clip`` uint8
    (R, T, size, size, C), ``label`` (R, ...) (see `labels`) and ``index`` int64 (R,) of the row
    that is shown, ``skipped`` int64 (R,) (how many rows failed in its place, at the first clip, 0
    at the others), ``bad`` (their paths) and, with ``teachers``, what `TeacherFrames.of` gives.

    A row that cannot be read is replaced by another, the same one in every run.

    Args:
        rows: what to show; image files are videos of one frame.
        sampling: how the frames of a clip are taken from its video.
        augment: what the frames go through.
        seed: of everything random.
        center: take the clip at the center of its video instead of a random one.
        teachers: what image teachers see of a clip; None: there are none.
        mirrored: the same rows with the labels of their mirrored clips; None: labels stay.
        repeats: clips of a video, each with its own frames, crop and augmentation. The first is
            what ``repeats=1`` shows.
        flow: show optical flow (C = 2); teachers see the RGB frames. None: RGB (C = 3).
        reader, decode_side: what decodes, and the short side it scales to (`readers.open_row`).
    """

    rows: Rows
    _: KW_ONLY
    sampling: Sampling
    augment: Augment
    seed: int = 0
    center: bool = False
    teachers: TeacherFrames | None = None
    mirrored: Rows | None = None
    repeats: int = 1
    flow: Flow | None = None
    reader: str = "auto"
    decode_side: int | None = None

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats}, at least 1 is needed")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return self.load(key, ReadGuard({}))

    def load(self, key: tuple[int, int], guard: ReadGuard) -> dict[str, Any]:
        """The item of a key; rows that the guard knows of count as unreadable.

        Raises:
            DataError: too many rows failed in its place.
        """
        epoch, index = key
        bad: list[str] = []
        for candidate in self._candidates(epoch, index):
            row = self.rows.rows[candidate]
            try:
                with guard.reading(candidate, row.path):
                    item, flipped = self._clips(candidate, epoch, index)
            except VideoReadError as error:
                bad.append(row.path)
                reason = error.reason
                continue
            other = self.rows if self.mirrored is None else self.mirrored
            shown = [other if flip else self.rows for flip in flipped]
            label = torch.cat([labels(rows, [candidate]) for rows in shown])
            indices = torch.full((self.repeats,), candidate)
            skipped = torch.tensor([len(bad)] + [0] * (self.repeats - 1))
            return {**item, "label": label, "index": indices, "skipped": skipped, "bad": bad}
        raise DataError(
            f"{len(bad)} files in a row cannot be read, the last is {bad[-1]}: {reason}",
            "repair or remove the unreadable files",
        )

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch: clips of a video are neighbors, ``bad`` is one list of all paths."""
        batch = {key: torch.cat([item[key] for item in items]) for key in items[0] if key != "bad"}
        return {**batch, "bad": [path for item in items for path in item["bad"]]}

    def _candidates(self, epoch: int, index: int) -> Iterator[int]:
        """The row itself, then the rows that stand in for it."""
        yield index
        order = rng(self.seed, epoch, index, stream=SUBSTITUTE).permutation(len(self.rows))
        others = [int(other) for other in order[:_MAX_ATTEMPTS] if other != index]
        yield from others[: _MAX_ATTEMPTS - 1]

    def open(self, row: Row) -> Reader:
        """The video of a row.

        Raises:
            VideoReadError: it cannot be opened, or what is left of it is shorter than a clip.
        """
        return _open(row, self.sampling, self.reader, self.decode_side)

    def _clips(
        self, candidate: int, epoch: int, index: int
    ) -> tuple[dict[str, Tensor], list[bool]]:
        # The repeat is counted in the upper half of the word that tells streams apart.
        generators = [
            rng(self.seed, epoch, index, stream=CLIP + (repeat << 32))
            for repeat in range(self.repeats)
        ]
        reader = self.open(self.rows.rows[candidate])
        length, fps = reader.num_frames, reader.fps
        indices = np.stack(
            [
                train_indices(length, self.sampling, None if self.center else generator, fps)
                for generator in generators
            ]
        )
        if self.flow is not None:
            reader = open_flow(self.rows.rows[candidate], reader, self.flow, self.decode_side)
        frames, shown, places = _decode(reader, indices, rgb=self.teachers is not None)
        # What cuts the flow cuts the teachers' RGB frames again.
        before = [] if self.flow is None else deepcopy(generators)
        made = [
            augment_clip(_select(shown, place), self.augment, generator)
            for place, generator in zip(places, generators, strict=True)
        ]
        item = {"clip": torch.stack([clip for clip, _ in made])}
        if self.teachers is not None:
            # Drawn last, so that a teacher does not change the clips.
            item |= self.teachers.of(candidate, frames, places, indices, generators)
            if self.teachers.crops:
                picked = np.take_along_axis(places, item["picks"].numpy(), axis=1)
                crops = [
                    augment_clip(frames[place], self.augment, generator)[0]
                    for place, generator in zip(picked, before, strict=True)
                ]
                item[CROPS] = torch.stack(crops)
            if self.teachers.cuts:
                item[CUTS] = torch.tensor([cut.shares(frames.shape[1:3]) for _, cut in made])
        return item, [cut.mirrored for _, cut in made]


@dataclass(frozen=True)
class EvalDataset:
    """All views of a video by index, without randomness and without substitutes.

    An item holds ``views`` uint8 (clips * crops, T, size, size, C), the crops of the first clip
    first, all from one decode, ``label`` (see `labels`, without its first dimension), ``index``
    and ``error``: None, or why the file cannot be read, and then ``views`` is zero and must not be
    counted. ``kept`` says in words how much of a damaged file is shown; empty for a sound one.

    Args:
        rows: what to show; image files are videos of one frame.
        sampling: how the frames of a clip are taken from its video. With ``all`` the T of a view
            varies from video to video, so that a batch has room for one.
        size: side of a view in pixels.
        crop_pct: side of a single crop over the short side it is cut from, in (0, 1].
        interpolation: how frames are resized, with antialiasing.
        clips: clips spread over the video.
        first: dense clips begin with equal parts of the video, instead of lying in their middle.
        crops: 1 (center) or 3 (along the long side) of each clip.
        flow: show optical flow (C = 2); None: RGB (C = 3).
        reader, decode_side: what decodes, and the short side it scales to (`readers.open_row`).
        partial: what becomes of a file that turns out to be damaged where its probe had not looked:
            ``keep``: it is decoded to its first fault, as `index.check` with ``full`` does, and
            shown up to there; ``drop``: it cannot be read.
    """

    rows: Rows
    _: KW_ONLY
    sampling: Sampling
    size: int
    crop_pct: float
    interpolation: Interpolation
    clips: int = 1
    crops: Literal[1, 3] = 1
    first: bool = False
    flow: Flow | None = None
    reader: str = "auto"
    decode_side: int | None = None
    partial: file_index.Partial = "keep"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.load(index, ReadGuard({}))

    def load(self, index: int, guard: ReadGuard) -> dict[str, Any]:
        """The item of a row; one that the guard knows of counts as unreadable."""
        row = self.rows.rows[index]
        error, kept = None, ""
        try:
            with guard.reading(index, row.path):
                views, kept = self._views(row)
        except VideoReadError as failure:
            error = failure.reason
            shape = (self.clips * self.crops, self.sampling.frames, *self.shape)
            views = torch.zeros(shape, dtype=torch.uint8)
        label = labels(self.rows, [index])[0]
        place = torch.tensor(index)
        return {"views": views, "label": label, "index": place, "error": error, "kept": kept}

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch: everything stacked, ``error`` and ``kept`` as lists."""
        words = ("error", "kept")
        batch: dict[str, Any] = {
            key: torch.stack([item[key] for item in items]) for key in items[0] if key not in words
        }
        return {**batch, **{key: [item[key] for item in items] for key in words}}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a frame of a view."""
        return self.size, self.size, 3 if self.flow is None else 2

    def open(self, row: Row) -> Reader:
        """The frames of a row that are shown: its video, or the flow of that.

        Raises:
            VideoReadError: it cannot be opened, or what is left of it is shorter than a clip.
        """
        reader = _open(row, self.sampling, self.reader, self.decode_side)
        return reader if self.flow is None else open_flow(row, reader, self.flow, self.decode_side)

    def _views(self, row: Row) -> tuple[Tensor, str]:
        """The views of a row, and how much of a damaged file they are cut from."""
        try:
            return self._views_of_whole(row)
        except VideoReadError:
            if row.probe is None or row.probe.full:
                raise
            found = probe(row.path, full=True)
            if not found.fault:
                raise
        file_index.remember(row.path, found)
        if self.partial == "drop":
            raise VideoReadError(row.path, found.fault)
        return self._views_of_whole(replace(row, probe=found))

    def _views_of_whole(self, row: Row) -> tuple[Tensor, str]:
        reader = self.open(row)
        frames, fps = reader.num_frames, reader.fps
        indices = eval_indices(frames, self.sampling, self.clips, fps, first=self.first)
        views = self.cut(reader, indices)
        return views, "" if row.probe is None else row.probe.kept

    def cut(self, reader: Reader, indices: np.ndarray) -> Tensor:
        """Views of some clips of an open video, the crops of the first clip first.

        Args:
            reader: the video, as `open` gives it.
            indices: its frames in each clip, int64 (clips, T).

        Returns:
            uint8 (clips * crops, T, size, size, C), all from one decode.

        Raises:
            VideoReadError: a frame does not decode.
        """
        _, frames, places = _decode(reader, indices)
        crops = eval_crops(
            frames,
            size=self.size,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
            crops=self.crops,
        )
        # (crops, frames of the union, S, S, C) -> (views, T, S, S, C), each frame copied once.
        frame = torch.from_numpy(places)[:, None] + torch.arange(len(crops))[:, None] * len(frames)
        order = frame.flatten()  # of (clips, crops, T)
        return crops.flatten(0, 1).index_select(0, order).unflatten(0, (-1, places.shape[1]))


def _open(row: Row, sampling: Sampling, reader: str, short_side: int | None) -> Reader:
    """Open a row, if what is left of a damaged file is as long as a clip.

    Raises:
        VideoReadError: it cannot be opened, or it is not.
    """
    video = open_row(row, reader=reader, short_side=short_side)
    probe = row.probe
    if probe is not None and probe.fault:
        stop = video.num_frames + (video.first if isinstance(video, Segment) else 0)
        needed = clip_span(sampling, video.fps)
        if stop == probe.num_frames and video.num_frames < needed:
            raise VideoReadError(
                row.path,
                f"{probe.fault}; before that there are {video.num_frames} frames, "
                f"a clip needs {needed}",
            )
    return video


def labels(rows: Rows, indices: Sequence[int]) -> Tensor:
    """Labels of some rows, as a batch has them.

    Returns:
        By the kind of the labels: ``single``: int64 (B,), -1 where there is none; ``multi``:
        float32 (B, classes), 1 for each class that is there; ``pair``: int64 (B, 2), -1, -1 where
        there is none.
    """
    found = [rows.rows[index].label for index in indices]
    if rows.kind == "single":
        return torch.tensor([-1 if label is None else label for label in found])
    if rows.kind == "pair":
        return torch.tensor([(-1, -1) if label is None else label for label in found])
    hot = torch.zeros(len(found), len(rows.classes or ()))
    for place, label in enumerate(found):
        if label is not None:
            hot[place, torch.tensor(label, dtype=torch.int64)] = 1.0
    return hot


def _decode(
    reader: Reader, indices: np.ndarray, *, rgb: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decode each frame once, though clips may share it.

    Args:
        reader: an open video.
        indices: of its frames, int64 (clips, T).
        rgb: return RGB frames, too, whatever is shown.

    Returns:
        The RGB frames, if they are wanted, and what is shown, uint8 (frames of the union, H, W, C),
        and where in it each index is, (clips, T).
    """
    wanted, places = np.unique(indices, return_inverse=True)
    places = places.reshape(indices.shape)
    if rgb and isinstance(reader, FlowReader):
        return *reader.both(wanted), places
    frames = reader.get(wanted)
    return frames, frames, places


def _select(frames: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The frames at some places; no copy if these are all of them."""
    return frames if np.array_equal(places, np.arange(len(frames))) else frames[places]
