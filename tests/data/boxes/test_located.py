"""Times become frames, pixels fractions, and what lies elsewhere is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vidinit.data.boxes import Boxes
from vidinit.data.boxes.columns import offsets
from vidinit.data.boxes.located import locate
from vidinit.data.rows import Probe, Row
from vidinit.errors import DataError


def boxes_of(row, when, box=None, *, times=False, fractions=True):
    """A box a key frame, each with one label."""
    count = len(row)
    box = np.tile([0.25, 0.5, 0.75, 1.0], (count, 1)) if box is None else np.array(box)
    return Boxes(
        classes=("run",),
        row=np.array(row, np.int32),
        frame=None if times else np.array(when, np.int32),
        time=np.array(when, np.float64) if times else None,
        starts=offsets(np.ones(count, np.int64)),
        box=box.astype(np.float32),
        fractions=fractions,
        label_starts=offsets(np.ones(count, np.int64)),
        labels=np.zeros(count, np.int16),
    )


def row(frames=100, fps=25.0, height=240, width=320, path="a.mp4"):
    return Row(path, probe=Probe(frames, fps, height, width))


def test_pixels_become_fractions_of_their_own_video():
    boxes = boxes_of([0, 1], [0, 0], [[32, 24, 320, 240]] * 2, fractions=False)
    found = locate(boxes, [row(), row(height=480, width=640, path="b.mp4")])
    assert found.boxes.fractions and found.outside == 0 and found.origin is None
    assert found.boxes.box.tolist() == pytest.approx(np.array([
        [0.1, 0.1, 1, 1], [0.05, 0.05, 0.5, 0.5]
    ]))  # fmt: skip


def test_boxes_outside_the_picture_are_counted_and_kept():
    """Within a pixel and a half nothing is meant: a last pixel counted as an edge."""
    sides = [[0, 0, 321, 241], [-1, 0, 10, 10], [0, 0, 322, 240], [-9, 0, 10, 10], [0, 0, 9, 300]]
    boxes = boxes_of([0] * 5, range(5), sides, fractions=False)
    found = locate(boxes, [row()])
    assert found.outside == 3 and len(found.boxes) == 5


def test_frames_behind_the_end_and_videos_that_cannot_be_read():
    rows = [row(10), replace(row(path="b.mp4"), probe=None), row(20, path="c.mp4")]
    found = locate(boxes_of([0, 0, 0, 1, 2], [9, 10, 50, 0, 19]), rows)
    assert found.boxes.row.tolist() == [0, 2] and found.boxes.frame.tolist() == [9, 19]
    assert found.behind == (("a.mp4", 2),) and found.unread == 1


def test_times_are_rounded_to_frames():
    found = locate(boxes_of([0, 0, 0], [0, 0.05, 1.5], times=True), [row()])
    assert found.boxes.frame.tolist() == [0, 1, 38] and found.boxes.time is None
    assert found.origin == 0.0


def test_films_that_were_cut_at_900_seconds_are_found():
    """AVA's key frames are 902 to 1798 seconds of the film, its videos begin at 900."""
    seconds = [902, 1000, 1798]
    cut, whole = row(30 * 901, 30.0), row(30 * 7000, 30.0)
    found = locate(boxes_of([0] * 3, seconds, times=True), [cut])
    assert found.origin == 900.0 and found.boxes.frame.tolist() == [60, 3000, 26940]
    found = locate(boxes_of([0] * 3, seconds, times=True), [whole])
    assert found.origin == 0.0 and found.boxes.frame.tolist() == [27060, 30000, 53940]
    found = locate(boxes_of([0] * 3, seconds, times=True), [whole], origin=900.0)
    assert found.boxes.frame.tolist() == [60, 3000, 26940]


def test_times_of_frames_without_a_rate():
    with pytest.raises(DataError, match=r"frames/ has frames without a rate, .* give the boxes"):
        locate(boxes_of([0], [1], times=True), [row(fps=0.0, path="frames/")])


def test_key_frames_that_are_kept_keep_their_boxes_and_labels():
    boxes = Boxes(
        classes=("a", "b"),
        row=np.array([0, 0, 1], np.int32),
        frame=np.array([1, 4, 0], np.int32),
        time=None,
        starts=np.array([0, 2, 3, 4], np.int32),
        box=np.arange(16, dtype=np.float32).reshape(4, 4),
        fractions=False,
        label_starts=np.array([0, 1, 1, 3, 4], np.int32),
        labels=np.array([0, 0, 1, 1], np.int16),
        track=np.array([5, 6, 7, 8], np.int32),
        score=np.array([0.1, 0.2, 0.3, 0.4], np.float32),
    )
    kept = boxes.keys(np.array([False, True, True]))
    assert kept.row.tolist() == [0, 1] and kept.starts.tolist() == [0, 1, 2]
    assert kept.box.tolist() == boxes.box[2:].tolist() and kept.track.tolist() == [7, 8]
    assert kept.label_starts.tolist() == [0, 2, 3] and kept.labels.tolist() == [0, 1, 1]
    assert kept.key_of_box().tolist() == [0, 1] and kept.score.tolist() == pytest.approx([0.3, 0.4])
    assert boxes.keys(np.ones(3, bool)).nbytes == boxes.nbytes
