"""Video-AP: average precision of tubes, the boxes of one actor through a video."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ..errors import DataError
from .frames import as_result, check_names, class_precisions
from .linking import Linking, link_boxes
from .matching import pairs_within, right_ones
from .overlap import box_iou
from .protocols import ProtocolName, Thresholds, protocol_of, thresholds_of
from .records import (
    FrameBoxes,
    Record,
    Side,
    Tube,
    listed,
    names_of,
    numbered,
    read_boxes,
    read_tubes,
)


def video_ap(
    truth: Iterable[Record],
    found: Iterable[Record],
    *,
    iou: Thresholds = 0.5,
    protocol: ProtocolName = "voc",
) -> dict[str, Any]:
    """Average precision of the tubes of each class, and its mean.

    The IoU of two tubes is the mean IoU of their boxes in the frames that both have, times the
    share of these among the frames that either has. All else is as in `frame_ap`, with videos in
    place of frames; by ``act`` a tube that overlaps a better one of its class and video by more
    than 0.3 is dropped before.

    Args:
        truth: true tubes, ``{video, label, frames: [...], boxes: [[x1, y1, x2, y2], ...]}`` each;
            or boxes of frames as for `frame_ap`, of which those of the same ``video``, ``label``
            and ``track`` are one tube.
        found: tubes with a ``score``; or boxes of frames, which are joined by `link`.
        iou: least IoU of what is right, above 0 and up to 1; of several the mean is taken;
            ``"0.5:0.95"`` is 0.50, 0.55, ..., 0.95.
        protocol: ``voc`` or ``act``.

    Returns:
        ``{"mean": float, "classes": {label: float}}``, 0 to 1. Classes without truth are left out;
        a class of which nothing is found has 0.

    Raises:
        UsageError: an unknown protocol, or a threshold out of its range.
        DataError: a record lacks something or holds no number, there is no true tube, or boxes of
            a frame are not told apart by a track.
    """
    rules, thresholds = protocol_of(protocol), thresholds_of(iou)
    truths, founds = listed(truth, "truth"), listed(found, "found")
    true = _tracks(truths) if _are_boxes(truths, "truth") else read_tubes(truths, "truth")
    given = (
        link_boxes(read_boxes(founds, "found"), Linking())
        if _are_boxes(founds, "found")
        else read_tubes(founds, "found")
    )
    if not true:
        raise DataError("no true tube", "truth must hold one")
    labels = numbered(tube.label for tube in true)
    videos = numbered(tube.video for tube in [*true, *given])
    check_names([t.video for t in true], [t.video for t in given], "video")
    check_names(labels, [t.label for t in given], "class")
    given = [tube for tube in given if tube.label in labels]
    # Stable, so that tubes of one video and score keep their order.
    given.sort(key=lambda tube: (-tube.score, videos[tube.video]))
    if rules.nms is not None:
        given = _without_doubles(given, rules.nms, rules.pixel)

    def groups(tubes: Sequence[Tube]) -> tuple[np.ndarray, np.ndarray]:
        """Class of each, and its class and video as one number."""
        label = np.array([labels[tube.label] for tube in tubes], dtype=np.int64)
        video = np.array([videos[tube.video] for tube in tubes], dtype=np.int64)
        return label, label * len(videos) + video

    label, group = groups(given)
    true_label, true_group = groups(true)
    one, other = pairs_within(group, true_group)
    pairs = zip(one.tolist(), other.tolist(), strict=True)
    overlap = np.array([tube_iou(given[i], true[j], rules.pixel) for i, j in pairs])
    right = right_ones(one, other, overlap, len(given), thresholds, rules)
    precision = class_precisions(right, label, true_label, len(labels), rules)
    return as_result(labels, precision.mean(axis=0), None)


def tube_iou(first: Tube, second: Tube, pixel: float = 0.0) -> float:
    """Mean IoU of the boxes in the frames of both, times frames of both / frames of either.

    Args:
        first, second: tubes.
        pixel: added to each side of boxes, see `Protocol`.
    """
    if first.frames[0] > second.frames[-1] or second.frames[0] > first.frames[-1]:
        return 0.0
    both, one, other = np.intersect1d(
        first.frames, second.frames, assume_unique=True, return_indices=True
    )
    if not len(both):
        return 0.0
    either = len(first.frames) + len(second.frames) - len(both)
    overlap = box_iou(first.boxes[one], second.boxes[other], pixel)
    return float(overlap.mean() * (len(both) / either))


def _without_doubles(tubes: Sequence[Tube], most: float, pixel: float) -> list[Tube]:
    """Tubes, by falling score, that overlap no better one of their class and video by more."""
    kept: dict[tuple[Hashable, Hashable], list[Tube]] = {}
    result = []
    for tube in tubes:
        better = kept.setdefault((tube.video, tube.label), [])
        if all(tube_iou(other, tube, pixel) <= most for other in better):
            better.append(tube)
            result.append(tube)
    return result


def _are_boxes(records: Sequence[Record], side: Side) -> bool:
    """True for boxes of frames, False for tubes.

    Raises:
        DataError: they are some of each.
    """
    boxes = sum("box" in record and "boxes" not in record for record in records)
    if 0 < boxes < len(records):
        raise DataError(f"{side} has tubes and boxes of single frames", "give one of the two")
    return boxes > 0


def _tracks(records: Sequence[Record]) -> list[Tube]:
    """Boxes of frames as tubes, by their video, label and track."""
    boxes = read_boxes(records, "truth")
    tracks = names_of([{"track": None, **record} for record in records], "track", "truth")
    order = sorted(range(len(tracks)), key=_keys(boxes, tracks).__getitem__)
    tubes = []
    for _, group in groupby(order, key=lambda i: (boxes.video[i], boxes.label[i], tracks[i])):
        own = np.array(list(group))
        own = own[np.argsort(boxes.frame[own], kind="stable")]
        frames, first = boxes.frame[own], int(own[0])
        if (np.diff(frames) == 0).any():
            frame = frames[np.flatnonzero(np.diff(frames) == 0)[0]]
            raise DataError(
                f"truth: two boxes of class {boxes.label[first]!r} in frame {frame:g} of "
                f"{boxes.video[first]!r} are not told apart",
                "give each person a track, the same in all frames",
            )
        tubes.append(
            Tube(boxes.video[first], boxes.label[first], frames.astype(np.int64), boxes.box[own])
        )
    return tubes


def _keys(boxes: FrameBoxes, tracks: Sequence[Hashable]) -> list[tuple[int, int, int]]:
    videos, labels, actors = (numbered(n) for n in (boxes.video, boxes.label, tracks))
    return [
        (videos[video], labels[label], actors[track])
        for video, label, track in zip(boxes.video, boxes.label, tracks, strict=True)
    ]
