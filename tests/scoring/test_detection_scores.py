"""Detections in columns score as records do, and come back from their file as they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vidinit.config import DetectScoring
from vidinit.data.boxes.columns import Boxes
from vidinit.data.rows import Row
from vidinit.detection import frame_ap, link, video_ap
from vidinit.errors import DataError, UsageError
from vidinit.scoring.detection_scores import frame_scores, video_scores
from vidinit.scoring.detections import FILE, Detections, has_detections, load

CLASSES = ("run", "walk", "sit")
PATHS = ("v/c.mp4", "v/a.mp4", "v/b.mp4")  # not in the order of their names
SIZE = np.array([[60, 100], [48, 64], [90, 160]], dtype=np.int32)


def some(seed: int = 0, *, frames: int = 12, step: int = 1) -> Detections:
    """Two people in each frame of three videos, found a little beside, with scores in tenths."""
    rng = np.random.default_rng(seed)
    row, frame, box, label, track = [], [], [], [], []
    for video in range(3):
        height, width = SIZE[video]
        for person in range(2):
            corner = (rng.uniform(0, 0.1, 2) + np.array([person / 2, 0.2])) * (width, height)
            side = rng.uniform(0.2, 0.4, 2) * (width, height)
            action = int(rng.integers(3))
            for t in range(0, frames, step):
                row.append(video)
                frame.append(t)
                box.append([*corner, *(corner + side)])
                label.append(action)
                track.append(2 * video + person)
    order = np.lexsort((frame, row))
    columns = [np.array(c)[order] for c in (row, frame, box, label, track)]
    row, frame, box, label, track = columns
    size = SIZE[row][:, [1, 0, 1, 0]]
    keys, starts = np.unique(np.stack([row, frame], 1), axis=0, return_index=True)
    truth = Boxes(
        classes=("walk", "sit", "run", "never"),  # another order, and one without boxes
        row=keys[:, 0].astype(np.int32),
        frame=keys[:, 1].astype(np.int32),
        time=None,
        starts=np.append(starts, len(row)).astype(np.int32),
        box=(box / size).astype(np.float32),
        fractions=True,
        label_starts=np.arange(len(row) + 1, dtype=np.int32),
        labels=label.astype(np.int16),
        track=track.astype(np.int32),
    )
    beside = box + rng.normal(0, 0.015, box.shape) * size
    scores = (rng.integers(0, 11, (len(row), 3)) / 10).astype(np.float32)
    return Detections(
        paths=PATHS,
        sizes=SIZE,
        classes=CLASSES,
        row=row.astype(np.int32),
        frame=frame.astype(np.int32),
        box=(beside / size).astype(np.float32),
        scores=scores,
        person=rng.uniform(0, 1, len(row)).astype(np.float32),
        truth=truth,
        model="runs/x",
        data="boxes.csv",
        given="boxes are given",
        folder="/somewhere",
    )


def records_of(found: Detections) -> tuple[list[dict], list[dict]]:
    """Truth and detections as records in pixels."""
    truth = found.truth.records([Row(path) for path in found.paths])
    pixels = found.in_pixels(found.truth.row[found.truth.key_of_box()], found.truth.box)
    truth = [{**one, "box": box} for one, box in zip(truth, pixels.tolist(), strict=True)]
    return truth, found.records(pixels=True)


@pytest.mark.parametrize("protocol", ["voc", "act"])
def test_frame_ap_is_that_of_the_records(protocol: str) -> None:
    found = some()
    truth, given = records_of(found)
    scores = frame_scores(found, DetectScoring(protocol=protocol, iou=0.6))
    expected = frame_ap(truth, given, iou=0.6, protocol=protocol)
    assert scores["frame_ap"] == pytest.approx(expected["mean"], abs=1e-12)
    assert 0.05 < expected["mean"] < 0.95
    for name, one in scores["by_class"].items():
        assert one["frame_ap"] == pytest.approx(expected["classes"][name], abs=1e-12)
    assert set(scores["by_class"]) == set(expected["classes"])
    assert sum(one["boxes"] for one in scores["by_class"].values()) == len(truth)
    for at, value in scores["frame_ap_at"].items():
        wanted = frame_ap(truth, given, iou=at, protocol=protocol)["mean"]
        assert value == pytest.approx(wanted, abs=1e-12), at


@pytest.mark.parametrize("protocol", ["voc", "act"])
def test_video_ap_is_that_of_linked_records(protocol: str) -> None:
    found = some(1)
    truth, given = records_of(found)
    scores = video_scores(found, DetectScoring(protocol=protocol))
    given = [one for one in given if one["label"] in {t["label"] for t in truth}]
    tubes = link(given)
    assert scores["tubes"] == len(tubes)
    for at, value in scores["video_ap_at"].items():
        assert value == video_ap(truth, tubes, iou=at, protocol=protocol)["mean"], at
    assert scores["video_ap"] == scores["video_ap_at"]["0.5"]


def test_a_perfect_model_of_every_third_frame_has_perfect_tubes() -> None:
    """Frames between key frames, which linking fills, are not held against it."""
    found = some(2, step=3)
    places = [CLASSES.index(found.truth.classes[i]) for i in found.truth.labels]
    perfect = np.eye(3, dtype=np.float32)[places]
    found = replace(found, box=found.truth.box, scores=perfect)
    scores = video_scores(found, DetectScoring())
    assert scores["video_ap_at"] == dict.fromkeys(("0.2", "0.5", "0.75", "0.5:0.95"), 1.0)
    assert frame_scores(found, DetectScoring())["frame_ap"] == 1.0


def test_no_video_ap_without_tracks_or_with_key_frames_far_apart() -> None:
    found = some()
    bare = replace(found, truth=replace(found.truth, track=None))
    assert video_scores(bare, DetectScoring()) == {"no_video_ap": "the true boxes have no tracks"}
    far = some(frames=40, step=8)
    assert "more than 5 frames apart" in video_scores(far, DetectScoring())["no_video_ap"]
    assert "video_ap" in video_scores(far, DetectScoring(gap=7))


def test_boxes_of_a_low_score_of_their_own_are_left_out() -> None:
    found = some()
    keep = found.person >= np.float32(0.5)
    columns = {n: getattr(found, n)[keep] for n in ("row", "frame", "box", "scores", "person")}
    wanted = frame_scores(replace(found, **columns), DetectScoring())
    assert frame_scores(found, DetectScoring(min_score=0.5)) == wanted
    nobody = replace(found, person=np.full(len(found), np.nan, dtype=np.float32))
    assert frame_scores(nobody, DetectScoring(min_score=0.5)) == frame_scores(
        found, DetectScoring()
    )


def test_a_class_that_the_model_does_not_know_is_named() -> None:
    found = replace(some(), classes=("run", "wolk", "sit"))
    with pytest.raises(DataError, match=r"class 'walk' of boxes\.csv is unknown to the model"):
        frame_scores(found, DetectScoring())
    with pytest.raises(DataError, match="has no true boxes"):
        frame_scores(replace(found, truth=None), DetectScoring())


@pytest.mark.parametrize("with_truth", [True, False])
def test_the_file_gives_back_what_was_saved(tmp_path: Path, with_truth: bool) -> None:
    found = replace(some(), missing=(("v/a.mp4", "gone"),), unread=3)
    if not with_truth:
        found = replace(found, truth=None)
    found.save(tmp_path / FILE)
    assert has_detections(tmp_path) and has_detections(tmp_path / FILE)
    again = load(tmp_path)
    assert again.missing == found.missing and again.unread == 3 and again.given == found.given
    for name in ("row", "frame", "box", "scores", "person", "sizes"):
        assert np.array_equal(getattr(again, name), getattr(found, name), equal_nan=True), name
    if with_truth:
        assert frame_scores(again, DetectScoring()) == frame_scores(found, DetectScoring())
        assert video_scores(again, DetectScoring()) == video_scores(found, DetectScoring())
    else:
        assert again.truth is None


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load(tmp_path / "none.npz")
    some().save(tmp_path / FILE)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    assert not has_detections(tmp_path / FILE)
    with pytest.raises(DataError, match="is damaged"):
        load(tmp_path)
    np.savez(tmp_path / "other.npz", format=np.array("something"))
    with pytest.raises(DataError, match="holds no detections"):
        load(tmp_path / "other.npz")
