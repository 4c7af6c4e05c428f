"""Key frames with boxes for a report: true ones thin, found ones thick."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ...data.readers import VideoReadError, open_video
from ...detection.overlap import box_iou
from ...report.html import Section, figure
from ...report.pictures import still
from ...scoring.detections import Detections
from .draw import Drawn, draw_boxes, drawn_box, thickness

_SHOWN = 4  # best and worst key frames each
_SPREAD = 8  # key frames where there is no truth
_HEIGHT = 240  # of a picture, in pixels
_RIGHT = 0.5  # IoU

Key = tuple[int, int]
"""Row and frame of a key frame."""


def key_frame_sections(found: Detections) -> list[Section]:
    """The best and the worst key frames; without truth some of all.

    How good a key frame is: the mean, over the actions of its true boxes, of the score that the
    action has in the found box that overlaps best, by an IoU of 0.5 at least; 0 without one.

    Args:
        found: some of its videos are opened again; what cannot be read is left out.
    """
    rated = ratings(found)
    if not rated:
        keys = sorted({*zip(found.row.tolist(), found.frame.tolist(), strict=True)})
        places = np.unique(np.linspace(0, len(keys) - 1, min(_SPREAD, len(keys))).astype(int))
        body = _figures(found, [keys[i] for i in places])
        return [Section("Key frames", body, "Boxes with their best class.")] if body else []
    order = sorted(rated, key=lambda key: (-rated[key], key))
    half = min(_SHOWN, len(order) // 2) or 1
    sections = []
    for title, keys in (
        ("best", order[:half]),
        ("worst", order[::-1][: min(half, len(order) - half)]),
    ):
        body = _figures(found, keys, rated)
        if body:
            note = (
                "Thin white boxes are true, thick ones found, with their best class. In brackets: "
                "the mean score of the true actions, each in the box that overlaps best."
            )
            sections.append(Section(f"Key frames it does {title} in", body, note))
    return sections


def ratings(found: Detections) -> dict[Key, float]:
    """How good each key frame with a true action is, 0 to 1; see `key_frame_sections`."""
    truth = found.truth
    if truth is None or truth.frame is None:
        return {}
    places = {name: place for place, name in enumerate(found.classes)}
    own = _by_key(found)
    rated = {}
    for number in np.flatnonzero(np.diff(truth.starts)).tolist():
        first, stop = truth.starts[number : number + 2].tolist()
        key = int(truth.row[number]), int(truth.frame[number])
        boxes = own.get(key, np.zeros(0, dtype=np.int64))
        overlap = box_iou(
            truth.box[first:stop, None].astype(np.float64), found.box[boxes].astype(np.float64)
        )
        scores = []
        for box in range(first, stop):
            near = overlap[box - first]
            for label in truth.labels[truth.label_starts[box] : truth.label_starts[box + 1]]:
                place = places.get(truth.classes[label])
                hit = place is not None and len(near) and near.max() >= _RIGHT
                best = boxes[int(near.argmax())] if hit else -1
                scores.append(float(found.scores[best, place]) if hit else 0.0)
        if scores:
            rated[key] = float(np.mean(scores))
    return rated


def _by_key(found: Detections) -> dict[Key, np.ndarray]:
    """The boxes of each key frame."""
    groups: dict[Key, list[int]] = {}
    for box, key in enumerate(zip(found.row.tolist(), found.frame.tolist(), strict=True)):
        groups.setdefault(key, []).append(box)
    return {key: np.array(boxes, dtype=np.int64) for key, boxes in groups.items()}


def _figures(found: Detections, keys: Sequence[Key], rated: dict[Key, float] | None = None) -> str:
    """Pictures of key frames in a row."""
    own = _by_key(found)
    parts = []
    for key in keys:
        row, frame = key
        path = found.paths[row]
        whole = path if os.path.isabs(path) else os.path.join(found.folder, path)
        try:
            picture = open_video(whole).get([frame])[0]
        except VideoReadError:
            continue
        caption = f"{os.path.basename(path)}, frame {frame}"
        names = _true_names(found, key)
        if names:
            caption += f"\n{names}"
        if rated is not None:
            caption += f" ({rated[key]:.2f})"
        boxes = own.get(key, np.zeros(0, dtype=np.int64))
        drawn = _with_boxes(found, key, boxes, picture)
        parts.append(figure(still(drawn, label=f"boxes in {caption}"), caption))
    if not parts:
        return ""
    return '<div style="display: flex; flex-wrap: wrap; gap: 1rem">' + "\n".join(parts) + "</div>"


def _with_boxes(found: Detections, key: Key, boxes: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A key frame in the size in which it is shown, with its boxes."""
    height, width = picture.shape[:2]
    shape = _HEIGHT, max(1, round(width * _HEIGHT / height))
    large = np.asarray(Image.fromarray(picture).resize(shape[::-1], Image.Resampling.BICUBIC))
    size = np.array([shape[1], shape[0]] * 2)
    drawn = [
        drawn_box(found, box, found.box[box] * size, thickness(shape)) for box in boxes.tolist()
    ]
    truth = found.truth
    if truth is not None and truth.frame is not None:
        for number in np.flatnonzero((truth.row == key[0]) & (truth.frame == key[1])).tolist():
            first, stop = truth.starts[number : number + 2].tolist()
            drawn += [Drawn(tuple((box * size).tolist())) for box in truth.box[first:stop]]
    return draw_boxes(large, drawn)


def _true_names(found: Detections, key: Key) -> str:
    """The true actions of a key frame in words, empty without truth."""
    truth = found.truth
    if truth is None or truth.frame is None:
        return ""
    names: list[str] = []
    for number in np.flatnonzero((truth.row == key[0]) & (truth.frame == key[1])).tolist():
        first, stop = truth.label_starts[truth.starts[number : number + 2]].tolist()
        names += [truth.classes[label] for label in truth.labels[first:stop].tolist()]
    return f"true: {', '.join(names)}" if names else ""
