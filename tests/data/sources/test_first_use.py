"""UCF101 and HMDB51 by their official lists, from the check of the files to a prediction."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from support import MODEL, SMALL, moving_bar
from typer.testing import CliRunner
from vidinit.commands import app

from vidinit.data.readers import open_video
from vidinit.data.sources import train_val

CLASSES = {"ucf": ("ApplyEyeMakeup", "Archery"), "hmdb": ("brush_hair", "wave")}


def write_avi(path: Path, step: int, seed: int) -> None:
    """As the sets have them: MPEG-4 with B-frames and the tag of XviD, in AVI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 48, "yuv420p"
        stream.codec_context.codec_tag = "XVID"
        stream.codec_context.max_b_frames = 2
        stream.bit_rate = 800_000
        for frame in moving_bar(step, seed, frames=12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def ucf(root: Path) -> None:
    """Lists as they are distributed: ids from 1 in the training lists, none in the test lists."""
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    names = [f"{i} {name}\r\n" for i, name in enumerate(CLASSES["ucf"], 1)]
    (lists / "classInd.txt").write_text("".join(names), newline="")
    train, test = [], []
    for label, name in enumerate(CLASSES["ucf"], 1):
        for group in range(1, 7):
            video = f"{name}/v_{name}_g{group:02d}_c01.avi"
            write_avi(root / "UCF-101" / video, 4 if label == 1 else -4, group)
            (test if group < 3 else train).append(f"{video} {label}")
    (lists / "trainlist01.txt").write_text("".join(f"{one}\r\n" for one in train), newline="")
    bare = "".join(f"{one.split()[0]}\r\n" for one in test)
    (lists / "testlist01.txt").write_text(bare, newline="")


def hmdb(root: Path) -> None:
    """Lists as they are distributed: 1 for training, 2 for testing, 0 for neither."""
    lists = root / "testTrainMulti_7030_splits"
    lists.mkdir(parents=True)
    for label, name in enumerate(CLASSES["hmdb"]):
        lines = []
        for number, mark in enumerate((1, 1, 1, 1, 2, 2, 0)):
            video = f"April_09_{name}_u_nm_np1_ba_goo_{number}.avi"
            write_avi(root / "hmdb51_org" / name / video, 4 if label else -4, number)
            lines.append(f"{video} {mark} \n")
        (lists / f"{name}_test_split1.txt").write_text("".join(lines))


def run(*args: str | Path) -> Any:
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert done.exit_code == 0, done.output
    assert "unexpected" not in done.stderr
    return json.loads(done.stdout) if "--json" in args else done


@pytest.mark.parametrize("make", [ucf, hmdb], ids=["ucf", "hmdb"])
def test_frames_of_their_files_are_right(make, tmp_path) -> None:
    """Of one file: 12 frames, the bar in each where it was drawn."""
    make(tmp_path)
    path = sorted(tmp_path.rglob("*.avi"))[0]
    video = open_video(str(path))
    drawn = moving_bar(4 if make is ucf else -4, 1 if make is ucf else 0, frames=12)
    assert video.num_frames == 12
    with av.open(str(path)) as container:
        types = {frame.pict_type for frame in container.decode(video=0)}
    assert PictureType.B in types
    order = np.random.default_rng(0).permutation(12)
    difference = video.get(order)[:, None].astype(float) - drawn[None]
    nearest = np.abs(difference).mean(axis=(2, 3, 4)).argmin(axis=1)
    assert list(nearest) == list(order)
    train, val = train_val(tmp_path)
    assert (len(train), len(val)) == (8, 4) and train.classes == CLASSES[make.__name__]
    assert all(os.path.isfile(row.path) for row in (*train.rows, *val.rows))


@pytest.mark.slow
@pytest.mark.parametrize("make", [ucf, hmdb], ids=["ucf", "hmdb"])
def test_from_the_check_to_a_prediction(make, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = make.__name__
    root = Path(name)
    make(root)
    checked = run("data", "check", root, "--json")
    assert (checked["files"], checked["good"], checked["bad"]) == (12 + 2 * (make is hmdb),) * 2 + (
        [],
    )
    assert checked["frames"] == 12 * checked["files"]
    assert checked["unlabelled"] == 2 * (make is hmdb)  # those marked 0
    assert checked["classes"] == {one: {"rows": 6, "good": 6} for one in CLASSES[name]}
    done = run("finetune", MODEL, "--data", root, "--out", "run", "--epochs", "2", *SMALL)
    assert ("2 clips marked 0 are in neither part" in done.stderr) == (make is hmdb)
    assert "split 1" in done.stderr
    result = run("eval", "run", "--data", root, "--json")
    assert result["videos"] == 4 and result["missing"] == []
    listed = sorted(root.rglob("*_c01.avi") if make is ucf else root.rglob("*goo_0.avi"))[0]
    done = run("predict", "run", listed, "--topk", "2", "--format", "csv")
    assert all(one in done.stdout for one in CLASSES[name])
    lists = next(path for path in root.iterdir() if "plit" in path.name or "list" in path.name)
    assert run("data", "check", lists, "--json")["files"] == 12
    if make is ucf:  # the lists one by one are the same data
        both = ("--data", lists / "trainlist01.txt", "--val", lists / "testlist01.txt")
        run("finetune", MODEL, *both, "--out", "again", "--epochs", "1", *SMALL)
        split = run("eval", "again", "--data", lists / "testlist01.txt", "--json")
        assert split["videos"] == 4
