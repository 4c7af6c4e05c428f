"""Parts of videos that a list counts in frames, from the list to the frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import moving_bar, write_video

import vidinit
from vidinit.data.index import check
from vidinit.data.readers import VideoReadError
from vidinit.data.readers.opening import open_row, open_video
from vidinit.data.sources import labeled_rows, unlabeled_rows
from vidinit.errors import UsageError

HEADER = "path,label,start_frame,end_frame\n"


@pytest.fixture
def video(tmp_path) -> Path:
    """10 frames at 12 a second."""
    return write_video(tmp_path / "a.mp4", moving_bar(4, 0))


def test_they_are_these_frames(video, write):
    listing = write("a.csv", f"{HEADER}a.mp4,x,2,5\na.mp4,y,5,-1\na.mp4,x,,3\na.mp4,y,8,99\n")
    rows = labeled_rows(listing).rows
    assert [(row.start, row.end, row.in_frames) for row in rows] == [
        (2, 5, True),
        (5, None, True),
        (None, 3, True),
        (8, 99, True),
    ]
    whole = open_video(str(video)).get(range(10))
    for row, (first, stop) in zip(rows, ((2, 5), (5, 10), (0, 3), (8, 10)), strict=True):
        part = open_row(row)
        assert part.num_frames == stop - first
        np.testing.assert_array_equal(part.get(range(stop - first)), whole[first:stop])
    bare = unlabeled_rows(listing).rows
    assert [(row.start, row.end, row.in_frames) for row in bare] == [
        (row.start, row.end, True) for row in rows
    ]


def test_folders_of_frames_have_them_too(video, write):
    """They have no times, so that parts in seconds are refused."""
    from PIL import Image

    frames = open_video(str(video)).get(range(6))
    (video.parent / "f").mkdir()
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(video.parent / f"f/{i:05d}.png")
    part = open_row(labeled_rows(write("a.csv", f"{HEADER}f,x,1,4\nf,y,0,1\n")).rows[0])
    np.testing.assert_array_equal(part.get(range(3)), frames[1:4])
    timed = labeled_rows(write("b.csv", "path,label,start,end\nf,x,1,4\nf,y,0,1\n")).rows[0]
    with pytest.raises(VideoReadError, match=r"no times?, so no part"):
        open_row(timed)


def test_behind_the_end(video, write):
    rows = labeled_rows(write("a.csv", f"{HEADER}a.mp4,x,10,12\na.mp4,y,9,12\n"))
    with pytest.raises(VideoReadError, match=r"has 10 frames, its segment begins at frame 10"):
        open_row(rows.rows[0])
    (outside,) = check(rows, workers=1, cache=False).as_dict()["outside"]
    assert outside["reason"] == "it has 10 frames, its segment begins at frame 10"


def test_seconds_are_taken_where_both_are_there(write):
    listing = write("a.csv", "path,label,start,end,start_frame,end_frame\na.mp4,x,1,2,25,50\n")
    (row,) = labeled_rows(listing).rows
    assert (row.start, row.end, row.in_frames) == (1.0, 2.0, False)


def test_copies_keep_them(video, write, tmp_path):
    listing = write("a.csv", f"{HEADER}a.mp4,x,2,5\na.mp4,y,5,-1\n")
    made = vidinit.prepare_data(listing, tmp_path / "out", workers=1)
    assert Path(made["list"]).read_text() == f"{HEADER}a.mp4,x,2,5\na.mp4,y,5,\n"
    names = json.loads((tmp_path / "out/a.classes.json").read_text())
    assert names == ["x", "y"]
    with pytest.raises(UsageError, match=r"a\.csv counts its segments in frames, which another"):
        vidinit.prepare_data(listing, tmp_path / "other", fps=6, workers=1)
