"""Random clips in the place of data that a dry run was not given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data.boxes.columns import Boxes
from ...data.loading.datasets import ClipDataset
from ...data.loading.keyframes import KeyframeDataset
from ...data.readers import Reader
from ...data.rows import Row, Rows

NOISE = "random clips"
"""Stands where the path of a file stands."""

# More than any step takes; they are one row each of one table.
_ROWS = 1 << 16


def noise_rows(classes: Sequence[str] | None) -> Rows:
    """Rows of random videos, of each class as many; without classes unlabelled."""
    if classes is None:
        return Rows((Row(NOISE),) * _ROWS)
    kinds = [Row(NOISE, label) for label in range(len(classes))]
    return Rows(tuple(kinds[n % len(kinds)] for n in range(_ROWS)), tuple(classes))


def is_noise(rows: Rows) -> bool:
    """True for rows of `noise_rows`."""
    return bool(rows.rows) and rows.rows[0].path == NOISE


@dataclass(frozen=True)
class NoiseClips(ClipDataset):
    """A `ClipDataset` whose videos are random pixels; sampling and augmentation are real."""

    def open(self, row: Row) -> Reader:
        """A random video somewhat larger than the clips that are cut from it."""
        return _noise_of(self)


@dataclass(frozen=True)
class NoiseKeyframes(KeyframeDataset):
    """A `KeyframeDataset` whose videos are random pixels."""

    def open(self, row: Row) -> Reader:
        """A random video somewhat larger than the clips that are cut from it."""
        return _noise_of(self)


def _noise_of(clips: ClipDataset | KeyframeDataset) -> Reader:
    side = clips.decode_side or clips.augment.size * 8 // 7
    return _Noise(clips.sampling.frames * clips.sampling.stride, max(side, clips.augment.size))


def random_keyframes(rows: Rows) -> tuple[Rows, Boxes]:
    """Key frames in rows of `noise_rows`, with a person each that does what the row is of."""
    count = len(rows)
    each = np.arange(count + 1, dtype=np.int32)
    box = np.tile(np.array([0.3, 0.2, 0.7, 0.8], dtype=np.float32), (count, 1))
    labels = np.array([row.label for row in rows.rows], dtype=np.int32)
    boxes = Boxes(
        classes=rows.classes or (),
        row=each[:-1],
        frame=np.zeros(count, dtype=np.int32),
        time=None,
        starts=each,
        box=box,
        fractions=True,
        label_starts=each,
        labels=labels,
    )
    return rows, boxes


@dataclass(frozen=True)
class _Noise:
    """A reader of random pixels; see `data.readers.Reader`."""

    num_frames: int
    side: int
    fps: float = 25.0

    @property
    def size(self) -> tuple[int, int]:
        return self.side, self.side

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        shape = len(indices), self.side, self.side, 3
        return np.random.default_rng(len(indices)).integers(0, 256, shape, dtype=np.uint8)

    def times(self) -> np.ndarray:
        return np.arange(self.num_frames) / self.fps
