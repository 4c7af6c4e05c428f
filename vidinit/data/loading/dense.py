"""All clips of videos, one behind the other, a few at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..readers import Reader, VideoReadError
from ..rows import Rows
from ..views import dense_indices
from .datasets import EvalDataset
from .unseen import clips_at_once
from .watchdog import Guard


class DenseDataset:
    """Neighboring clips of videos by (row, number of the first clip, how many at most).

    An item holds ``views`` uint8 (views, T, size, size, C), the crops of the first clip first,
    ``index`` of the row, and ``error``: None, or why it cannot be read, and then there are no
    views. Of a row whose segment ends before its file the last items have none, either.

    Memory does not grow with the length of a video: the frames of a few clips are decoded at a
    time. A process keeps the video open that it read last.

    Args:
        views: how clips are cut, and the rows; one that nobody has examined cannot be read.
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
            frames = 1 if probe is None else probe.num_frames  # of the whole file
            clips = len(dense_indices(frames, self.views.sampling, self.step))
            found += [(row, first, count) for first in range(0, clips, count)]
        return found

    def load(self, key: tuple[int, int, int], guard: Guard) -> dict[str, Any]:
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
        indices = dense_indices(reader.num_frames, sampling, self.step, first=first, count=count)
        size = clips_at_once(reader, sampling.frames)
        return [
            self.views.cut(reader, indices[start : start + size])
            for start in range(0, len(indices), size)
        ]
