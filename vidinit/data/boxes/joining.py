"""Boxes of several files as one, and some of the boxes of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...errors import DataError, suggest
from ..rows import Row
from .columns import Boxes, offsets


def with_classes(boxes: Boxes, classes: Sequence[str], *, where: str) -> Boxes:
    """The same boxes with labels that index ``classes``, matched by name.

    Raises:
        DataError: a class with boxes in it is not among them; ``where`` is named as its place.
    """
    if boxes.classes == tuple(classes):
        return boxes
    place = {name: i for i, name in enumerate(classes)}
    moves = np.array([place.get(name, -1) for name in boxes.classes], dtype=np.int64)
    labels = moves[boxes.labels] if len(moves) else np.zeros(0, dtype=np.int64)
    if (labels < 0).any():
        name = boxes.classes[int(boxes.labels[np.flatnonzero(labels < 0)[0]])]
        hint = suggest(name, classes) or "training and validation must name the same classes"
        raise DataError(f"class '{name}' of {where} is unknown in training", hint)
    kind = np.int16 if len(classes) < 2**15 else np.int32
    return replace(boxes, classes=tuple(classes), labels=labels.astype(kind))


def of_boxes(boxes: Boxes, keep: np.ndarray, *, empty: bool = True) -> Boxes:
    """The boxes that are kept, in their key frames.

    Args:
        boxes: some.
        keep: bool (M,).
        empty: keep key frames without any box, too.
    """
    counts = np.bincount(boxes.key_of_box()[keep], minlength=len(boxes))
    labels = np.diff(boxes.label_starts)
    kept = replace(
        boxes,
        starts=offsets(counts),
        box=boxes.box[keep],
        label_starts=offsets(labels[keep]),
        labels=boxes.labels[np.repeat(keep, labels)],
        track=None if boxes.track is None else boxes.track[keep],
        score=None if boxes.score is None else boxes.score[keep],
    )
    return kept if empty else kept.keys(counts > 0)


def of_rows(boxes: Boxes, rows: Sequence[int]) -> Boxes:
    """The key frames of some rows, rising, which are then the rows of their own, from 0."""
    places = np.asarray(rows, dtype=np.int64)
    kept = boxes.keys(np.isin(boxes.row, places))
    return replace(kept, row=np.searchsorted(places, kept.row).astype(np.int32))


def joined(parts: Sequence[tuple[Sequence[Row], Boxes]]) -> tuple[tuple[Row, ...], Boxes]:
    """The videos and boxes of several files as those of one.

    Videos of the same path are one, and so are key frames of the same number; a box that two files
    name stays two boxes. Tracks of different files are different.

    Args:
        parts: rows and boxes of each, located (`located.locate`), with the same classes.
    """
    if len(parts) == 1:
        return tuple(parts[0][0]), parts[0][1]
    places: dict[str, int] = {}
    rows: list[Row] = []
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("row", "frame", "box", "counts", "track", "score", "keys", "labels")
    }
    tracks = 0
    for own_rows, boxes in parts:
        for row in own_rows:
            if row.path not in places:
                places[row.path] = len(rows)
                rows.append(row)
        moves = np.array([places[row.path] for row in own_rows], dtype=np.int64)
        key, none = boxes.key_of_box(), np.full(len(boxes.box), -1)
        assert boxes.frame is not None and boxes.fractions, "boxes are located first"
        key_row = moves[boxes.row] if len(moves) else np.zeros(0, dtype=np.int64)
        columns["keys"].append(np.stack([key_row, boxes.frame.astype(np.int64)], axis=1))
        columns["row"].append(key_row[key])
        columns["frame"].append(boxes.frame[key].astype(np.int64))
        columns["box"].append(boxes.box)
        columns["counts"].append(np.diff(boxes.label_starts))
        columns["labels"].append(boxes.labels)
        own = none if boxes.track is None else boxes.track
        columns["track"].append(np.where(own >= 0, own + tracks, -1))
        tracks = max(tracks, int(columns["track"][-1].max(initial=-1)) + 1)
        nobody = np.full(len(boxes.box), np.nan, dtype=np.float32)
        columns["score"].append(nobody if boxes.score is None else boxes.score)
    whole = {name: np.concatenate(arrays) for name, arrays in columns.items()}
    keys = np.unique(whole["keys"], axis=0)  # by row, then by frame
    key_number = keys[:, 0] * (2**31) + keys[:, 1]
    order = np.lexsort((whole["frame"], whole["row"]))
    number = np.searchsorted(key_number, whole["row"] * (2**31) + whole["frame"])
    starts = offsets(np.bincount(number, minlength=len(keys)))
    first, counts = offsets(whole["counts"]), whole["counts"][order]
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    labels = whole["labels"][np.repeat(first[:-1][order], counts) + within]
    track, score = whole["track"][order].astype(np.int32), whole["score"][order]
    return tuple(rows), Boxes(
        classes=parts[0][1].classes,
        row=keys[:, 0].astype(np.int32),
        frame=keys[:, 1].astype(np.int32),
        time=None,
        starts=starts,
        box=whole["box"][order],
        fractions=True,
        label_starts=offsets(counts),
        labels=labels,
        track=None if (track < 0).all() else track,
        score=None if np.isnan(score).all() else score.astype(np.float32),
    )
