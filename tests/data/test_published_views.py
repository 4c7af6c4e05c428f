"""The frames that published code takes, by its own arithmetic, and ours."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from vidinit.data.loading.unprobed import SlidingWindows
from vidinit.data.views import (
    Sampling,
    clip_span,
    dense_indices,
    eval_indices,
    rng,
    train_indices,
)

LENGTHS = [1, 2, 7, 30, 100, 200, 255, 256, 257, 299, 300, 301, 750]
RATES = [0.0, 12.0, 15.0, 24.0, 25.0, 30.0, 50.0, 60.0]


def timesformer_kinetics(
    num_frames: int, fps: float, frames: int, stride: int, place: float
) -> list[int]:
    """The frames of a clip in timesformer/datasets/decoder.py, PyAV, 30 frames a second.

    The clip is cut out by time stamps, with the first frame behind it, and what was decoded is
    sampled from its first frame on: ``place`` in [0, 1] is where in the free room it begins.
    """
    ticks = 1 << 40  # of the stream's clock, a frame; coarse ones round a start to a frame by it
    size = stride * frames / 30 * fps
    start = place * max(num_frames - size, 0)
    first, last = int(start * ticks), int((start + size - 1) * ticks)
    stamps = [i * ticks for i in range(num_frames)]
    decoded = [i for i, stamp in enumerate(stamps) if first <= stamp <= last]
    decoded += [i for i, stamp in enumerate(stamps) if stamp > last][:1]
    places = np.linspace(0, size - 1, frames)
    return [decoded[int(min(max(p, 0), len(decoded) - 1))] for p in places]


@pytest.mark.parametrize(("frames", "stride"), [(8, 32), (16, 16), (96, 4)])
@pytest.mark.parametrize("fps", [12.0, 15.0, 24.0, 25.0, 30.0, 50.0, 60.0])
def test_timesformer_on_kinetics(frames: int, stride: int, fps: float) -> None:
    sampling = Sampling(frames, stride, short="hold", steps="linspace", fps=30)
    for num_frames in LENGTHS:
        found = eval_indices(num_frames, sampling, 1, fps, first=True)[0].tolist()
        assert found == timesformer_kinetics(num_frames, fps, frames, stride, 0.0)
        for index in range(5):
            place = float(rng(0, 3, index).random())
            drawn = train_indices(num_frames, sampling, rng(0, 3, index), fps).tolist()
            assert drawn == timesformer_kinetics(num_frames, fps, frames, stride, place)


def test_the_numbers_of_the_three_published_clips() -> None:
    def of(frames: int, stride: int, length: int = 300) -> list[int]:
        sampling = Sampling(frames, stride, short="hold", steps="linspace", fps=30)
        return eval_indices(length, sampling, 1, 30.0, first=True)[0].tolist()

    assert of(8, 32) == [0, 36, 72, 109, 145, 182, 218, 255]  # 36.4 apart, not 32
    assert of(16, 16) == list(range(0, 256, 17))
    long = of(96, 4)
    assert len(long) == 96 and long[-21:] == [299] * 21 and long[-22] < 299


def timesformer_ssv2(num_frames: int, frames: int, draw: random.Random | None) -> list[int]:
    """The frames of a clip in timesformer/datasets/ssv2.py: of the middles where nothing draws."""
    size = float(num_frames - 1) / frames
    bounds = [int(np.round(size * i)) for i in range(frames + 1)]
    pairs = list(pairwise(bounds))
    if draw is None:
        return [(start + end) // 2 for start, end in pairs]
    return [draw.randint(start, end) for start, end in pairs]


@pytest.mark.parametrize("frames", [8, 16, 64])
def test_timesformer_on_something_something(frames: int) -> None:
    sampling = Sampling(frames, kind="uniform", short="hold", steps="linspace")
    for num_frames in LENGTHS:
        middles = timesformer_ssv2(num_frames, frames, None)
        assert eval_indices(num_frames, sampling, 1, first=True)[0].tolist() == middles
    draw = random.Random(0)
    seen = [{k: set() for k in range(frames)} for _ in range(2)]
    for index in range(400):
        drawn = train_indices(50, sampling, rng(0, 0, index)).tolist()
        for k, (ours, theirs) in enumerate(
            zip(drawn, timesformer_ssv2(50, frames, draw), strict=True)
        ):
            seen[0][k].add(ours)
            seen[1][k].add(theirs)
    assert seen[0] == seen[1]  # both ends of a segment may be drawn


def test_frames_that_were_extracted_at_30_a_second() -> None:
    """A video of 12 frames a second has 2.5 times as many there; the middles are of these."""
    sampling = Sampling(8, kind="uniform", steps="linspace", fps=30)
    for num_frames in (24, 40, 48, 61):
        extracted = [int(i * 12 / 30) for i in range(round(num_frames * 30 / 12))]
        wanted = [extracted[i] for i in timesformer_ssv2(len(extracted), 8, None)]
        assert eval_indices(num_frames, sampling, 1, 12.0)[0].tolist() == wanted


def mmaction_test_starts(num_frames: int, frames: int, stride: int, clips: int) -> list[int]:
    """SampleFrames in test mode: a clip takes frames x stride frames."""
    taken = frames * stride
    # In floats there, which miss a whole number by a hair now and then.
    average = Fraction(num_frames - taken + 1, clips)
    if num_frames > taken - 1:
        return [int(clip * average + average / 2) for clip in range(clips)]
    return [0] * clips


@pytest.mark.parametrize(("frames", "stride"), [(8, 8), (32, 2), (13, 6)])
def test_sts_on_kinetics(frames: int, stride: int) -> None:
    sampling = Sampling(frames, stride, steps="whole")
    for num_frames in LENGTHS:
        found = eval_indices(num_frames, sampling, 10)
        starts = mmaction_test_starts(num_frames, frames, stride, 10)
        places = [(start + stride * np.arange(frames)) % num_frames for start in starts]
        assert found.tolist() == np.stack(places).tolist()
        drawn = {int(train_indices(num_frames, sampling, rng(0, 0, i))[0]) for i in range(300)}
        assert drawn <= set(range(max(num_frames - frames * stride, 0) + 1))
    free = {int(train_indices(70, sampling, rng(0, 0, i))[0]) for i in range(300)}
    assert free == set(range(70 - min(frames * stride, 70) + 1))


def test_the_starts_that_moved() -> None:
    """300 frames, 8 x 8: the last clip of ten starts 6 frames earlier than by its own frames."""
    ours = eval_indices(300, Sampling(8, 8), 10)[:, 0]
    theirs = eval_indices(300, Sampling(8, 8, steps="whole"), 10)[:, 0]
    assert ours.tolist()[-1] == 231 and theirs.tolist()[-1] == 225
    assert (ours - theirs).tolist() == [1, 1, 2, 3, 3, 4, 4, 6, 6, 6]


@pytest.mark.parametrize("num_frames", [3, 7, 8, 9, 20, 50, 61])
def test_sts_on_something_something(num_frames: int) -> None:
    """SampleFrames of 8 clips of one frame: segments of n // 8 frames, the rest is never drawn."""
    sampling = Sampling(8, kind="uniform", steps="whole")
    each = num_frames // 8
    seen = np.stack([train_indices(num_frames, sampling, rng(0, 0, i)) for i in range(400)])
    if each:
        for segment in range(8):
            wanted = set(range(segment * each, (segment + 1) * each))
            assert set(seen[:, segment].tolist()) == wanted
    else:
        rounded = np.around(np.arange(8) * num_frames / 8)
        assert seen[0].tolist() == (rounded % num_frames).tolist()
    average = num_frames / 8.0
    middles = [int(k * average + average / 2) for k in range(8)]
    assert eval_indices(num_frames, sampling, 1)[0].tolist() == middles


@pytest.mark.parametrize("steps", ["stride", "whole", "linspace"])
@pytest.mark.parametrize("kind", ["dense", "uniform", "all"])
def test_any_rate_gives_frames_that_are_there(kind: str, steps: str) -> None:
    for short in ("loop", "hold"):
        for rate in (None, 5.0, 30.0):
            sampling = Sampling(5, 3, kind, short, steps, rate)  # type: ignore[arg-type]
            for fps in RATES:
                for length in (1, 4, 13, 61, 300):
                    clips = 1 if kind == "all" else 3
                    views = eval_indices(length, sampling, clips, fps, first=True)
                    drawn = train_indices(length, sampling, rng(0, 0, length), fps)
                    for found in (views, drawn):
                        assert found.dtype == np.int64
                        assert found.min() >= 0 and found.max() < length
                    if kind == "dense":
                        every = dense_indices(length, sampling, None, fps)
                        assert every.min() >= 0 and every.max() < length


def test_the_rate_that_counts() -> None:
    sampling = Sampling(4, 6, fps=30)
    assert np.diff(eval_indices(300, sampling, 1, 60.0)[0]).tolist() == [12] * 3
    assert np.diff(eval_indices(300, sampling, 1, 25.0)[0]).tolist() == [5] * 3
    assert np.diff(eval_indices(300, sampling, 1, 0.0)[0]).tolist() == [6] * 3  # no time, no rate
    assert eval_indices(90, Sampling(1, 10, "all", fps=10), 1, 30.0).tolist() == [[0, 30, 60]]
    # A second of video is as many places, whatever the file has.
    for fps in (10.0, 20.0, 40.0):
        found = eval_indices(int(4 * fps), sampling, 1, fps)[0]
        assert math.isclose((found[-1] - found[0]) / fps, 18 / 30, abs_tol=1 / fps)


def test_windows_and_neighboring_clips_count_in_the_same_rate() -> None:
    sampling = Sampling(4, 6, fps=30)
    assert clip_span(sampling, 60.0) == 37 and clip_span(sampling, 15.0) == 10
    windows = SlidingWindows.over(300, 60.0, sampling, None)
    assert (windows.window, windows.step) == (37, 37)
    every = dense_indices(300, sampling, None, 60.0)
    assert every[0].tolist() == [0, 12, 24, 36] and every[1, 0] == 37 and every[-1, -1] == 299
    evenly = Sampling(8, 32, short="hold", steps="linspace", fps=30)
    assert SlidingWindows.over(600, 30.0, evenly, None).window == 256
