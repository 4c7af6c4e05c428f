"""Boxes of successive frames joined to tubes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from .overlap import best_boxes, box_iou
from .records import FrameBoxes, Record, Tube, listed, numbered, read_boxes


@dataclass(frozen=True)
class Linking:
    """How boxes are joined; `link` says what each setting does."""

    iou: float = 0.3
    gap: int = 5
    keep: int = 10
    nms: float = 0.3
    min_frames: int = 1
    min_score: float = 0.0
    trim: float | None = None
    smooth: int = 15


def link(
    found: Iterable[Record],
    *,
    iou: float = Linking.iou,
    gap: int = Linking.gap,
    keep: int = Linking.keep,
    nms: float = Linking.nms,
    min_frames: int = Linking.min_frames,
    min_score: float = Linking.min_score,
    trim: float | None = Linking.trim,
    smooth: int = Linking.smooth,
) -> list[dict[str, Any]]:
    """Join the boxes of each class and video to tubes, frame by frame.

    The online linking of Kalogeiton et al. ("Action Tubelet Detector", ICCV 2017) with tubelets of
    one frame: open tubes, by falling mean score, take the box of the highest score that overlaps
    their last one; the rest of the boxes begin tubes of their own.

    Args:
        found: detections, ``{video, frame, label, box: [x1, y1, x2, y2], score}`` each.
        iou: least IoU of a tube's last box and the next, 0 to 1.
        gap: frames that may be missing between the two; they get boxes on straight lines between
            them. A tube for which more are missing has ended.
        keep: boxes of a class that a frame has at most, the best ones.
        nms: boxes that overlap a better one of their class and frame by more are left out.
        min_frames: tubes of fewer frames are dropped.
        min_score: tubes of a lower score are dropped.
        trim: cut tubes to the frames whose smoothed score is at least this, for videos that show
            more than the action; a tube may become several, or none. None: as they are.
        smooth: frames, centered, over which the mean is taken for that.

    Returns:
        ``{video, label, score, frames: [...], boxes: [[x1, y1, x2, y2], ...]}`` each, by video,
        class and first frame; ``score`` is the mean over the boxes that were found.

    Raises:
        UsageError: a number is out of its range.
        DataError: a record lacks something or holds no number, or a frame is no whole number.
    """
    boxes = read_boxes(listed(found, "found"), "found")
    how = Linking(iou, gap, keep, nms, min_frames, min_score, trim, smooth)
    return [tube_record(tube) for tube in link_boxes(boxes, how)]


def tube_record(tube: Tube) -> dict[str, Any]:
    """A tube as `link` gives it."""
    return {
        "video": tube.video,
        "label": tube.label,
        "score": tube.score,
        "frames": tube.frames.tolist(),
        "boxes": tube.boxes.tolist(),
    }


def link_boxes(boxes: FrameBoxes, how: Linking) -> list[Tube]:
    """`link` of boxes in columns, to tubes."""
    for name, value in (("iou", how.iou), ("nms", how.nms)):
        if not 0 <= value <= 1:
            raise UsageError(f"{name} is {value}", "it must lie between 0 and 1")
    whole = (("gap", how.gap, 0), ("keep", how.keep, 1), ("smooth", how.smooth, 1))
    for name, number, least in whole:
        if number < least:
            raise UsageError(f"{name} is {number}", f"it must be at least {least}")
    videos, labels = numbered(boxes.video), numbered(boxes.label)
    video = np.array([videos[name] for name in boxes.video], dtype=np.int64)
    label = np.array([labels[name] for name in boxes.label], dtype=np.int64)
    frames = boxes.frame.astype(np.int64)
    if (frames != boxes.frame).any():
        raise UsageError("frames to be linked are no whole numbers", "give the frames' numbers")
    order = np.lexsort((frames, label, video))
    group = video[order] * max(1, len(labels)) + label[order]
    borders = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    tubes: list[Tube] = []
    for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        own = order[first:last]
        which, action = boxes.video[own[0]], boxes.label[own[0]]
        for frame, box, score in _linked(frames[own], boxes.box[own], boxes.score[own], how):
            tubes += _finished(which, action, frame, box, score, how)
    return [t for t in tubes if len(t.frames) >= how.min_frames and t.score >= how.min_score]


class _Open:
    """A tube that may go on: its frames, boxes and scores so far."""

    def __init__(self, frame: int, box: np.ndarray, score: float) -> None:
        self.frames, self.boxes, self.scores = [frame], [box], [score]
        self.total = score

    def add(self, frame: int, box: np.ndarray, score: float) -> None:
        self.frames.append(frame)
        self.boxes.append(box)
        self.scores.append(score)
        self.total += score

    @property
    def mean(self) -> float:
        return self.total / len(self.scores)


def _linked(
    frames: np.ndarray, boxes: np.ndarray, scores: np.ndarray, how: Linking
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Frames, boxes and scores of the tubes of a class in a video, in the order of their begin."""
    ended: list[_Open] = []
    running: list[_Open] = []
    numbers, starts = np.unique(frames, return_index=True)
    for frame, first, last in zip(
        numbers.tolist(), starts.tolist(), [*starts[1:].tolist(), len(frames)], strict=True
    ):
        ended += [tube for tube in running if frame - tube.frames[-1] - 1 > how.gap]
        running = [tube for tube in running if frame - tube.frames[-1] - 1 <= how.gap]
        best = first + best_boxes(boxes[first:last], scores[first:last], how.nms, how.keep)
        running.sort(key=lambda tube: -tube.mean)
        free = np.ones(len(best), dtype=bool)
        if running:
            lasts = np.stack([tube.boxes[-1] for tube in running])
            near = box_iou(lasts[:, None], boxes[best][None]) >= how.iou
            for tube, candidates in zip(running, near, strict=True):
                places = np.flatnonzero(candidates & free)
                if len(places):  # best boxes are by falling score
                    free[places[0]] = False
                    place = best[places[0]]
                    tube.add(frame, boxes[place], float(scores[place]))
        running += [_Open(frame, boxes[i], float(scores[i])) for i in best[free].tolist()]
    tubes = sorted([*ended, *running], key=lambda tube: tube.frames[0])
    return [(np.array(t.frames), np.stack(t.boxes), np.array(t.scores)) for t in tubes]


def _finished(
    video: Hashable,
    label: Hashable,
    frames: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    how: Linking,
) -> list[Tube]:
    """The tube with the frames that it lacks, or the parts of it that are left."""
    every = np.arange(frames[0], frames[-1] + 1)
    filled = np.stack([np.interp(every, frames, side) for side in boxes.T], axis=1)
    if how.trim is None:
        return [Tube(video, label, every, filled, float(scores.mean()))]
    weights = np.ones(min(how.smooth, 2 * len(every) - 1))
    line = np.interp(every, frames, scores)
    total = np.convolve(line, weights)[(len(weights) - 1) // 2 :][: len(every)]
    count = np.convolve(np.ones(len(every)), weights)[(len(weights) - 1) // 2 :][: len(every)]
    high = np.concatenate([[False], total / count >= how.trim, [False]])
    edges = np.flatnonzero(high[1:] != high[:-1])
    parts = []
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        own = (frames >= every[first]) & (frames < every[first] + last - first)
        # A part without a box that was found is one that was filled in only.
        if own.any():
            part = slice(first, last)
            parts.append(Tube(video, label, every[part], filled[part], float(scores[own].mean())))
    return parts
