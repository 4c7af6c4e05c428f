"""Views and clips of videos that have not been probed, or are too long to be decoded at once.

They are probed where they are read, in a process that may hang or die, so that a file has the
same frames here as in an evaluation, which checks all of its files first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..index import Partial
from ..readers import Reader, VideoReadError, probe
from ..rows import Row, Rows
from ..views import Sampling, clip_span, dense_indices, eval_indices
from .datasets import EvalDataset
from .quarantine import ReadGuard

# Bytes of frames that are decoded at a time, before they are resized.
_DECODED = 64e6


@dataclass(frozen=True)
class UnprobedDataset(EvalDataset):
    """The views of videos, as `EvalDataset` has them, each probed first where it was not yet."""

    def _views(self, row: Row) -> tuple[Tensor, str]:
        return super()._views(with_probe(row, partial=self.partial))


def with_probe(row: Row, *, full: bool = False, partial: Partial = "keep") -> Row:
    """A row with its probe, made here where there is none yet.

    Args:
        row: what is to be read.
        full: decode all frames for it.
        partial: ``drop``: a damaged file cannot be read; ``keep``: its beginning can.

    Raises:
        VideoReadError: the file cannot be read.
    """
    if row.probe is not None:
        return row
    found = probe(row.path, full=full)
    if found.fault and partial == "drop":
        raise VideoReadError(row.path, found.fault)
    return replace(row, probe=found)


def clips_at_once(reader: Reader, frames: int) -> int:
    """How many clips of so many frames of a video are decoded at a time."""
    height, width = reader.size
    return max(1, int(_DECODED / (frames * height * width * 3)))


@dataclass(frozen=True)
class SlidingWindows:
    """The clips of a timeline: windows of one length that move over a video.

    Attributes:
        frames: length of a video.
        window: frames of the video that a clip is cut from, at most all.
        step: frames from one window to the next. The last one ends with the video.
    """

    frames: int
    window: int
    step: int

    @classmethod
    def over(
        cls, frames: int, fps: float, sampling: Sampling, every: float | None
    ) -> SlidingWindows:
        """The windows over a video of ``frames`` frames, ``every`` so many seconds.

        A dense clip's window is as long as the clip, and without ``every`` the next one begins
        where it ends. Other clips are taken from all of a window of ``every`` seconds, 2 by
        default.
        """
        span = clip_span(sampling, fps)
        if sampling.kind != "dense":
            span = max(1, round((2.0 if every is None else every) * fps))
        step = span if every is None else max(1, round(every * fps))
        return cls(frames, min(span, frames), step)

    def __len__(self) -> int:
        return -(-(self.frames - self.window) // self.step) + 1

    def start(self, clip: int) -> int:
        """The first frame of a clip's window."""
        return min(clip * self.step, self.frames - self.window)


class TimelineDataset:
    """Neighboring clips of videos by (row, number of the first clip, how many).

    An item holds ``views`` uint8 (clips, crops, T, size, size, C), ``clip`` int64 (clips,),
    ``start`` and ``end`` float64 (clips,) in seconds, ``index`` of the row, and ``error``, a list:
    None for each clip, or why it cannot be read, and then its views are zero and its times a guess.

    Memory does not grow with the length of a video but for the times of its frames: the frames of a
    few clips are decoded at a time. A process keeps the video open that it read last.

    Args:
        views: how clips are cut, and the rows, all with their probe.
        sliding: the clips of each row.
    """

    def __init__(self, views: EvalDataset, sliding: Sequence[SlidingWindows]) -> None:
        self.views, self.sliding = views, sliding
        self._open: tuple[int, Reader, np.ndarray] | None = None

    @property
    def rows(self) -> Rows:
        """The videos."""
        return self.views.rows

    def keys(self, count: int) -> list[tuple[int, int, int]]:
        """Keys of all clips of all videos in their order, ``count`` clips each at most."""
        return [
            (row, first, min(count, len(sliding) - first))
            for row, sliding in enumerate(self.sliding)
            for first in range(0, len(sliding), count)
        ]

    def load(self, key: tuple[int, int, int], guard: ReadGuard) -> dict[str, Any]:
        """The item of a key; a row that the guard knows of counts as unreadable."""
        row, first, count = key
        shape = (count, self.views.crops, len(self._indices(row, first)), *self.views.shape)
        views = torch.zeros(shape, dtype=torch.uint8)
        times = self._nominal_times(row, range(first, first + count))
        errors: list[str | None] = [None] * count
        done = 0
        while done < count:
            part = slice(done, count)  # all that is left, if it does not even open
            try:
                with guard.reading(row, self.rows.rows[row].path):
                    size = clips_at_once(self._reader(row)[0], shape[2])
                    part = slice(done, min(done + size, count))
                    clips = range(first + part.start, first + part.stop)
                    views[part], times[:, part] = self._cut(row, clips)
            except VideoReadError as failure:
                self._open = None
                errors[part] = [failure.reason] * (part.stop - part.start)
            done = part.stop
        return {
            "views": views,
            "clip": torch.arange(first, first + count),
            "start": torch.from_numpy(times[0]),
            "end": torch.from_numpy(times[1]),
            "index": row,
            "error": errors,
        }

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The one item of a batch."""
        (item,) = items
        return item

    def _nominal_times(self, row: int, clips: range) -> np.ndarray:
        """Times (2, clips) in a video whose frames are shown at even distances."""
        probe, sliding = self.rows.rows[row].probe, self.sliding[row]
        assert probe is not None
        starts = np.array([sliding.start(clip) for clip in clips])
        return np.stack([starts, starts + sliding.window]) / probe.fps

    def _cut(self, row: int, clips: range) -> tuple[Tensor, np.ndarray]:
        """Views (clips, crops, T, size, size, C) of some clips, and their times (2, clips)."""
        reader, times = self._reader(row)
        indices = np.stack([self._indices(row, clip) for clip in clips])
        views = self.views.cut(reader, indices).unflatten(0, (len(clips), -1))
        sliding = self.sliding[row]
        starts = np.array([sliding.start(clip) for clip in clips])
        ends = times[starts + sliding.window - 1] + 1 / reader.fps
        return views, np.stack([times[starts], ends])

    def _indices(self, row: int, clip: int) -> np.ndarray:
        """Frames of a clip, int64 (T,)."""
        probe, sliding = self.rows.rows[row].probe, self.sliding[row]
        assert probe is not None
        indices = eval_indices(sliding.window, self.views.sampling, 1, probe.fps)[0]
        return sliding.start(clip) + indices

    def _reader(self, row: int) -> tuple[Reader, np.ndarray]:
        """An open video, and when each of its frames is shown."""
        if self._open is None or self._open[0] != row:
            self._open = None  # closed before the next one is opened
            reader = self.views.open(self.rows.rows[row])
            self._open = (row, reader, reader.times())
        return self._open[1], self._open[2]


class DenseDataset:
    """Neighboring clips of videos by (row, number of the first clip, how many at most).

    An item holds ``views`` uint8 (views, T, size, size, C), the crops of the first clip first,
    ``index`` of the row, and ``error``: None, or why it cannot be read, and then there are no
    views. Of a row whose segment ends before its file the last items have none, either.

    Memory does not grow with the length of a video: the frames of a few clips are decoded at a
    time. A process keeps the video open that it read last.

    Args:
        views: how clips are cut, and the rows; one without a probe cannot be read.
        every: frames from one clip to the next; 0: one begins where the last ends.
    """

    def __init__(self, views: EvalDataset, every: int) -> None:
        self.views, self.step = views, every or None
        self._open: tuple[int, Reader] | None = None

    @property
    def rows(self) -> Rows:
        """The videos."""
        return self.views.rows

    def keys(self, rows: Iterable[int], count: int) -> list[tuple[int, int, int]]:
        """Keys of all clips of some rows in their order, ``count`` clips each at most."""
        found = []
        for row in rows:
            probe = self.rows.rows[row].probe
            # Of the whole file.
            frames, fps = (1, 0.0) if probe is None else (probe.num_frames, probe.fps)
            clips = len(dense_indices(frames, self.views.sampling, self.step, fps))
            found += [(row, first, count) for first in range(0, clips, count)]
        return found

    def load(self, key: tuple[int, int, int], guard: ReadGuard) -> dict[str, Any]:
        """The item of a key; a row that the guard knows of counts as unreadable."""
        row, first, count = key
        path, error = self.rows.rows[row].path, None
        views = torch.zeros((0, self.views.sampling.frames, *self.views.shape), dtype=torch.uint8)
        try:
            with guard.reading(row, path):
                if self.rows.rows[row].probe is None:
                    raise VideoReadError(path, "nobody has found out how long it is")
                views = torch.cat([views, *self._parts(row, first, count)])
        except VideoReadError as failure:
            self._open, error = None, failure.reason
        return {"views": views, "index": row, "error": error}

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The one item of a batch."""
        (item,) = items
        return item

    def _parts(self, row: int, first: int, count: int) -> list[Tensor]:
        if self._open is None or self._open[0] != row:
            self._open = None  # closed before the next one is opened
            self._open = (row, self.views.open(self.rows.rows[row]))
        reader = self._open[1]
        sampling = self.views.sampling
        indices = dense_indices(
            reader.num_frames, sampling, self.step, reader.fps, first=first, count=count
        )
        size = clips_at_once(reader, sampling.frames)
        return [
            self.views.cut(reader, indices[start : start + size])
            for start in range(0, len(indices), size)
        ]
