"""The clip around a key frame."""

from __future__ import annotations

import pytest

from vidinit.data.boxes.clips import around
from vidinit.data.views import Sampling


def test_the_key_frame_is_in_the_middle():
    """PySlowFast's range(c - T s // 2, c + T s // 2, s) for even T."""
    for frames, stride in ((4, 16), (8, 8), (32, 2), (2, 1)):
        found = around(100, 500, Sampling(frames, stride)).tolist()
        half = frames * stride // 2
        assert found == list(range(100 - half, 100 + half, stride))
        assert found[frames // 2] == 100


def test_an_odd_clip_shows_its_key_frame_too():
    assert around(100, 500, Sampling(5, 2)).tolist() == [96, 98, 100, 102, 104]
    assert around(7, 8, Sampling(1, 8)).tolist() == [7]


def test_the_border_is_held_whatever_short_says():
    for short in ("loop", "hold"):
        sampling = Sampling(8, 2, short=short)
        assert around(2, 100, sampling).tolist() == [0, 0, 0, 0, 2, 4, 6, 8]
        assert around(98, 100, sampling).tolist() == [90, 92, 94, 96, 98, 99, 99, 99]
    assert around(0, 1, Sampling(4, 16)).tolist() == [0, 0, 0, 0]


def test_the_stride_counts_in_the_rate_that_is_asked_for():
    sampling = Sampling(4, 2, fps=15.0)
    assert around(100, 500, sampling, 30.0).tolist() == [92, 96, 100, 104]
    assert around(100, 500, sampling, 22.5).tolist() == [94, 97, 100, 103]
    assert around(100, 500, sampling, 0.0).tolist() == [96, 98, 100, 102]  # without time


def test_what_has_no_such_clip():
    for frame in (-1, 10):
        with pytest.raises(ValueError, match=f"key frame {frame} is not among 10 frames"):
            around(frame, 10, Sampling(4))
    with pytest.raises(ValueError, match="only a dense clip"):
        around(3, 10, Sampling(4, kind="uniform"))
