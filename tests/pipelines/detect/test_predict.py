"""`vidinit predict` with a detector: where boxes come from, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from boxes_support import HEADER, patches
from support import shake_norms, write_video
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.checkpoint import save_model
from vidinit.data.boxes import read_boxes
from vidinit.data.readers import open_video
from vidinit.detection.overlap import box_iou
from vidinit.errors import DataError, UsageError
from vidinit.pipelines.detect.draw import draw_boxes, drawn_box
from vidinit.scoring.detections import load
from vidinit.zoo.detector import Detector, DetectSettings, as_detector

HERE = {"overrides": ["data.workers=0"], "device": "cpu"}


@pytest.fixture(scope="module")
def detector() -> Detector:
    """One that says something else of each box; it knows more classes than there are patches."""
    torch.manual_seed(0)
    trunk = vidinit.create_model("c2d-test_resnet", num_classes=4)
    trunk.spec = replace(trunk.spec, frames=2, size=64)
    shake_norms(trunk)
    model = as_detector(trunk, ["blue", "green", "red"], DetectSettings(kind="single")).eval()
    with torch.no_grad():
        model.head.classify.weight.normal_()
    return model


@pytest.fixture(scope="module")
def folder(detector, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("detector")
    save_model(detector, root)
    return root


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two videos of 64 x 48, and boxes.csv with the boxes of frames 3 and 6."""
    root = tmp_path_factory.mktemp("videos")
    lines = [HEADER.removesuffix(",split")]
    for number in range(2):
        clip, boxes = patches(number)
        write_video(root / f"{number}.mp4", clip)
        for frame, label, box in boxes:
            if frame in (3, 6):
                corners = ",".join(map(str, box.tolist()))
                lines.append(f"{number}.mp4,{frame},{corners},{('red', 'blue')[label]},{label}")
    (root / "boxes.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def given(folder, videos, tmp_path_factory):
    """Predictions with the boxes of a file, and the folder that they left."""
    out = tmp_path_factory.mktemp("given") / "out"
    told = []
    found = vidinit.predict(
        folder, videos, boxes=videos / "boxes.csv", out=out, ava="numbers", tell=told.append, **HERE
    )
    assert told == found
    return found, out


def test_boxes_of_a_file_are_told_about_in_their_key_frames(given, detector, videos):
    found, out = given
    assert [one.file for one in found] == [str(videos / f"{i}.mp4") for i in range(2)]
    truth = [box for t, _, box in patches(1)[1] if t == 6]
    entries = found[1].boxes
    assert [one["frame"] for one in entries] == [3, 3, 6, 6]
    assert sorted(one["box"] for one in entries[2:]) == sorted(box.tolist() for box in truth)
    assert entries[0]["time"] == pytest.approx(3 / 12)
    detections = load(out)
    for box, one in zip(np.flatnonzero(detections.row == 1), entries, strict=True):
        values = {each["class"]: each["probability"] for each in one["classes"]}
        expected = dict(zip(detector.classes, detections.scores[box], strict=True))
        assert values == pytest.approx(expected, abs=1e-6)
    best = {name: max(values) for name, values in zip(
        detector.classes, detections.scores[detections.row == 1].T, strict=True
    )}  # fmt: skip
    assert dict(found[1].classes) == pytest.approx(best, abs=1e-6)


def test_the_scores_are_those_of_the_model_in_these_boxes(given, detector, videos):
    from vidinit.data.pixels.batch import normalize

    _, out = given
    detections = load(out)
    frames = open_video(videos / "0.mp4").get([1, 3])  # stride 2, the key frame is the second
    box = torch.zeros(1, 64, 64, 3, dtype=torch.uint8).repeat(2, 1, 1, 1)
    mean, std = detector.spec.mean, detector.spec.std
    box[:] = torch.tensor([round(255 * value) for value in mean], dtype=torch.uint8)
    box[:, 8:56] = torch.from_numpy(frames)
    where = torch.from_numpy(detections.box[:2]) * torch.tensor([64.0, 48, 64, 48])
    where[:, 1::2] += 8
    where = torch.cat([torch.zeros(2, 1), where], dim=1)
    with torch.no_grad():
        scores = detector.scores(detector(normalize(box[None], mean, std), where))
    assert detections.frame[:2].tolist() == [3, 3]
    assert np.abs(scores.numpy() - detections.scores[:2]).max() < 1e-4
    assert scores.std() > 0.05


def test_what_is_written_reads_back(given, videos):
    found, out = given
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == {
        *{"boxes.csv", "ava.csv", "ava_classes.pbtxt", "detections.npz", "report.html", "videos"}
    }
    detections = load(out)
    (own,), (ava,) = (read_boxes(out / n, find=False) for n in ("boxes.csv", "ava.csv"))
    records = own.boxes.records(own.rows.rows)
    assert len(records) == 2 * 4 * 3
    assert {record["video"] for record in records} == {one.file for one in found}
    assert [row.path for row in ava.rows.rows] == ["0", "1"]
    assert sorted(set(ava.boxes.time.tolist())) == [0.25, 0.5]
    for number in range(2):
        drawn = open_video(out / "videos" / f"{number}.mp4")
        assert (drawn.num_frames, drawn.size) == (10, (48, 64))
        before, after = (
            video.get([6])[0] for video in (open_video(videos / f"{number}.mp4"), drawn)
        )
        own = np.flatnonzero((detections.row == number) & (detections.frame == 6))
        places = detections.in_pixels(detections.row[own], detections.box[own])
        wanted = draw_boxes(
            before, [drawn_box(detections, i, at, 2) for i, at in zip(own, places, strict=True)]
        )
        changed = (wanted != before).any(axis=2)
        error = np.abs(after.astype(float) - wanted).mean(axis=2)
        assert error.mean() < 10 and error[changed].mean() < 30
        assert np.abs(after.astype(float) - before).mean(axis=2)[changed].mean() > 60
    page = (out / "report.html").read_text()
    assert "Average precision of classes" in page and "Key frames it does best in" in page


def test_motion_finds_boxes_in_key_frames_at_a_distance(detector, tmp_path):
    rng = np.random.default_rng(0)
    clip = np.full((10, 48, 64, 3), 80, np.uint8)
    patch = rng.integers(0, 255, (20, 18, 3))
    for t in range(10):
        clip[t, 10:30, 8 + 3 * t : 26 + 3 * t] = patch
    write_video(tmp_path / "0.mp4", clip, fps=12)
    (one,) = vidinit.predict(
        detector,
        tmp_path / "0.mp4",
        people="motion",
        every=0.25,
        out=tmp_path / "out",
        video=False,
        overrides=["data.workers=0"],
    )
    assert [box["frame"] for box in one.boxes] == [1, 5, 8]  # the middles of 3 parts
    truth = np.array([23.0, 10, 41, 30])
    assert box_iou(truth, np.array(one.boxes[1]["box"])) > 0.6
    assert 0 < one.boxes[1]["person"] < 1
    assert not (tmp_path / "out" / "videos").exists()
    assert "Average precision" not in (tmp_path / "out" / "report.html").read_text()


def test_where_nothing_moves_there_is_no_box(detector, tmp_path):
    clip = np.full((6, 48, 64, 3), 80, np.uint8)
    write_video(tmp_path / "0.mp4", clip)
    (one,) = vidinit.predict(
        detector,
        tmp_path / "0.mp4",
        people="motion",
        out=tmp_path / "out",
        overrides=["data.workers=0"],
    )
    assert one.boxes == [] and one.classes == [] and one.error is None
    assert (tmp_path / "out" / "boxes.csv").read_text().count("\n") == 1
    assert open_video(tmp_path / "out" / "videos" / "0.mp4").num_frames == 6


def test_predictions_go_back_in_as_boxes_each_once(given, detector, videos, tmp_path):
    _, out = given
    again = vidinit.predict(
        detector,
        videos,
        boxes=out / "boxes.csv",
        out=tmp_path / "again",
        video=False,
        topk=1,
        overrides=["data.workers=0"],
    )
    first, second = (load(place) for place in (out, tmp_path / "again"))
    assert len(again[0].boxes) == 4
    order = [np.lexsort((*one.box.T, one.frame, one.row)) for one in (first, second)]
    for name in ("row", "frame"):
        assert (getattr(first, name)[order[0]] == getattr(second, name)[order[1]]).all()
    assert np.abs(first.scores[order[0]] - second.scores[order[1]]).max() < 1e-3


def test_a_file_that_cannot_be_read_costs_itself(folder, videos, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    line = ["predict", str(folder), str(broken), str(videos / "1.mp4"), "data.workers=0", "--json"]
    options = ["--people", "motion", "--no-video", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*line, *options, "--device", "cpu"])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert [one["path"] for one in told["failed"]] == [str(broken)]
    assert told["predictions"][0]["boxes"] == []
    assert told["predictions"][1]["boxes"][0]["classes"][0].keys() == {"class", "probability"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "one place they come from"),
        ({"boxes": "boxes.csv", "people": "motion"}, "one place they come from"),
        ({"people": "fasterrcnn"}, "finds people"),
        ({"boxes": "boxes.csv", "every": 1.0}, "names the key frames"),
        ({"people": "motion", "people_weights": "w.pth"}, "are of a detector"),
        ({"people": "motion", "timeline": True}, "for a classifier of whole clips"),
        ({"people": "motion", "clips": 2}, "does not read eval.clips"),
        ({"people": "motion", "ava": "map.txt"}, "is no label map"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
    options, words, folder, videos, tmp_path
):
    with pytest.raises(UsageError, match=words):
        vidinit.predict(folder, videos, out=tmp_path / "out", **options, **HERE)
    assert not (tmp_path / "out").exists()


def test_other_models_have_no_boxes_and_foreign_boxes_are_refused(folder, videos, tmp_path):
    with pytest.raises(UsageError, match="--people is for a detector"):
        vidinit.predict("c2d-test_resnet", videos, people="motion")
    (tmp_path / "other.csv").write_text("path,frame,x1,y1,x2,y2,label\nx.mp4,1,0,0,9,9,red\n")
    with pytest.raises(DataError, match="has no box in these videos"):
        vidinit.predict(folder, videos, boxes=tmp_path / "other.csv", out=tmp_path / "out", **HERE)
