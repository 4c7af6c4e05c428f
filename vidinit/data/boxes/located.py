"""Boxes in the frames that a video really has: times become frames, pixels fractions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import DataError
from ..rows import Row
from .columns import Boxes

CUT_AT = 900.0
"""Second of the film at which the videos of AVA that most people have begin."""

_SLACK = 1.5  # pixels beyond the border that are rounding, or a last pixel counted as an edge


@dataclass(frozen=True)
class Located:
    """Boxes of the videos that can be read.

    Attributes:
        boxes: with frames, and in fractions.
        unread: key frames of videos that cannot be read, which are left out.
        behind: (path, key frames) of videos with key frames behind their end, left out too.
        outside: boxes that reach beyond the picture by more than a pixel; they are as they were.
        origin: seconds of the film at which the videos begin; None where frames were given.
    """

    boxes: Boxes
    unread: int
    behind: tuple[tuple[str, int], ...]
    outside: int
    origin: float | None


def locate(boxes: Boxes, rows: Sequence[Row], *, origin: float | None = None) -> Located:
    """Put boxes into the frames of their videos.

    The frame of a time t is round((t - origin) * rate), with halves to the even number.

    Args:
        boxes: of these rows.
        rows: with their probes; those without one cannot be read.
        origin: seconds of the film at which the videos begin; None: 0, or 900 where that alone puts
            the key frames into the videos.

    Raises:
        DataError: times are given of what has frames and no rate.
    """
    probes = [row.probe for row in rows]
    readable = np.array([probe is not None for probe in probes], dtype=bool)[boxes.row]
    kept = boxes.keys(readable)
    lengths = _of(kept, [0 if p is None else p.num_frames for p in probes])
    if kept.time is not None:
        rates = _of(kept, [0.0 if p is None else p.fps for p in probes])
        if len(rates) and not rates.all():
            path = rows[int(kept.row[np.flatnonzero(rates == 0)[0]])].path
            raise DataError(
                f"{path} has frames without a rate, and its boxes have times",
                "give the boxes' frames, or the video itself",
            )
        origin = _origin(kept.time, lengths / np.maximum(rates, 1e-9)) if origin is None else origin
        frame = np.round((kept.time - origin) * rates)
        kept = replace(kept, frame=np.clip(frame, -1, 2**31 - 1).astype(np.int32), time=None)
    assert kept.frame is not None
    inside = (kept.frame >= 0) & (kept.frame < lengths)
    late = np.bincount(kept.row[~inside], minlength=len(rows))
    behind = tuple((rows[i].path, int(late[i])) for i in np.flatnonzero(late).tolist())
    kept = kept.keys(inside)
    key = kept.key_of_box()
    widths = _of(kept, [0 if p is None else p.width for p in probes])[key]
    heights = _of(kept, [0 if p is None else p.height for p in probes])[key]
    size = np.stack([widths, heights, widths, heights], axis=1).astype(np.float32)
    box = kept.box if kept.fractions else kept.box / np.maximum(size, 1)
    beyond = np.maximum(-box, box - 1) * size
    outside = int((beyond > _SLACK).any(axis=1).sum())
    kept = replace(kept, box=box.astype(np.float32), fractions=True)
    return Located(kept, int((~readable).sum()), behind, outside, origin)


def _of(boxes: Boxes, values: Sequence[float]) -> np.ndarray:
    """Values of each key frame's video."""
    return np.array(values, dtype=np.float64)[boxes.row]


def _origin(time: np.ndarray, seconds: np.ndarray) -> float:
    """Where videos begin: at 900 s of the film if times are in them then, and are not without."""
    if len(time) and (time >= seconds).all() and (time >= CUT_AT).all():
        return CUT_AT if (time - CUT_AT < seconds).any() else 0.0
    return 0.0
