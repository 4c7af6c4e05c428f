"""How good detections are: frame-AP, and video-AP of the tubes that they are linked to.

The definitions are those of `vidinit.detection`. No torch is imported here.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np

from ..config import DetectScoring
from ..data.boxes.columns import Boxes
from ..data.rows import Row
from ..detection import video_ap
from ..detection.frames import frame_precisions
from ..detection.linking import Linking, link_boxes, tube_record
from ..detection.protocols import protocol_of, thresholds_of
from ..detection.records import FrameBoxes
from ..errors import DataError, suggest
from .detections import Detections

WATCH = "frame_ap"
"""The metric that decides which epoch of a training is best: frame-AP at IoU 0.5."""

USUAL = ("0.2", "0.5", "0.75", "0.5:0.95")
"""IoU thresholds that tables of action detection have."""


def frame_scores(found: Detections, how: DetectScoring) -> dict[str, Any]:
    """Frame-AP of detections against their truth.

    Returns:
        ``{frame_ap, frame_ap_at: {threshold: mean}, by_class: {name: {boxes, frame_ap}}}``:
        ``frame_ap`` at ``how.iou``, ``boxes`` of the truth. Classes without a true box are left
        out; ``frame_ap`` is what `vidinit.detection.frame_ap` gives.

    Raises:
        DataError: there is no true box with an action.
    """
    found = reliable(found, how.min_score)
    truth = _truth_of(found)
    counts = np.bincount(truth.labels, minlength=len(truth.classes))
    present = np.flatnonzero(counts).tolist()
    if not present:
        raise DataError(
            f"no true box of {found.data} has an action", "boxes are scored against such"
        )
    places = class_places(found.classes, truth.classes, present, found.data)
    names = list(dict.fromkeys([*USUAL, f"{how.iou:g}"]))
    groups = {name: thresholds_of(name) for name in names}
    every = np.unique(np.concatenate(list(groups.values())))
    # The order of names, not of rows: what scores alike is then in the order of `frame_ap`.
    rank = np.empty(len(found.paths), dtype=np.int64)
    rank[np.argsort(np.array(found.paths), kind="stable")] = np.arange(len(found.paths))
    box_of = np.repeat(np.arange(len(truth.box)), np.diff(truth.label_starts))
    key = truth.key_of_box()[box_of]
    assert truth.frame is not None
    true_row, true_frame = truth.row[key], truth.frame[key].astype(np.int64)
    true_box, own_box = truth.box[box_of].astype(np.float64), found.box.astype(np.float64)
    if protocol_of(how.protocol).pixel:
        true_box = found.in_pixels(true_row, true_box)
        own_box = found.in_pixels(found.row, own_box)
    zeros = np.zeros(len(found), dtype=np.int64)
    own = (zeros, rank[found.row], found.frame.astype(np.int64), own_box)
    precision = np.empty((len(every), len(present)))
    for column, (label, place) in enumerate(zip(present, places, strict=True)):
        mine = truth.labels == label
        true = (
            np.zeros(int(mine.sum()), dtype=np.int64),
            rank[true_row[mine]],
            true_frame[mine],
            true_box[mine],
        )
        scores = found.scores[:, place].astype(np.float64)
        precision[:, column] = frame_precisions(
            true, own, scores, 1, every, protocol_of(how.protocol)
        )[:, 0]
    by_name = {
        name: precision[np.searchsorted(every, values)].mean(axis=0)
        for name, values in groups.items()
    }
    first = by_name[f"{how.iou:g}"]
    return {
        WATCH: float(first.mean()),
        "frame_ap_at": {name: float(value.mean()) for name, value in by_name.items()},
        "by_class": {
            truth.classes[label]: {"boxes": int(counts[label]), WATCH: float(value)}
            for label, value in zip(present, first, strict=True)
        },
    }


def video_scores(found: Detections, how: DetectScoring) -> dict[str, Any]:
    """Video-AP of the tubes that detections are linked to.

    Returns:
        ``{video_ap, video_ap_at: {threshold: mean}, tubes}``, ``video_ap`` at ``how.iou``; or
        ``{no_video_ap: why}`` where the truth has no tubes: its boxes have no tracks, or its key
        frames lie too far apart to be linked.
    """
    found = reliable(found, how.min_score)
    truth = _truth_of(found)
    if truth.track is None:
        return {"no_video_ap": "the true boxes have no tracks"}
    step = _steps(truth)
    if step > how.gap + 1:
        return {"no_video_ap": f"key frames are more than {how.gap} frames apart"}
    rows = [Row(path) for path in found.paths]
    known = bool(len(found.sizes)) and bool((found.sizes > 0).all())
    true = truth.records(rows)
    if known:
        which = np.repeat(np.arange(len(truth.box)), np.diff(truth.label_starts))
        pixels = found.in_pixels(truth.row[truth.key_of_box()[which]], truth.box[which])
        true = [{**one, "box": box} for one, box in zip(true, pixels.tolist(), strict=True)]
    present = np.unique(truth.labels).tolist()
    places = class_places(found.classes, truth.classes, present, found.data)
    # Class by class and in columns: as records, all scores of a data set would take gigabytes.
    videos: list[Hashable] = [found.paths[i] for i in found.row.tolist()]
    box = found.in_pixels(found.row, found.box) if known else found.box.astype(np.float64)
    how_linked = Linking(iou=how.link_iou, gap=how.gap, trim=how.trim)
    tubes = []
    for place in places:
        labels: list[Hashable] = [found.classes[place]] * len(found)
        scores = found.scores[:, place].astype(np.float64)
        own = link_boxes(FrameBoxes(videos, found.frame, labels, box, scores), how_linked)
        tubes += [tube_record(tube) for tube in own]
    if step > 1:
        tubes = _in_key_frames(tubes, found)
    names = list(dict.fromkeys([*USUAL, f"{how.iou:g}"]))
    values = dict.fromkeys(names, 0.0)
    if tubes:
        values = {
            name: video_ap(true, tubes, iou=name, protocol=how.protocol)["mean"] for name in names
        }
    return {"video_ap": values[f"{how.iou:g}"], "video_ap_at": values, "tubes": len(tubes)}


def _in_key_frames(tubes: list[dict[str, Any]], found: Detections) -> list[dict[str, Any]]:
    """The tubes without the frames between key frames, which linking has filled.

    True tubes have no boxes there, as nobody has looked.
    """
    truth = _truth_of(found)
    assert truth.frame is not None
    looked = {
        (found.paths[row], frame)
        for rows, frames in ((truth.row, truth.frame), (found.row, found.frame))
        for row, frame in zip(rows.tolist(), frames.tolist(), strict=True)
    }
    kept = []
    for tube in tubes:
        pairs = zip(tube["frames"], tube["boxes"], strict=True)
        own = [(f, box) for f, box in pairs if (tube["video"], f) in looked]
        frames, boxes = zip(*own, strict=True)  # it has frames in which it was found
        kept.append({**tube, "frames": list(frames), "boxes": list(boxes)})
    return kept


def reliable(found: Detections, least: float) -> Detections:
    """Without boxes whose own score is lower; those without one stay."""
    keep = ~(found.person < least)
    if keep.all():
        return found
    columns = {name: getattr(found, name)[keep] for name in _COLUMNS}
    return replace(found, **columns)


_COLUMNS = ("row", "frame", "box", "scores", "person")


def class_places(
    classes: tuple[str, ...], names: tuple[str, ...], used: list[int], where: str
) -> list[int]:
    """Where the classes of the truth stand among those of the scores.

    Args:
        classes: of the scores.
        names: of the truth.
        used: which of them have boxes.
        where: the data, for messages.

    Raises:
        DataError: the model does not know one of them.
    """
    known = {name: place for place, name in enumerate(classes)}
    for label in used:
        if names[label] not in known:
            hint = suggest(names[label], classes) or f"it knows {len(classes)}, {classes[0]} first"
            raise DataError(f"class '{names[label]}' of {where} is unknown to the model", hint)
    return [known[names[label]] for label in used]


def _truth_of(found: Detections) -> Boxes:
    if found.truth is None:
        raise DataError(f"{found.data or 'the file'} has no true boxes to score against")
    return found.truth


def _steps(truth: Boxes) -> int:
    """Frames from one key frame of a track to the next, the median; 1 where no track has two."""
    assert truth.track is not None and truth.frame is not None
    key = truth.key_of_box()
    row, frame, track = truth.row[key], truth.frame[key].astype(np.int64), truth.track
    order = np.lexsort((frame, track, row))
    row, frame, track = row[order], frame[order], track[order]
    same = (row[1:] == row[:-1]) & (track[1:] == track[:-1]) & (frame[1:] > frame[:-1])
    steps = np.diff(frame)[same]
    return int(np.median(steps)) if len(steps) else 1
