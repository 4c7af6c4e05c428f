"""Boxes of the key frames of videos, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..rows import Row


@dataclass(frozen=True)
class Boxes:
    """Boxes with their actions, by key frame, by video.

    A data set has half a million of them: columns, not objects. The boxes of key frame k are
    ``starts[k]`` to ``starts[k + 1]``, the labels of box m ``label_starts[m]`` to
    ``label_starts[m + 1]`` of ``labels``.

    Attributes:
        classes: names of the classes in order.
        row: which row of the data set each key frame is of, rising, int32 (K,).
        frame: its number from 0, int32 (K,); None where its time is known alone.
        time: seconds from the beginning of the video, float64 (K,), or of the film that the video
            was cut from; None where frames are known.
        starts: int32 (K + 1,).
        box: x1, y1, x2, y2, float32 (M, 4).
        fractions: of width and height, 0 to 1; else they are pixels.
        label_starts: int32 (M + 1,).
        labels: classes, int16 (L,); int32 where there are more of them.
        track: which person of its video a box is of, int32 (M,); None where nobody says.
        score: how sure a box is, float32 (M,); None where nobody says.
    """

    classes: tuple[str, ...]
    row: np.ndarray
    frame: np.ndarray | None
    time: np.ndarray | None
    starts: np.ndarray
    box: np.ndarray
    fractions: bool
    label_starts: np.ndarray
    labels: np.ndarray
    track: np.ndarray | None = None
    score: np.ndarray | None = None

    def __len__(self) -> int:
        """How many key frames there are."""
        return len(self.row)

    @property
    def nbytes(self) -> int:
        """Memory of all columns."""
        columns = (getattr(self, field.name) for field in fields(self))
        return sum(column.nbytes for column in columns if isinstance(column, np.ndarray))

    def key_of_box(self) -> np.ndarray:
        """The key frame that each box is of, int64 (M,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def boxes_by_class(self) -> dict[str, int]:
        """How many boxes each class has."""
        counts = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, counts, strict=True))

    def keys(self, keep: np.ndarray) -> Boxes:
        """The key frames that are kept, with their boxes.

        Args:
            keep: bool (K,).
        """
        counts = np.diff(self.starts)
        boxes = np.repeat(keep, counts)
        labels = np.diff(self.label_starts)
        return Boxes(
            self.classes,
            self.row[keep],
            None if self.frame is None else self.frame[keep],
            None if self.time is None else self.time[keep],
            offsets(counts[keep]),
            self.box[boxes],
            self.fractions,
            offsets(labels[boxes]),
            self.labels[np.repeat(boxes, labels)],
            None if self.track is None else self.track[boxes],
            None if self.score is None else self.score[boxes],
        )

    def records(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """A record for each label of each box, as `vidinit.detection` takes them.

        ``{video, frame, label, box: [x1, y1, x2, y2][, score][, track]}``. ``video`` is the path of
        its row, ``frame`` the number of the frame, or the time where that is known alone.

        Args:
            rows: the rows of the data set.
        """
        when = self.frame if self.frame is not None else self.time
        assert when is not None
        box = np.repeat(np.arange(len(self.box)), np.diff(self.label_starts))
        key = self.key_of_box()[box]
        columns: dict[str, list[Any]] = {
            "video": [rows[i].path for i in self.row[key].tolist()],
            "frame": when[key].tolist(),
            "label": [self.classes[i] for i in self.labels.tolist()],
            "box": self.box[box].tolist(),
        }
        if self.score is not None:
            columns["score"] = self.score[box].tolist()
        if self.track is not None:
            columns["track"] = self.track[box].tolist()
        return [dict(zip(columns, one, strict=True)) for one in zip(*columns.values(), strict=True)]


def offsets(counts: np.ndarray) -> np.ndarray:
    """Where each begins of successive things of which there are so many, and the end: int32."""
    found = np.zeros(len(counts) + 1, dtype=np.int32)
    np.cumsum(counts, out=found[1:])
    return found
