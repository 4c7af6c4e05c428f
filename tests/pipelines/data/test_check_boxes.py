"""`vidinit data check` of a file of boxes, with real videos."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.data.index import UnreadableError
from vidinit.errors import DataError, UsageError

HEADER = "path,frame,x1,y1,x2,y2,label,split\n"


@pytest.fixture
def clips(motion_set):
    """A folder of videos, and the paths of the first two below it."""
    root = motion_set / "train"
    found = sorted(root.rglob("*.mp4"))[:2]
    return root, [path.relative_to(root).as_posix() for path in found]


def test_videos_are_checked_and_boxes_held_against_them(clips, tmp_path):
    root, (first, second) = clips
    whole = vidinit.check_data(root / first, workers=1)
    size, frames = next(iter(whole["sizes"])), whole["frames"]
    width = int(size.partition("x")[0])
    file = tmp_path / "boxes.csv"
    file.write_text(
        HEADER
        + f"{first},0,1,2,9,9,walk,train\n{first},0,1,2,9,9,talk,train\n"
        + f"{first},{frames - 1},1,2,{width + 9},9,walk,train\n"
        + f"{first},{frames},1,2,9,9,walk,train\n"
        + f"{second},3,1,2,9,9,walk,val\nnone.mp4,3,1,2,9,9,sit,val\n"
    )
    report = vidinit.check_data(file, root=root, workers=1)
    assert (report["files"], report["good"], report["rows"]) == (3, 2, 3)
    assert [one["reason"] for one in report["bad"]] == ["no such file"]
    boxes = report["boxes"]
    assert boxes == {
        "key_frames": 5,
        "boxes": 5,
        "classes": {"sit": 1, "talk": 1, "walk": 4},
        "parts": {
            "train": {"videos": 1, "key_frames": 3, "boxes": 3},
            "val": {"videos": 2, "key_frames": 2, "boxes": 2},
        },
        "unread": 1,
        "behind": [{"path": str(root / first), "key_frames": 1}],
        "outside": 1,
        "origin": None,
    }


def test_the_command_prints_it_and_exits_by_what_is_wrong(clips, tmp_path):
    root, (first, _) = clips
    good, late = tmp_path / "good.csv", tmp_path / "late.csv"
    good.write_text(HEADER.replace(",split", "") + f"{first},0,0.1,0.2,0.5,0.6,walk\n")
    late.write_text(HEADER.replace(",split", "") + f"{first},9999,0.1,0.2,0.5,0.6,walk\n")
    run = CliRunner().invoke(app, ["data", "check", str(good), "--root", str(root)])
    assert run.exit_code == 0, run.output
    for text in ("key frames", "walk", "1 boxes"):
        assert text in run.stdout
    assert "boxes in fractions of width and height, frames from 0" in run.stderr
    run = CliRunner().invoke(app, ["data", "check", str(late), "--root", str(root)])
    assert run.exit_code == 1 and "1 key frames behind its end" in run.stdout
    run = CliRunner().invoke(app, ["data", "check", str(late), "--root", str(root), "--json"])
    assert json.loads(run.stdout)["boxes"]["behind"][0]["key_frames"] == 1


def test_what_is_wrong_is_one_line(clips, tmp_path):
    root, (first, _) = clips
    file = tmp_path / "boxes.csv"
    file.write_text(HEADER + f"{first},0,1,2,nine,9,walk,train\n")
    with pytest.raises(DataError, match=r"boxes.csv:2: x2 'nine' is no number"):
        vidinit.check_data(file, root=root)
    run = CliRunner().invoke(app, ["data", "check", str(file)])
    assert run.exit_code == 3 and run.stdout == ""
    file.write_text(HEADER + "none.mp4,0,1,2,9,9,walk,train\n")
    with pytest.raises(UnreadableError) as error:
        vidinit.check_data(file, root=root, workers=1)
    assert error.value.report["boxes"]["unread"] == 1
    with pytest.raises(UsageError, match=r"boxes.csv holds boxes; check files of boxes one by one"):
        vidinit.check_data([file, root])
