"""`data check`: lengths, parts, groups and leaks of a small set, as a person counts them."""

from __future__ import annotations

import shutil

import pytest
from support import moving_bar, run_cli, write_video

import vidinit
from vidinit.errors import UsageError
from vidinit.pipelines.data.figures import clip_of, lines_of, warnings_of


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    """Six videos of 10 to 60 frames at 12 a second: a copy, and a camera, stand in both parts."""
    root = tmp_path_factory.mktemp("leaky")
    rows = ["path,label,split,group"]
    for i in range(5):
        write_video(root / f"{i}.mp4", moving_bar(4, i, frames=10 + 10 * i, side=32))
        part = "val" if i > 3 else "train"
        rows.append(f"{i}.mp4,{'ab'[i % 2]},{part},cam{i // 2}")
    shutil.copy(root / "0.mp4", root / "copy.mp4")
    rows += ["copy.mp4,a,val,cam0", "1.mp4,b,val,cam0"]
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def test_figures_of_a_set(leaky, capfd):
    report = vidinit.check_data(leaky / "labels.csv", duplicates=True)
    # 10, 20, 30, 40, 50 frames, the copy's 10, and the 20 of the one that stands in both parts.
    assert report["durations"]["frames"] == [10, 15, 20, 35, 50]
    assert report["durations"]["seconds"] == pytest.approx(
        [5 / 6, 1.25, 5 / 3, 35 / 12, 25 / 6], abs=1e-3
    )
    assert report["parts"] == {"train": 4, "val": 3}
    assert [(one["path"].rpartition("/")[2], one["parts"]) for one in report["both"]] == [
        ("1.mp4", ["train", "val"])
    ]
    assert report["groups"] == {"count": 3, "both": ["cam0"]}
    (same,) = report["duplicates"]
    assert [p.rpartition("/")[2] for p in same["paths"]] == ["0.mp4", "copy.mp4"]
    assert same["parts"] == ["train", "val"]
    assert report["alike"][0]["paths"] == same["paths"] and report["alike"][0]["bits"] == 0
    usual = {(one["frames"], one["stride"]): one for one in report["clips"]}
    assert usual[8, 8] | {"sampling": "dense"} == {
        "frames": 8,
        "stride": 8,
        "sampling": "dense",
        "span": 57,
        "shorter": 7,
        "of": 7,
        "fits": 1,
    }
    shown = dict(lines_of(report))
    assert shown["split"] == "train 4, val 3"
    assert shown["groups"] == "3, 1 of them in several parts, as 'cam0'"
    assert shown["a clip of 8x8"] == (
        "57 frames: 100% of the videos are shorter and loop; data.stride=1 or "
        "data.sampling=uniform covers"
    )
    first, second, third, *_ = warnings_of(report)
    assert first.startswith("in several parts: 1 clips, as ") and "1.mp4 in train and val" in first
    assert "2 files in 1 groups, 1 groups of them in several parts" in second
    assert third == "groups in several parts: 1 of 3, as 'cam0'"


def test_a_named_clip_alone_is_looked_at(leaky):
    report = vidinit.check_data(leaky / "labels.csv", clip="4x3")
    (own,) = report["clips"]
    assert (own["span"], own["shorter"], own["fits"]) == (10, 0, 3)
    assert dict(lines_of(report))["a clip of 4x3"] == "10 frames: has room in each video"
    assert "alike" not in report


def test_a_clip_is_a_form_or_a_model(trained):
    assert (clip_of("16x4").frames, clip_of("16x4").stride) == (16, 4)
    assert clip_of(str(trained)).frames == 4, "the run's own"
    with pytest.raises(UsageError, match="'0x4' is no clip; write FRAMESxSTRIDE, as 8x8, or a "):
        clip_of("0x4")


@pytest.mark.slow
def test_the_command_shows_them(leaky):
    done = run_cli("data", "check", leaky / "labels.csv", "--clip", "8x2", COLUMNS="100")
    assert done.returncode == 0, done.stderr
    assert "quartiles 15, 20, 35" in done.stdout and "in several parts: 1 clips" in done.stdout


def test_plain_folders_have_no_parts(motion_set):
    report = vidinit.check_data(motion_set / "train")
    assert report["parts"] == {} and report["groups"] is None and report["both"] == []
    assert report["duplicates"] == []
