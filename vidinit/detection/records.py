"""Detections as people write them, a record each, read to columns."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from warnings import warn

import numpy as np

from ..errors import DataError, UsageError

Record = Mapping[str, Any]
"""A box ``{video, frame, label, box[, score][, track]}``, or a tube ``{video, label, frames, boxes
[, score]}``. ``box`` is x1, y1, x2, y2 in the same unit throughout, pixels or fractions."""

Side = Literal["truth", "found"]


@dataclass(frozen=True)
class FrameBoxes:
    """Boxes of frames in columns of one length.

    Attributes:
        video: name of the video of each.
        frame: number of the frame, int64 or float64.
        label: its class.
        box: x1, y1, x2, y2, float64 (N, 4).
        score: float64; zeros of true ones.
    """

    video: list[Hashable]
    frame: np.ndarray
    label: list[Hashable]
    box: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class Tube:
    """Boxes of one actor in frames of a video, and the action.

    Attributes:
        video: name of the video.
        label: its class.
        frames: numbers of its frames, rising, int64 (T,).
        boxes: x1, y1, x2, y2 in them, float64 (T, 4).
        score: how sure it is; 0 for a true one.
    """

    video: Hashable
    label: Hashable
    frames: np.ndarray
    boxes: np.ndarray
    score: float = 0.0


def listed(records: Iterable[Record], side: Side) -> list[Record]:
    """The records, which are read more than once, of a generator too.

    Raises:
        DataError: one of them is none.
    """
    single = isinstance(records, (str, bytes, Mapping))
    if single or not isinstance(records, Iterable):
        raise DataError(f"{side} is a {type(records).__name__}, not a list of records", _BOX)
    every = list(records)
    for place, record in enumerate(every):
        if not isinstance(record, Mapping):
            raise DataError(f"{side} {place}: {str(record)[:80]!r} is no record", _BOX)
    return every


def read_boxes(records: Sequence[Record], side: Side) -> FrameBoxes:
    """The boxes that records name.

    Args:
        records: of boxes of frames.
        side: which they are: of ``found`` each needs a score.

    Raises:
        DataError: a record lacks something, or a number in it is none.
    """
    frames = _column(records, "frame", side)
    try:
        numbers = np.array(frames)
    except ValueError:  # lists of several lengths
        numbers = np.zeros(0)
    wrong = numbers.shape != (len(records),) or numbers.dtype.kind not in "iuf"
    if len(records) and wrong:
        place = next((i for i, frame in enumerate(frames) if not _is_number(frame)), 0)
        raise DataError(
            f"{side} {place}: frame {frames[place]!r} is no number of a frame",
            "frames are numbered, the same way in truth and found",
        )
    scores = _floats(records, "score", side) if side == "found" else np.zeros(len(records))
    boxes = _floats(records, "box", side, 4)
    _check_numbers(numbers[:, None], "frame", side)
    _check_boxes(boxes, side)
    return FrameBoxes(
        names_of(records, "video", side), numbers, names_of(records, "label", side), boxes, scores
    )


def read_tubes(records: Sequence[Record], side: Side) -> list[Tube]:
    """The tubes that records name, their frames in order.

    Args:
        records: of tubes.
        side: which they are: of ``found`` each needs a score.

    Raises:
        DataError: a record lacks something, a number in it is none, or a tube has no frame, one
            twice, or not a box for each.
    """
    columns = [names_of(records, key, side) for key in ("video", "label")]
    columns += [_column(records, key, side) for key in ("frames", "boxes")]
    scores = _floats(records, "score", side) if side == "found" else np.zeros(len(records))
    tubes = []
    rows = zip(*columns, scores.tolist(), strict=True)
    for place, (video, label, frames, boxes, score) in enumerate(rows):
        try:
            numbers = np.asarray(frames, dtype=np.float64)
            corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        except (TypeError, ValueError) as error:
            raise DataError(f"{side} {place}: no tube ({error})", _TUBE) from error
        if numbers.ndim != 1 or not len(numbers) or len(numbers) != len(corners):
            raise DataError(
                f"{side} {place}: {numbers.size} frames and {len(corners)} boxes", _TUBE
            )
        whole = np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all()
        order = np.argsort(numbers, kind="stable")
        if not whole or (np.diff(numbers[order]) == 0).any():
            raise DataError(
                f"{side} {place}: frames are no whole numbers, or one is named twice", _TUBE
            )
        tubes.append(
            Tube(video, label, numbers[order].astype(np.int64), corners[order], float(score))
        )
    _check_boxes(np.concatenate([t.boxes for t in tubes]) if tubes else np.zeros((0, 4)), side)
    return tubes


_TUBE = "a tube is {video, label, score, frames: [...], boxes: [[x1, y1, x2, y2], ...]}"
_BOX = (
    "a box is {video, frame, label, box: [x1, y1, x2, y2], score}; "
    f"{_TUBE}; what is true has no score"
)


def excluded_frames(excluded: Iterable[Any]) -> set[tuple[Hashable, float]]:
    """The frames that do not count, from pairs (video, frame) or records with the two.

    Raises:
        UsageError: one is neither.
    """
    found = set()
    for one in excluded:
        try:
            given: Any = [one["video"], one["frame"]] if isinstance(one, Mapping) else one
            if isinstance(one, str):
                raise TypeError("a text of two letters is no pair")
            video, frame = given
            found.add((video, float(frame)))
        except (KeyError, TypeError, ValueError):
            raise UsageError(
                f"excluded: {one!r} is no frame", "it holds pairs of a video and a frame's number"
            ) from None
    return found


def numbered(names: Iterable[Hashable]) -> dict[Hashable, int]:
    """A number for each name, in their order, so that no number depends on who came first."""
    return {name: i for i, name in enumerate(sorted(set(names), key=_by_kind))}


def _by_kind(name: Any) -> tuple[str, Any]:
    """Numbers before texts, each in their own order."""
    is_number = isinstance(name, (int, float, np.number))
    return ("", name) if is_number else (type(name).__name__, name)


def _column(records: Sequence[Record], key: str, side: Side) -> list[Any]:
    try:
        return [record[key] for record in records]
    except KeyError:
        place = next(i for i, record in enumerate(records) if key not in record)
        raise DataError(f"{side} {place}: no {key} in {str(records[place])[:80]}", _BOX) from None


def names_of(records: Sequence[Record], key: str, side: Side) -> list[Hashable]:
    """A column of names, of which each is one: a person who does two things is two records.

    Raises:
        DataError: a record has none, or several.
    """
    column = _column(records, key, side)
    try:
        set(column)
    except TypeError:
        place = next(i for i, name in enumerate(column) if not isinstance(name, Hashable))
        raise DataError(
            f"{side} {place}: {key} is {column[place]!r}", "it is one name, a text or a number"
        ) from None
    return column


def _floats(records: Sequence[Record], key: str, side: Side, width: int = 0) -> np.ndarray:
    """A column of numbers, or of several in each record, as float64."""
    shape = (len(records), width) if width else (len(records),)
    values = _column(records, key, side)
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if not len(records):
        return np.zeros(shape)
    if numbers.shape != shape:
        wrong = next(i for i, value in enumerate(values) if not _has_shape(value, shape[1:]))
        wanted = f"{width} numbers" if width else "a number"
        raise DataError(f"{side} {wrong}: {key} is {values[wrong]!r}", f"{key} is {wanted}")
    _check_numbers(numbers.reshape(len(records), -1), key, side)
    return numbers


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    try:
        return np.array(value, dtype=np.float64).shape == shape
    except (TypeError, ValueError):
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _check_numbers(values: np.ndarray, what: str, side: Side) -> None:
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise DataError(f"{side} {wrong[0]}: {what} is not a number (nan or infinite)")


def _check_boxes(boxes: np.ndarray, side: Side) -> None:
    """Refuse what is no number; say that boxes end before they begin.

    Raises:
        DataError: a coordinate is not finite.
    """
    _check_numbers(boxes, "box", side)
    count = int((boxes[:, 2:] < boxes[:, :2]).any(axis=1).sum())
    if count:
        warn(
            f"{count} of {len(boxes)} boxes of {side} end before they begin and are empty: boxes "
            "are x1, y1, x2, y2, not x, y, width, height",
            stacklevel=4,
        )
