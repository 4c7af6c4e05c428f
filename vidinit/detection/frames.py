"""Frame-AP: average precision of boxes in frames."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import Any
from warnings import warn

import numpy as np

from ..errors import DataError, UsageError
from .matching import average_precision, pairs_within, right_ones
from .overlap import box_iou
from .protocols import Protocol, ProtocolName, Thresholds, protocol_of, thresholds_of
from .records import FrameBoxes, Record, excluded_frames, listed, numbered, read_boxes

_PAIRS = 2_000_000  # of boxes compared in one go


def frame_ap(
    truth: Iterable[Record],
    found: Iterable[Record],
    *,
    iou: Thresholds = 0.5,
    protocol: ProtocolName = "voc",
    classes: Iterable[Hashable] | None = None,
    excluded: Iterable[Any] = (),
) -> dict[str, Any]:
    """Average precision of the boxes of each class, and its mean.

    The boxes of a class in all frames are taken by falling score (equal ones by video, frame, and
    their order in the frame). One is right if a true box of its frame and class has an IoU of at
    least ``iou`` with it and is not taken by a better one. Boxes in frames without truth are false.

    - ``voc``: coordinates are continuous; of all true boxes the one of largest IoU counts; AP is
      the area under the envelope (PASCAL VOC 2010; AVA, MultiSports).
    - ``act``: corners are pixels that belong to the box, so that each side is 1 longer; of the free
      true boxes the one of largest IoU counts; AP is the area under straight lines between the
      points of the curve (Kalogeiton et al., ICCV 2017; JHMDB, UCF101-24). Boxes must be in pixels.

    Args:
        truth: true boxes, ``{video, frame, label, box: [x1, y1, x2, y2]}`` each.
        found: detections, the same with a ``score``. One of several classes is as many records.
        iou: least IoU of what is right, above 0 and up to 1; of several the mean is taken;
            ``"0.5:0.95"`` is 0.50, 0.55, ..., 0.95.
        protocol: ``voc`` or ``act``.
        classes: names of those that count; None: all of the truth.
        excluded: frames that do not count, neither their truth nor what is found in them: pairs
            (video, frame), as AVA has them.

    Returns:
        ``{"mean": float, "classes": {label: float}}``, 0 to 1. Classes without truth are left out;
        a class of which nothing is found has 0.

    Raises:
        UsageError: an unknown protocol, a threshold out of its range, or classes that are no list.
        DataError: a record lacks something or holds no number, or no true box counts.
    """
    rules, thresholds = protocol_of(protocol), thresholds_of(iou)
    true = read_boxes(listed(truth, "truth"), "truth")
    given = read_boxes(listed(found, "found"), "found")
    left_out = excluded_frames(excluded)
    if isinstance(classes, str):
        raise UsageError(f"classes is {classes!r}", "it is a list of names")
    wanted = None if classes is None else list(classes)
    keep_true = _counted(true, None if wanted is None else set(wanted), left_out)
    check_names(true.video, given.video, "video")
    labels = numbered(true.label[i] for i in np.flatnonzero(keep_true).tolist())
    if not labels:
        raise DataError("no true box counts", "truth, less what is excluded, must hold one")
    check_names(labels, given.label, "class")
    keep_found = _counted(given, set(labels), left_out)
    videos = numbered([*true.video, *given.video])
    frames = np.unique(np.concatenate([true.frame, given.frame]).astype(np.float64))

    def group_of(boxes: FrameBoxes, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Class, video and frame of the boxes that are kept, by their numbers."""
        places = np.flatnonzero(keep).tolist()
        label = np.array([labels[boxes.label[i]] for i in places], dtype=np.int64)
        video = np.array([videos[boxes.video[i]] for i in places], dtype=np.int64)
        return label, video, np.searchsorted(frames, boxes.frame[keep])

    precision = frame_precisions(
        (*group_of(true, keep_true), true.box[keep_true]),
        (*group_of(given, keep_found), given.box[keep_found]),
        given.score[keep_found],
        len(labels),
        thresholds,
        rules,
    ).mean(axis=0)
    return as_result(labels, precision, wanted)


Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Number of the class, of the video and of the frame, int64 (N,) each, and the box (N, 4)."""


def frame_precisions(
    truth: Columns,
    found: Columns,
    scores: np.ndarray,
    classes: int,
    thresholds: np.ndarray,
    protocol: Protocol,
) -> np.ndarray:
    """Average precision of boxes in columns.

    Args:
        truth, found: class, video, frame and box of each.
        scores: of what is found.
        classes: how many there are.
        thresholds: least IoU of what is right, (n,).
        protocol: what may be matched with what, and which area is meant.

    Returns:
        float64 (n, classes); not a number for a class without truth.
    """
    label, video, frame, box = found
    # Sorts are stable: what is equal in all of these keeps its order.
    order = np.lexsort((frame, video, -scores))
    label, video, frame, box = (column[order] for column in (label, video, frame, box))
    frames = int(max(frame.max(initial=0), truth[2].max(initial=0))) + 1
    videos = int(max(video.max(initial=0), truth[1].max(initial=0))) + 1
    group = (label * videos + video) * frames + frame
    true_group = (truth[0] * videos + truth[1]) * frames + truth[2]
    one, other = pairs_within(group, true_group)
    overlap = np.empty(len(one))
    for first in range(0, len(one), _PAIRS):
        part = slice(first, first + _PAIRS)
        overlap[part] = box_iou(box[one[part]], truth[3][other[part]], protocol.pixel)
    right = right_ones(one, other, overlap, len(label), thresholds, protocol)
    return class_precisions(right, label, truth[0], classes, protocol)


def class_precisions(
    right: np.ndarray,
    label: np.ndarray,
    true_label: np.ndarray,
    classes: int,
    protocol: Protocol,
) -> np.ndarray:
    """Average precision of each class.

    Args:
        right: which detections are, by falling score: bool (n, N).
        label, true_label: class of each detection and of each true one.
        classes: how many there are.
        protocol: which area is meant.

    Returns:
        float64 (n, classes); not a number for a class without truth.
    """
    totals = np.bincount(true_label, minlength=classes)
    order = np.argsort(label, kind="stable")
    borders = np.searchsorted(label[order], np.arange(classes + 1))
    precision = np.full((len(right), classes), np.nan)
    for place in np.flatnonzero(totals).tolist():
        own = right[:, order[borders[place] : borders[place + 1]]]
        precision[:, place] = average_precision(own, int(totals[place]), protocol)
    return precision


def as_result(
    labels: dict[Hashable, int], precision: np.ndarray, classes: Iterable[Hashable] | None
) -> dict[str, Any]:
    """Mean and classes, these in the order that was asked for, else sorted."""
    order = labels if classes is None else list(dict.fromkeys(classes))
    return {
        "mean": float(precision.mean()),
        "classes": {name: float(precision[labels[name]]) for name in order if name in labels},
    }


def check_names(true: Collection[Hashable], given: Collection[Hashable], what: str) -> None:
    """Say that truth and detections have no name in common, which is never meant."""
    if true and given and set(true).isdisjoint(given):
        first, second = next(iter(true)), next(iter(given))
        warn(
            f"no {what} of found is in truth, so that nothing is right: {what} {first!r} in truth, "
            f"{second!r} in found",
            stacklevel=3,
        )


def _counted(
    boxes: FrameBoxes, classes: set[Hashable] | None, excluded: set[tuple[Hashable, float]]
) -> np.ndarray:
    """Which boxes are of these classes and of frames that are not excluded, bool (N,)."""
    keep = np.ones(len(boxes.label), dtype=bool)
    if classes is not None:
        keep &= np.fromiter((name in classes for name in boxes.label), bool, len(keep))
    if excluded:
        frames = zip(boxes.video, boxes.frame.tolist(), strict=True)
        keep &= np.fromiter((frame not in excluded for frame in frames), bool, len(keep))
    return keep
