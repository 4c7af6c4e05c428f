"""Clips beside the lengths of their videos, with numbers worked out by hand."""

from __future__ import annotations

import pytest

from vidinit.data.rows import Probe, Row, Rows
from vidinit.data.views import Sampling
from vidinit.pipelines.shared.spans import lengths_of, say_short, short_videos


def rows_of(*frames: int, fps: float = 30.0) -> Rows:
    return Rows(tuple(Row(f"{n}.mp4", 0, probe=Probe(n, fps, 64, 64)) for n in frames), ("a",))


def test_videos_shorter_than_a_clip_are_counted_with_a_stride_that_fits():
    # 8 frames at stride 8 are 57 frames, 1.9 s at 30 frames a second; at stride 4 they are 29.
    found = short_videos(rows_of(29, 40, 56, 57, 100), Sampling(8, 8))
    assert (found.count, found.of, found.stride) == (3, 5, 4)
    assert found.text() == (
        "3 of 5 videos (60%) are shorter than a clip of 8 frames at stride 8 (1.9 s): they are "
        "looped"
    )
    assert found.advice() == "data.stride=4 or data.sampling=uniform covers them"


def test_no_word_where_clips_have_room_or_are_spread(capsys):
    assert say_short(rows_of(57, 100), Sampling(8, 8), "videos") is None
    assert say_short(rows_of(10), Sampling(8, 8, "uniform"), "videos") is None
    assert capsys.readouterr().err == ""
    assert say_short(rows_of(10), Sampling(8, 8, short="hold"), "videos") is not None
    assert "videos: 1 of 1 videos (100%)" in (said := capsys.readouterr().err)
    assert "their last frame is held; data.stride=1" in said


def test_a_video_shorter_than_neighboring_frames_has_no_stride():
    found = short_videos(rows_of(5), Sampling(8, 2))
    assert found.stride is None and found.advice() == "data.sampling=uniform covers them"


def test_the_rate_that_a_stride_counts_in_decides():
    # At 15 frames a second, of which a video of 30 has two each: 8 frames at stride 4 are 57.
    assert short_videos(rows_of(56, fps=30.0), Sampling(8, 4, fps=15.0)).count == 1
    assert short_videos(rows_of(57, fps=30.0), Sampling(8, 4, fps=15.0)) is None


@pytest.mark.parametrize(
    ("start", "end", "in_frames", "length"),
    [
        (None, None, False, 90),
        (1.0, 2.0, False, 30),
        (2.0, None, False, 30),
        (10, 25, True, 15),
        (0.0, 9.0, False, 90),
        (0.1, 0.2, False, 3),
    ],
)
def test_a_segment_has_its_own_length(start, end, in_frames, length):
    row = Row("a.mp4", 0, start, end, Probe(90, 30.0, 64, 64), in_frames)
    assert list(lengths_of([row])) == [(length, 30.0)]


def test_pictures_and_unread_files_have_no_length():
    rows = [Row("a.png", 0, probe=Probe(1, 0.0, 8, 8, reader="image")), Row("b.mp4", 0)]
    assert list(lengths_of(rows)) == []
