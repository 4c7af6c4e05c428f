"""The demonstration with boxes: its figures, its clips alone, and a run from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from vidinit.commands import app

from vidinit.data.boxes import read_boxes
from vidinit.data.boxes.columns import Boxes, offsets
from vidinit.demo import detect
from vidinit.demo.patches import KEY, MOTIONS, PatchSet
from vidinit.scoring.detections import Detections


def detections(
    paths: list[str], rows: list[int], boxes: list[list[float]], said: list[str], **more
) -> Detections:
    """Boxes of 96 x 96 videos with one class each, in the key frame."""
    scores = np.full((len(rows), len(MOTIONS)), 0.05, np.float32)
    scores[np.arange(len(rows)), [MOTIONS.index(name) for name in said]] = 0.75
    return Detections(
        paths=tuple(paths),
        sizes=np.full((len(paths), 2), 96, np.int32),
        classes=MOTIONS,
        row=np.array(rows, np.int32),
        frame=np.full(len(rows), KEY, np.int32),
        box=np.array(boxes, np.float32) / 96,
        scores=scores,
        person=np.full(len(rows), np.nan, np.float32),
        **more,
    )


def test_a_box_is_right_by_what_the_best_overlapping_one_says():
    truth = Boxes(
        classes=("up", "left"),  # another order than the model's
        row=np.array([0, 1], np.int32),
        frame=np.array([KEY, KEY], np.int32),
        time=None,
        starts=offsets(np.array([2, 2])),
        box=np.array([[0, 0, 30, 30], [50, 50, 90, 90], [0, 0, 30, 30], [60, 0, 90, 30]]) / 96,
        fractions=True,
        label_starts=offsets(np.ones(4, np.int64)),
        labels=np.array([0, 1, 1, 0], np.int16),
    )
    found = detections(
        ["a", "b"],
        [0, 0, 0, 1, 1],
        [[0, 0, 30, 29], [0, 0, 30, 20], [50, 50, 90, 90], [0, 0, 30, 30], [60, 20, 90, 50]],
        ["up", "left", "right", "left", "up"],
        truth=truth,
    )
    # The second is another class, the last overlaps by too little.
    assert detect.right_boxes(found).tolist() == [True, False, True, False]


def test_boxes_without_labels_are_scored_in_key_frames(tmp_path):
    keys = tmp_path / "keys.csv"
    keys.write_text(
        "path,frame,x1,y1,x2,y2,label,track,split\n"
        f"train/0.mp4,{KEY},1,1,30,30,grow,0,train\n"
        f"val/0.mp4,{KEY},0,0,30,30,up,0,val\n"
        f"val/0.mp4,{KEY},50,50,90,90,left,1,val\n"
    )
    patches = PatchSet(tmp_path, keys, keys, (), ())
    path = str(tmp_path / "val" / "0.mp4")
    found = detections([path], [0, 0], [[0, 0, 30, 25], [40, 0, 80, 30]], ["up", "left"])
    assert detect.scored(found, patches) == {"recall": 0.5, "boxes": 2.0, "frame_ap": 0.5}


def test_the_clips_alone_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setitem(detect.SIZES, True, (20, 6, 6))
    line = ["demo", "--detect", "--clips-only", "--quick", "--out", str(tmp_path / "demo")]
    told = json.loads(CliRunner().invoke(app, [*line, "--json"]).stdout)
    assert told["clips"] == str(tmp_path / "demo" / "patches")
    parts = {part.name: part for part in read_boxes(told["keys"])}
    assert {name: len(part.rows) for name, part in parts.items()} == {"train": 6, "val": 6}
    again = CliRunner().invoke(app, [*line, "--overwrite", "--device", "cpu"])
    assert again.exit_code == 2 and "leave out --device" in again.stderr
    resumed = CliRunner().invoke(app, ["demo", "--detect", "--resume", "--out", "x"])
    assert resumed.exit_code == 2 and "begins anew" in resumed.stderr


@pytest.mark.slow
def test_a_detector_from_clips_to_drawn_boxes(tmp_path, monkeypatch):
    monkeypatch.setitem(detect.SIZES, True, (20, 8, 6))
    result = detect.run_detect(quick=True, out=tmp_path / "demo", device="cpu")
    assert [row.model for row in result.rows] == ["detector, the boxes", "the whole frame"]
    assert result.rows[0].boxes == 12 and all(0 <= row.accuracy <= 1 for row in result.rows)
    assert result.rows[1].accuracy <= detect.CEILING
    assert result.found["recall"] > 0.5
    told = json.loads((tmp_path / "demo" / "result.json").read_text())
    assert told["rows"][0]["accuracy"] == round(result.rows[0].accuracy, 6)
    videos = sorted((tmp_path / "demo" / "predictions" / "videos").iterdir())
    assert [path.name for path in videos] == [f"{i:05d}.mp4" for i in range(6)]
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "Does it tell who does what?" in page and "Key frames it does worst in" in page
    whole = Path(tmp_path / "demo" / "patches" / "whole.csv").read_text().splitlines()
    assert whole[1].split(",")[2:6] == ["0", "0", "96", "96"] and len(whole) == 1 + 28
    assert any("whole frame can tell" in line for line in result.lines())
