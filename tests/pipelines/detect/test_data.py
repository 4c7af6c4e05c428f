"""From files of boxes to key frames: parts, classes, proposals, and what is left out."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from boxes_support import write_boxes

from vidinit.config import DataConfig, DetectConfig, DetectScoring
from vidinit.data.rows import Probe
from vidinit.errors import DataError, UsageError
from vidinit.pipelines.detect.data import (
    Keyframes,
    keyframes,
    kind_of,
    people_of,
    scored_parts,
    trained_boxes,
    training_parts,
)

HEADER = "path,frame,x1,y1,x2,y2,label"
PROBE = Probe(40, 10.0, 100, 200)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.simplefilter("ignore")


def file_of(root: Path, name: str, text: str) -> str:
    (root / name).write_text(text)
    return str(root / name)


def known(parts: list, origin: float | None = None, **options: object) -> Keyframes:
    """The key frames of videos that all have 40 frames of 100 x 200 pixels."""
    probes = {row.path: PROBE for part in parts for row in part.rows.rows}
    return keyframes(parts, probes, origin=origin, **options)


def videos(parts: list) -> set[str]:
    return {Path(row.path).name for part in parts for row in part.rows.rows}


def test_the_parts_of_a_file_and_a_share_of_the_videos_without(tmp_path: Path) -> None:
    file = write_boxes(tmp_path, train=4, val=2, every=5)
    train, val = training_parts(DataConfig(train=str(file)), 0)
    assert videos(train) == {f"{i}.mp4" for i in range(4)} and videos(val) == {"4.mp4", "5.mp4"}
    assert videos(scored_parts(DataConfig(train=str(file)))) == {"4.mp4", "5.mp4"}
    lines = "\n".join(line.rpartition(",")[0] for line in file.read_text().splitlines())
    whole = file_of(tmp_path, "whole.csv", lines)
    found = [training_parts(DataConfig(train=whole, val_fraction=0.34), seed) for seed in range(4)]
    for train, val in found:
        assert videos(train) | videos(val) == {f"{i}.mp4" for i in range(6)}
        assert not videos(train) & videos(val) and len(videos(val)) == 2
        boxes = known(val).boxes
        assert set(boxes.row.tolist()) == {0, 1} and len(boxes) == 4  # two key frames each
    assert len({frozenset(videos(val)) for _, val in found}) > 1
    again = training_parts(DataConfig(train=whole, val_fraction=0.34), 2)
    assert videos(again[1]) == videos(found[2][1])
    folds = [training_parts(DataConfig(train=whole), 0, (k, 3))[1] for k in (1, 2, 3)]
    assert set.union(*map(videos, folds)) == {f"{i}.mp4" for i in range(6)}
    assert [len(videos(one)) for one in folds] == [2, 2, 2]
    named, own = training_parts(DataConfig(train=whole, val=str(file)), 0)
    assert len(videos(named)) == 6 and videos(own) == {"4.mp4", "5.mp4"}


def test_several_files_are_joined_by_the_names_of_their_classes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    one = file_of(tmp_path, "one.csv", f"{HEADER}\na.mp4,3,0,0,9,9,walk\n")
    two = file_of(tmp_path, "two.csv", f"{HEADER}\na.mp4,3,5,5,30,30,run\n")
    parts = scored_parts(DataConfig(val=[one, two]))
    found = known(parts)
    assert found.classes == ("walk", "run") and len(found.boxes) == 1 == len(found.rows)
    assert found.boxes.labels.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"class 'walk' of .* is unknown in training"):
        known(parts, classes=("run", "jump"))
    with pytest.raises(UsageError, match="no data to score"):
        scored_parts(DataConfig())


def test_the_kind_of_boxes_and_those_that_are_trained_on(tmp_path: Path) -> None:
    text = "path,frame,x1,y1,x2,y2,label,score\n"
    text += "a.mp4,1,0,0,9,9,run;walk,0.9\na.mp4,1,9,9,30,30,,0.9\na.mp4,2,0,0,9,9,run,0.3\n"
    found = known(scored_parts(DataConfig(val=file_of(tmp_path, "a.csv", text))))
    assert kind_of(found.boxes, "auto") == "multi" and kind_of(found.boxes, "multi") == "multi"
    with pytest.raises(DataError, match=r"a box has 2 actions, and detect\.kind=single has one"):
        kind_of(found.boxes, "single")
    assert len(trained_boxes(found, DetectConfig()).boxes.box) == 3
    sure = trained_boxes(found, DetectConfig(min_score=0.5)).boxes
    assert len(sure.box) == 2 and len(sure) == 1
    does = trained_boxes(found, DetectConfig(min_score=0.5, negatives=False)).boxes
    assert len(does.box) == 1
    assert kind_of(trained_boxes(found, DetectConfig(min_score=0.0)).boxes, "auto") == "multi"
    with pytest.raises(DataError, match="that is trained on has an action"):
        trained_boxes(found, DetectConfig(min_score=0.95))


def test_key_frames_of_unreadable_videos_and_behind_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{HEADER}\na.mp4,1,0,0,9,9,run\na.mp4,77,0,0,9,9,run\nb.mp4,1,0,0,9,9,run\n"
    parts = scored_parts(DataConfig(val=file_of(tmp_path, "a.csv", text)))
    probes = {row.path: PROBE if "a.mp4" in row.path else None for row in parts[0].rows.rows}
    found = keyframes(parts, probes, origin=None)
    assert found.boxes.frame.tolist() == [1]
    said = capsys.readouterr().err
    assert "1 key frames of videos that cannot be read" in said
    assert "1 key frames lie behind the end of their videos" in said
    with pytest.raises(DataError, match=r"no key frame of .* is left"):
        keyframes(parts, dict.fromkeys(probes), origin=None)


AVA = "vid,0902,0.1,0.2,0.5,0.6,1,1\nvid,0903,0.1,0.2,0.5,0.6,2,1\nvid,0903,0.5,0.2,0.9,0.6,1,2\n"


def ava(root: Path) -> tuple[str, str]:
    """AVA's lists: truth with a second that does not count, and proposals in another folder."""
    (root / "vid.mp4").touch()
    truth = file_of(root, "ava_val_v2.2.csv", AVA)
    file_of(root, "ava_val_excluded_timestamps_v2.2.csv", "vid,0902\n")
    (root / "found").mkdir()
    lines = "".join(
        f"vid,{second:04d},0.{n}00,0.2,0.9,0.6,,{score}\n"
        for n, (second, score) in enumerate([(902, 0.97), (903, 0.95), (903, 0.5), (904, 0.91)], 1)
    )
    return truth, file_of(root / "found", "ava_detection_val.csv", lines)


def test_proposals_in_key_frames_that_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, proposals = ava(tmp_path)
    data = DataConfig(val=truth, root=str(tmp_path), time_origin=901.0)
    found = known(scored_parts(data), data.time_origin)
    assert found.boxes.frame.tolist() == [20] and found.excluded == {(0, 10)}
    people, given = people_of(found, DetectScoring(boxes=proposals, min_score=0.9), data)
    assert given == f"boxes of {proposals}"
    assert people.boxes.frame.tolist() == [20, 30]  # 902 is excluded, 0.5 is too low a score
    assert people.boxes.score.tolist() == pytest.approx([0.95, 0.91])
    assert len(people.boxes.labels) == 0 and people.classes == found.classes
    assert "1 key frames have boxes in" in capsys.readouterr().err
    own, given = people_of(found, DetectScoring(), data)
    assert own is found and given == "boxes are given: the true ones"


def test_proposals_for_other_videos_alone_are_an_error(tmp_path: Path) -> None:
    truth, _ = ava(tmp_path)
    (tmp_path / "other.mp4").touch()
    other = file_of(tmp_path / "found", "b.csv", "other,0903,0.1,0.2,0.9,0.6,,0.95\n")
    data = DataConfig(val=truth, root=str(tmp_path), time_origin=901.0)
    found = known(scored_parts(data), data.time_origin)
    with pytest.raises(DataError, match="has no box in the videos of"):
        people_of(found, DetectScoring(boxes=other), data)


def test_where_no_origin_is_named_it_is_said_when_one_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, _ = ava(tmp_path)
    found = known(scored_parts(DataConfig(val=truth, root=str(tmp_path))))
    assert found.boxes.frame.tolist() == [30] and found.origin == 900
    assert "videos begin at second 900 of the film (data.time_origin)" in capsys.readouterr().err
    assert np.isclose(found.boxes.box[0], [0.1, 0.2, 0.5, 0.6]).all()
