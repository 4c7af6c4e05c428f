"""A csv of one's own."""

from __future__ import annotations

import numpy as np
import pytest
from data.boxes.conftest import plain

from vidinit.data.boxes import read_boxes, try_boxes
from vidinit.detection import frame_ap
from vidinit.errors import DataError, UsageError

HEADER = "path,frame,x1,y1,x2,y2,label,track,score,split\n"


def test_rows_are_boxes_and_equal_boxes_have_several_actions(write, one):
    text = (
        "path,frame,x1,y1,x2,y2,label,track\n"
        "b.mp4,7,10,20,30,40.5,walk,1\n"
        "a.mp4,3,1,2,3,4,jump;run,1\n"
        "b.mp4,7,10,20,30,40.5,talk,1\n"
        "b.mp4,7,10,20,30,40.5,walk,2\n"  # another person in the same place
        "b.mp4,2,5,5,6,6,,3\n"
    )
    part, said = one(write("boxes.csv", text))
    assert plain(part) == [
        ("b.mp4", 2, [5, 5, 6, 6], ()),
        ("b.mp4", 7, [10, 20, 30, 40.5], ("talk", "walk")),
        ("b.mp4", 7, [10, 20, 30, 40.5], ("walk",)),
        ("a.mp4", 3, [1, 2, 3, 4], ("jump", "run")),
    ]
    boxes = part.boxes
    assert part.name == "all" and not boxes.fractions and boxes.score is None
    assert boxes.classes == ("jump", "run", "talk", "walk")
    assert boxes.track.tolist() == [2, 0, 1, 0] and boxes.frame.dtype == np.int32
    assert part.rows.classes is None and [row.label for row in part.rows.rows] == [None, None]
    assert "boxes in pixels, frames from 0" in said
    assert boxes.boxes_by_class() == {"jump": 1, "run": 1, "talk": 1, "walk": 2}


def test_times_fractions_scores_and_parts(write):
    text = (
        "path,time,x1,y1,x2,y2,label,score,split\n"
        "a.mp4,1.5,0,0.25,1,0.5,run,0.75,train\n"
        "b.mp4,0,0,0,1,1,jump,0.5,validation\n"
    )
    with pytest.warns(UserWarning, match="boxes in fractions of width and height, times from 0"):
        train, val = read_boxes(write("boxes.csv", text), find=False)
    assert (train.name, val.name) == ("train", "val")
    assert plain(train) == [("a.mp4", 1.5, [0, 0.25, 1, 0.5], ("run",))]
    assert train.boxes.fractions and train.boxes.frame is None
    assert train.boxes.score.tolist() == [0.75] and val.boxes.score.tolist() == [0.5]
    assert train.boxes.classes == val.boxes.classes == ("jump", "run")


def test_fractions_beyond_the_picture_are_not_taken_for_pixels(write):
    text = "path,frame,x1,y1,x2,y2,label\na.mp4,0,0.5,0.25,1.003,0.5,run\n"
    with pytest.raises(DataError, match=r"the largest coordinate is 1\.003"):
        read_boxes(write("boxes.csv", text), find=False)


def test_class_names_fix_the_order(write, one):
    names = write("names.txt", "run\njump\n")
    text = "path,frame,x1,y1,x2,y2,label\na.mp4,0,0,0,9,9,jump\na.mp4,0,1,0,9,9,run\n"
    part, _ = one(write("boxes.csv", text), class_names=names)
    assert part.boxes.classes == ("run", "jump") and part.boxes.labels.tolist() == [1, 0]
    names.write_text("run\nwalk\n")
    with pytest.raises(DataError, match=r"boxes.csv:2: unknown class 'jump'"):
        one(write("boxes.csv", text), class_names=names)


def test_other_spellings_and_unread_columns_are_said(write, one):
    text = (
        "video\tframe_id\txmin\tymin\txmax\tymax\taction\tcolor\na.mp4\t0\t0\t0\t9\t9\trun\tred\n"
    )
    part, said = one(write("boxes.tsv", text))
    assert plain(part) == [("a.mp4", 0, [0, 0, 9, 9], ("run",))]
    assert "columns not read: color" in said


def test_paths_are_below_the_root_and_suffixes_are_found(write, one, tmp_path):
    write("videos/x/a.mp4", "")
    text = "path,frame,x1,y1,x2,y2,label\nx/a,0,0,0,9,9,run\nx\\b.mp4,0,0,0,9,9,run\n"
    part, said = one(write("boxes.csv", text), root=tmp_path / "videos", find=True)
    assert [row.path for row in part.rows.rows] == [
        str(tmp_path / "videos/x/a.mp4"),
        str(tmp_path / "videos/x/b.mp4"),
    ]
    assert "paths with \\ are read with /" in said and "1 of 1 names without a suffix" in said


def test_labels_that_are_said_twice(write, one):
    text = "path,frame,x1,y1,x2,y2,label\n" + "a.mp4,0,0,0,9,9,run\n" * 3
    part, said = one(write("boxes.csv", text))
    assert plain(part) == [("a.mp4", 0, [0, 0, 9, 9], ("run",))]
    assert "2 labels say what another says" in said


def test_boxes_without_area_are_said(write, one):
    text = "path,frame,x1,y1,x2,y2,label\na.mp4,0,5,0,5,9,run\na.mp4,0,0,0,5,9,run\n"
    assert "1 of 2 boxes have no area" in one(write("boxes.csv", text))[1]


ROW = "a.mp4,0,1,2,30,40,run,1,0.5,train\n"


@pytest.mark.parametrize(("text", "message"), [
    ("path,frame,x1,y1,x2,label\n", r"boxes.csv:1: no column y2"),
    ("path,x1,y1,x2,y2,label\n", r"boxes.csv:1: no column frame, and none time"),
    ("frame,x1,y1,x2,y2,label\n", r"boxes.csv:1: no column path"),
    (HEADER, r"boxes.csv holds no box"),
    (HEADER + ROW + "a.mp4,0,1,2\n", r"boxes.csv:3: 4 columns, the header has 10"),
    (HEADER + ROW.replace(",2,", ",two,"), r"boxes.csv:2: y1 'two' is no number"),
    (HEADER + ROW.replace(",2,", ",nan,"), r"boxes.csv:2: y1 'nan' is no number"),
    (HEADER + ROW.replace(",40,", ",1,"), r"boxes.csv:2: y2 1 is less than y1 2; .* not x, y, w"),
    (HEADER + ROW.replace(",0,", ",-1,"), r"boxes.csv:2: frame '-1' is none; frames count from 0"),
    (HEADER + ROW.replace(",0,", ",0.5,"), r"boxes.csv:2: frame '0.5' is none"),
    (HEADER + ROW.replace("a.mp4", ""), r"boxes.csv:2: no path"),
    (HEADER + ROW.replace("train", "trane"), r"boxes.csv:2: unknown split 'trane'; did you mean"),
    (HEADER + ROW.replace("0.5", "high"), r"boxes.csv:2: score 'high' is no number"),
    (HEADER + ROW + ROW.replace("run", "3"), r"boxes.csv:3: label '3' is an id, but other labels"),
    (HEADER + '"a.mp4,0\n' + "x" * 200_000, r"boxes.csv:\d: no valid row"),
])  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(write, text, message):
    with pytest.raises(DataError, match=message):
        read_boxes(write("boxes.csv", text), find=False)


def test_what_holds_no_boxes(write, tmp_path):
    assert try_boxes(write("list.csv", "path,label\na.mp4,run\n")) is None
    assert try_boxes(write("a.mp4", "\0")) is None and try_boxes(tmp_path) is None
    with pytest.raises(DataError, match="holds no boxes in a known form"):
        read_boxes(write("list.csv", "path,label\na.mp4,run\n"))
    with pytest.raises(UsageError, match="does not exist"):
        read_boxes(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="is no folder"):
        read_boxes(write("list.csv", HEADER + ROW), root=tmp_path / "none")


def test_records_are_what_the_metrics_take(write, one):
    text = "path,frame,x1,y1,x2,y2,label,track\na.mp4,0,0,0,9,9,run;jump,1\nb.mp4,4,0,0,9,9,,1\n"
    truth, _ = one(write("truth.csv", text))
    text = "path,frame,x1,y1,x2,y2,label,score\na.mp4,0,0,0,9,9,run,0.9\na.mp4,0,5,5,9,9,jump,0.9\n"
    found, _ = one(write("found.csv", text))
    records = truth.boxes.records(truth.rows.rows)
    assert [(r["frame"], r["label"], r["track"]) for r in records] == [
        (0, "jump", 0),
        (0, "run", 0),
    ]
    result = frame_ap(records, found.boxes.records(found.rows.rows))
    assert result == {"mean": 0.5, "classes": {"jump": 0.0, "run": 1.0}}
