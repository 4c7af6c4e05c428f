"""Detections as files of our own form and AVA's, read back; the key frames of a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import write_video

from vidinit.data.boxes import read_boxes
from vidinit.data.boxes.columns import Boxes, offsets
from vidinit.detection import frame_ap
from vidinit.errors import DataError, UsageError
from vidinit.pipelines.detect.forms import box_dicts, check_ids, write_ava, write_csv
from vidinit.pipelines.detect.report import key_frame_sections, ratings
from vidinit.scoring.detections import Detections

CLASSES = ("run", "sit", "walk")


def detections(folder: Path, truth: Boxes | None = None) -> Detections:
    """Three boxes in two videos of 80 x 60 pixels."""
    return Detections(
        paths=(str(folder / "in" / "a.mp4"), "/elsewhere/b.mp4"),
        sizes=np.array([[60, 80], [60, 80]], np.int32),
        classes=CLASSES,
        row=np.array([0, 0, 1], np.int32),
        frame=np.array([5, 5, 12], np.int32),
        box=np.array([[0.1, 0.2, 0.5, 0.9], [0.6, 0.1, 0.9, 0.5], [0, 0, 1, 1]], np.float32),
        scores=np.array([[0.7, 0.1, 0.2], [0.05, 0.9, 0.5], [0.2, 0.3, 0.4]], np.float32),
        person=np.array([0.9, np.nan, np.nan], np.float32),
        truth=truth,
        model="m",
        given="boxes of x",
    )


def true_boxes(box: list[list[float]], labels: list[int]) -> Boxes:
    """True boxes of frame 5 of the first video, with an action each."""
    return Boxes(
        classes=CLASSES,
        row=np.array([0], np.int32),
        frame=np.array([5], np.int32),
        time=None,
        starts=offsets(np.array([len(box)])),
        box=np.array(box, np.float32),
        fractions=True,
        label_starts=offsets(np.ones(len(box), np.int64)),
        labels=np.array(labels, np.int16),
    )


def test_our_own_csv_reads_back_with_the_score_of_each_class(tmp_path):
    found = detections(tmp_path)
    write_csv(found, tmp_path / "boxes.csv", topk=2)
    lines = (tmp_path / "boxes.csv").read_text().splitlines()
    assert lines[:3] == [
        "path,frame,x1,y1,x2,y2,label,score",
        "in/a.mp4,5,8.000,12.000,40.000,54.000,run,0.700000",
        "in/a.mp4,5,8.000,12.000,40.000,54.000,walk,0.200000",
    ]
    (part,) = read_boxes(tmp_path / "boxes.csv")
    records = part.boxes.records(part.rows.rows)
    read = {(r["video"], r["frame"], r["label"], round(r["score"], 3)) for r in records}
    a, b = found.paths
    assert read == {
        *{(a, 5, "run", 0.7), (a, 5, "walk", 0.2), (a, 5, "sit", 0.9), (a, 5, "walk", 0.5)},
        *{(b, 12, "walk", 0.4), (b, 12, "sit", 0.3)},
    }
    # What is computed of the file is what is computed of the detections.
    truth = [
        {"video": a, "frame": 5, "label": "run", "box": [8, 12, 40, 54]},
        {"video": a, "frame": 5, "label": "walk", "box": [48, 6, 72, 30]},
    ]
    whole = found.records(pixels=True)
    assert frame_ap(truth, records)["classes"] == frame_ap(truth, whole)["classes"]


def test_avas_form_reads_back(tmp_path):
    found = detections(tmp_path)
    rates = {found.paths[0]: 10.0, found.paths[1]: 12.0}
    write_ava(found, tmp_path / "ava.csv", check_ids("numbers", CLASSES), rates, topk=1, origin=900)
    assert (tmp_path / "ava.csv").read_text().splitlines() == [
        "a,900.500000,0.100000,0.200000,0.500000,0.900000,1,0.700000",
        "a,900.500000,0.600000,0.100000,0.900000,0.500000,2,0.900000",
        "b,0901,0.000000,0.000000,1.000000,1.000000,3,0.400000",
    ]
    (part,) = read_boxes(tmp_path / "ava.csv", find=False)
    assert part.boxes.classes == CLASSES and part.boxes.fractions
    assert [row.path for row in part.rows.rows] == ["a", "b"]
    assert part.boxes.time.tolist() == [900.5, 901.0]
    assert part.boxes.labels.tolist() == [0, 1, 2]
    assert part.boxes.score.tolist() == pytest.approx([0.7, 0.9, 0.4])
    assert np.abs(part.boxes.box - found.box).max() < 1e-6
    with pytest.raises(DataError, match="without a rate"):
        write_ava(found, tmp_path / "x.csv", {}, {**rates, found.paths[1]: 0.0}, topk=1)


def test_ids_of_a_label_map_may_have_gaps(tmp_path):
    file = tmp_path / "map.pbtxt"
    items = {"walk": 12, "run": 3, "sit": 80}
    file.write_text("".join(f'item {{ name: "{n}" id: {i} }}\n' for n, i in items.items()))
    assert check_ids(file, CLASSES) == items
    with pytest.raises(DataError, match="no class 'jump' of the model"):
        check_ids(file, ("jump",))
    with pytest.raises(UsageError, match="is no label map"):
        check_ids(tmp_path / "none.pbtxt", CLASSES)


def test_boxes_as_json_have_pixels_seconds_and_the_best_classes(tmp_path):
    found = detections(tmp_path)
    entries = box_dicts(found, {found.paths[0]: 10.0, found.paths[1]: 0.0}, topk=1)
    assert entries[found.paths[0]] == [
        {
            "frame": 5,
            "time": 0.5,
            "box": [8.0, 12.0, 40.0, 54.0],
            "person": 0.9,
            "classes": [{"class": "run", "probability": 0.7}],
        },
        {
            "frame": 5,
            "time": 0.5,
            "box": [48.0, 6.0, 72.0, 30.0],
            "classes": [{"class": "sit", "probability": 0.9}],
        },
    ]
    assert entries[found.paths[1]][0].keys() == {"frame", "box", "classes"}


def test_a_key_frame_is_as_good_as_the_scores_of_its_true_actions(tmp_path):
    near, far = [0.12, 0.2, 0.5, 0.9], [0.0, 0.6, 0.3, 1.0]
    truth = true_boxes([near, [0.6, 0.1, 0.9, 0.5], far], [0, 2, 0])
    assert ratings(detections(tmp_path, truth)) == {(0, 5): pytest.approx((0.7 + 0.5 + 0) / 3)}
    assert ratings(detections(tmp_path)) == {}


def test_a_report_shows_truth_thin_and_found_boxes_thick(tmp_path):
    clip = np.full((15, 60, 80, 3), 40, np.uint8)
    write_video(tmp_path / "in" / "a.mp4", clip)
    truth = true_boxes([[0.12, 0.2, 0.5, 0.9]], [0])
    found = detections(tmp_path, truth)
    (section,) = key_frame_sections(found)  # one key frame is the best and the worst
    assert section.title == "Key frames it does best in"
    assert "a.mp4, frame 5" in section.body and "true: run" in section.body
    assert "(0.70)" in section.body and section.body.count("<img") == 1
    unlabeled = key_frame_sections(replace(found, truth=None))
    assert [one.title for one in unlabeled] == ["Key frames"]
    assert "b.mp4" not in unlabeled[0].body  # it is not there to be read
