"""Boxes of several files as one, and some of one."""

from __future__ import annotations

import numpy as np
import pytest

from vidinit.data.boxes import read_boxes
from vidinit.data.boxes.joining import joined, of_boxes, of_rows, with_classes
from vidinit.data.boxes.located import locate
from vidinit.data.rows import Probe, Row
from vidinit.errors import DataError

HEADER = "path,frame,x1,y1,x2,y2,label,track,score\n"


def located(write, name, lines):
    """The rows and boxes of a csv whose videos have 50 frames of 100 x 200 pixels."""
    (part,) = read_boxes(write(name, HEADER + lines), find=False)
    probe = Probe(50, 25.0, 100, 200)
    rows = [Row(row.path, probe=probe) for row in part.rows.rows]
    return rows, locate(part.boxes, rows).boxes


def flat(rows, boxes):
    """(video, frame, corners in pixels, actions, track, score) of each box, in order."""
    found = []
    for record in boxes.records(rows):
        corners = [round(c * s) for c, s in zip(record["box"], [200, 100] * 2, strict=True)]
        name = record["video"].rpartition("/")[2]
        score = record.get("score", np.nan)
        found.append((name, record["frame"], corners, record["label"], record.get("track"), score))
    return found


def test_two_files_of_the_same_videos_are_one(write) -> None:
    first = located(write, "truth.csv", "b.mp4,7,10,20,30,40,run,1,\na.mp4,3,0,0,50,60,walk,2,\n")
    second = located(write, "found.csv", "a.mp4,3,1,1,51,61,run,,0.5\nb.mp4,2,5,5,9,9,walk,,0.25\n")
    second = second[0], with_classes(second[1], first[1].classes, where="found.csv")
    rows, boxes = joined([first, second])
    assert [row.path.rpartition("/")[2] for row in rows] == ["b.mp4", "a.mp4"]
    assert boxes.row.tolist() == [0, 0, 1] and boxes.frame.tolist() == [2, 7, 3]
    found = flat(rows, boxes)
    assert [one[:5] for one in found] == [
        ("b.mp4", 2, [5, 5, 9, 9], "walk", -1),
        ("b.mp4", 7, [10, 20, 30, 40], "run", first[1].track[0]),
        ("a.mp4", 3, [0, 0, 50, 60], "walk", first[1].track[1]),
        ("a.mp4", 3, [1, 1, 51, 61], "run", -1),
    ]
    assert [one[5] for one in found][::3] == [0.25, 0.5]
    assert np.isnan([one[5] for one in found][1:3]).all()


def test_labels_are_matched_by_name_and_a_foreign_one_is_named(write) -> None:
    rows, boxes = located(write, "a.csv", "a.mp4,1,0,0,9,9,walk,,\na.mp4,1,3,3,9,9,run,,\n")
    moved = with_classes(boxes, ("jump", "walk", "run"), where="a.csv")
    assert [one["label"] for one in moved.records(rows)] == ["walk", "run"]
    with pytest.raises(DataError, match=r"class 'run' of a\.csv is unknown in training"):
        with_classes(boxes, ("walk", "ran"), where="a.csv")


def test_some_boxes_and_the_key_frames_of_some_rows(write) -> None:
    lines = "a.mp4,1,0,0,9,9,walk;run,,\na.mp4,1,3,3,9,9,,,\nb.mp4,4,0,0,5,5,run,,\n"
    rows, boxes = located(write, "a.csv", lines)
    only = of_boxes(boxes, np.array([False, True, True]))
    assert (
        len(only) == 2
        and len(only.box) == 2
        and only.labels.tolist() == [boxes.classes.index("run")]
    )
    gone = of_boxes(boxes, np.array([True, True, False]), empty=False)
    assert len(gone) == 1 and [r["label"] for r in gone.records(rows)] == ["run", "walk"]
    kept = of_boxes(boxes, np.array([True, True, False]))
    assert len(kept) == 2 and np.diff(kept.starts).tolist() == [2, 0]
    second = of_rows(boxes, [1])
    assert second.row.tolist() == [0] and second.frame.tolist() == [4]
