"""The frames that a clip is made of, and the randomness that chooses them. Numpy only.

Randomness is counted, not drawn: every generator is a function of (seed, epoch, index), so neither
the number of workers nor an interruption changes what a run sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import UsageError

# Uses of randomness that must not share a stream.
CLIP, ORDER, SUBSTITUTE, SPLIT, MIX = range(5)
SCHEDULE, SHOTS, SHUFFLE, BOOTSTRAP, BALANCE = 101, 102, 103, 104, 105
HIDE, MASK = 106, 107


def rng(seed: int, epoch: int, index: int, *, stream: int = CLIP) -> np.random.Generator:
    """The generator of one sample of one epoch: a pure function of its arguments, all >= 0.

    Philox is a counter-based generator. The seed is its key and (index, epoch, stream) the upper
    words of its counter, so two samples can never share a number.
    """
    counter = np.array([0, index, epoch, stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=seed, counter=counter))


@dataclass(frozen=True)
class Sampling:
    """How the frames of a clip are taken from a video.

    Attributes:
        frames: length T of a clip; not used by ``all``.
        stride: video frames from one clip frame to the next; not used by ``uniform``.
        kind: ``dense``: neighbors, ``stride`` apart. ``uniform``: one frame of each of ``frames``
            equal segments of the video (TSN, https://arxiv.org/abs/1608.00859). ``all``: every
            ``stride``-th frame of the video, however many there are.
        short: what a dense clip shows past the end of its video: ``loop``: the video again from
            its first frame on; ``hold``: its last frame.
        steps: where the frames of a clip lie. ``stride``: a dense clip ends with its last frame.
            ``whole``: it takes ``frames * stride`` frames of its video, so that the last possible
            start is ``stride - 1`` frames earlier, and uniform training clips draw from segments
            of n // T whole frames (MMAction2). ``linspace``: a dense clip is spread evenly over
            ``frames * stride`` frames, from the first to the last one; uniform segments lie between
            rounded bounds from the first frame to the last, both ends included (SlowFast's and
            TimeSformer's code).
        fps: the frames per second that ``stride`` counts in, whatever a video has; None: its own.
    """

    frames: int
    stride: int = 1
    kind: Literal["dense", "uniform", "all"] = "dense"
    short: Literal["loop", "hold"] = "loop"
    steps: Literal["stride", "whole", "linspace"] = "stride"
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.frames < 1 or self.stride < 1:
            raise ValueError(f"frames and stride are at least 1, not {self.frames}, {self.stride}")
        if self.kind not in ("dense", "uniform", "all"):
            raise ValueError(f"kind is dense, uniform or all, not {self.kind}")
        if self.short not in ("loop", "hold"):
            raise ValueError(f"short is loop or hold, not {self.short}")
        if self.steps not in ("stride", "whole", "linspace"):
            raise ValueError(f"steps is stride, whole or linspace, not {self.steps}")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"fps is above 0, not {self.fps}")

    def rate(self, fps: float) -> float:
        """Frames of a video of ``fps`` frames per second (0.0: without time) to one that counts."""
        return fps / self.fps if self.fps and fps else 1.0

    def extent(self, fps: float) -> float:
        """How many frames of such a video a dense clip takes."""
        if self.steps == "stride":
            return (self.frames - 1) * self.stride * self.rate(fps) + 1
        return self.frames * self.stride * self.rate(fps)


PICKS = ("center", "random", "uniform", "all")
"""Kinds of `Picks`; ``random`` and ``uniform`` take a number of frames, as ``random:2``."""


@dataclass(frozen=True)
class Picks:
    """The frames of a clip that an image teacher is shown (DistInit, ICCV 2019, table 2).

    Attributes:
        kind: ``center``: the frame in the middle. ``random``: different ones, each set of them as
            likely. ``uniform``: the centers of equal parts. ``all`` of them.
        count: how many, of ``random`` and ``uniform``.
    """

    kind: Literal["center", "random", "uniform", "all"] = "random"
    count: int = 1

    @classmethod
    def parse(cls, text: str | int) -> Picks:
        """``center``, ``random``, ``random:K``, ``uniform:K`` or ``all``; K alone is ``random:K``.

        Raises:
            UsageError: for other words.
        """
        kind, colon, number = str(text).partition(":")
        if kind.isdigit() and not colon:
            kind, colon, number = "random", ":", kind
        counted = kind in ("random", "uniform")
        wrong = colon and not (counted and number.isdigit() and int(number))
        if kind not in PICKS or wrong or (kind == "uniform" and not colon):
            raise UsageError(
                f"'{text}' says not which frames a teacher sees",
                "write center, random, random:K, uniform:K or all, as distill.picks=random:2",
            )
        return cls(kind, int(number or 1))  # type: ignore[arg-type]

    def of(self, frames: int, generator: np.random.Generator) -> np.ndarray:
        """Sorted positions in a clip of T = ``frames`` frames, int64 (K,), K at most T.

        Only ``random`` draws from the generator.
        """
        if self.kind == "center":
            return np.array([frames // 2])
        if self.kind == "all":
            return np.arange(frames)
        count = min(self.count, frames)
        if self.kind == "uniform":
            return _centers(frames, count)
        return np.sort(generator.choice(frames, count, replace=False)).astype(np.int64)

    def number(self, frames: int) -> int:
        """K, for clips of T = ``frames`` frames."""
        return {"center": 1, "all": frames}.get(self.kind, min(self.count, frames))


def train_indices(
    num_frames: int, sampling: Sampling, generator: np.random.Generator | None, fps: float = 0.0
) -> np.ndarray:
    """Frame indices of one training clip, int64 (T,), all in [0, num_frames).

    Args:
        num_frames: length of the video, at least 1.
        sampling: how its frames are taken.
        generator: draws the start of a dense clip, or a place inside each segment, uniformly;
            None takes the clip at the center, or the centers of the segments.
        fps: average frames per second of the video; 0.0 where there is no time.

    In a video with fewer frames than segments each segment shows the frame at its center, so
    frames repeat in order and none is lost.
    """
    if sampling.kind == "all" or generator is None:
        return eval_indices(num_frames, sampling, 1, fps)[0]
    _check_length(num_frames)
    if sampling.kind == "dense":
        if sampling.steps == "linspace":
            room = max(num_frames - sampling.extent(fps), 0.0)
            start = math.ceil(generator.random() * room)
        else:
            start = int(generator.integers(_starts(num_frames, sampling, fps)))
        return _dense(start, num_frames, sampling, fps)
    # Drawn for short videos too: the draws that follow do not depend on the length.
    offsets = generator.random(sampling.frames)
    rate = sampling.rate(fps)
    counted = _counted(num_frames, rate)
    places = _drawn(counted, sampling, offsets)
    return _at_rate(places, rate, num_frames)


def eval_indices(
    num_frames: int, sampling: Sampling, clips: int, fps: float = 0.0, *, first: bool = False
) -> np.ndarray:
    """Frame indices of ``clips`` clips spread over a video, int64 (clips, T), in [0, num_frames).

    Dense clips start at the midpoints of ``clips`` equal parts of all possible starts; one clip is
    the one at the center.

    A uniform clip shows the centers of the segments; of V > 1 clips the v-th shows, in segments of
    n / T frames, the frames nearest to ``(k + (v + 1) / V) * n / T`` (DiST,
    https://arxiv.org/abs/2309.07911).

    Args:
        num_frames: length of the video, at least 1.
        sampling: how its frames are taken.
        clips: how many clips.
        fps: average frames per second of the video; 0.0 where there is no time.
        first: dense clips start where the equal parts begin instead, the first with the video.

    Raises:
        UsageError: several clips of all frames are asked for.
    """
    _check_length(num_frames)
    rate = sampling.rate(fps)
    if sampling.kind == "all":
        if clips != 1:
            raise UsageError(
                f"a video sampled with 'all' frames has one clip, not {clips}",
                "ask for one clip, or for dense or uniform sampling",
            )
        count = math.ceil(num_frames / (sampling.stride * rate))
        return _at_rate(np.arange(count) * sampling.stride, rate, num_frames)[None]
    if sampling.kind == "dense":
        # v-th of V clips: at (v + 1/2) / V, or at v / V of all possible starts.
        parts = [2 * clip if first else 2 * clip + 1 for clip in range(clips)]
        if sampling.steps == "linspace":
            room = max(num_frames - sampling.extent(fps), 0.0)
            starts = [math.ceil(room * part / (2 * clips)) for part in parts]
        else:
            possible = _starts(num_frames, sampling, fps)
            starts = [part * possible // (2 * clips) for part in parts]
        return np.stack([_dense(start, num_frames, sampling, fps) for start in starts])
    counted = _counted(num_frames, rate)
    if clips == 1:
        return _at_rate(_centers_of(counted, sampling), rate, num_frames)[None]
    # (clips, T): k * V + v + 1, in steps of n / (T * V) frames.
    steps = np.arange(sampling.frames) * clips + np.arange(1, clips + 1)[:, None]
    places = steps * counted / (sampling.frames * clips)
    nearest = np.rint(np.minimum(places, counted - 1)).astype(np.int64)
    return _at_rate(nearest, rate, num_frames)


def dense_indices(
    num_frames: int,
    sampling: Sampling,
    step: int | None = None,
    fps: float = 0.0,
    *,
    first: int = 0,
    count: int | None = None,
) -> np.ndarray:
    """Frame indices of all clips of a video, int64 (clips, T), in [0, num_frames).

    Args:
        num_frames: length of the video, at least 1.
        sampling: ``dense``.
        step: frames from one clip to the next; default: the next begins where one ends. The last
            clip ends with the video, so that every frame of a clip's stride is shown.
        fps: average frames per second of the video; 0.0 where there is no time.
        first: the first clip of those that are wanted; none are left behind the last one.
        count: how many at most; default: all.
    """
    _check_length(num_frames)
    if sampling.kind != "dense":
        raise ValueError(f"only dense clips stand one behind the other, not {sampling.kind}")
    last = _starts(num_frames, sampling, fps) - 1
    each = clip_span(sampling, fps) if step is None else step
    clips = -(-last // each) + 1
    stop = clips if count is None else min(first + count, clips)
    starts = np.minimum(np.arange(first, stop, dtype=np.int64) * each, last)
    return _shown(starts[:, None] + _distances(sampling, fps), num_frames, sampling)


def clip_span(sampling: Sampling, fps: float = 0.0) -> int:
    """How many frames of a video of ``fps`` frames per second a clip is cut from, at least."""
    if sampling.kind == "dense":
        return max(1, math.floor(sampling.extent(fps)))
    return sampling.frames if sampling.kind == "uniform" else 1


def _starts(num_frames: int, sampling: Sampling, fps: float) -> int:
    """How many dense clips a video has; one if it is shorter than a clip."""
    return max(num_frames - clip_span(sampling, fps), 0) + 1


def _distances(sampling: Sampling, fps: float) -> np.ndarray:
    """Frames from the first one of a dense clip to each of its frames, int64 (T,)."""
    order = np.arange(sampling.frames)
    if sampling.steps == "linspace":
        whole = max(sampling.extent(fps) - 1, 0.0)
        return np.floor(order * whole / max(sampling.frames - 1, 1)).astype(np.int64)
    return np.floor(order * sampling.stride * sampling.rate(fps)).astype(np.int64)


def _dense(start: int, num_frames: int, sampling: Sampling, fps: float) -> np.ndarray:
    return _shown(start + _distances(sampling, fps), num_frames, sampling)


def _shown(indices: np.ndarray, num_frames: int, sampling: Sampling) -> np.ndarray:
    """Frame indices for places that may lie behind the end of a video."""
    if sampling.short == "hold":
        return np.minimum(indices, num_frames - 1)
    return indices % num_frames


def _counted(num_frames: int, rate: float) -> int:
    """How many frames a video has at the rate that counts."""
    return max(1, round(num_frames / rate))


def _at_rate(places: np.ndarray, rate: float, num_frames: int) -> np.ndarray:
    """The frames of a video that are shown at ``places`` of it at the rate that counts."""
    return np.minimum(np.floor(places * rate).astype(np.int64), num_frames - 1)


def _drawn(num_frames: int, sampling: Sampling, offsets: np.ndarray) -> np.ndarray:
    """The frame at a place in [0, 1) of each segment, int64 (T,)."""
    segments, order = sampling.frames, np.arange(sampling.frames)
    if sampling.steps == "linspace":
        bounds = _bounds(num_frames, segments)
        each = bounds[1:] - bounds[:-1] + 1
        return bounds[:-1] + (offsets * each).astype(np.int64)
    if sampling.steps == "whole":
        each = num_frames // segments
        if not each:
            places = np.rint(order * num_frames / segments).astype(np.int64)
            return _shown(places, num_frames, sampling)
        return order * each + (offsets * each).astype(np.int64)
    if num_frames <= segments:
        return _centers(num_frames, segments)
    places = (order + offsets) * num_frames / segments
    # An offset just below one may round up to the end of the video.
    return np.minimum(places.astype(np.int64), num_frames - 1)


def _centers_of(num_frames: int, sampling: Sampling) -> np.ndarray:
    """The frames in the middle of the segments, int64 (T,)."""
    if sampling.steps == "linspace":
        bounds = _bounds(num_frames, sampling.frames)
        return (bounds[:-1] + bounds[1:]) // 2
    return _centers(num_frames, sampling.frames)


def _centers(num_frames: int, segments: int) -> np.ndarray:
    """The frame in which the center of each segment lies: floor((k + 1/2) n / T)."""
    return (2 * np.arange(segments, dtype=np.int64) + 1) * num_frames // (2 * segments)


def _bounds(num_frames: int, segments: int) -> np.ndarray:
    """The ends of equal segments from the first frame to the last, rounded: int64 (T + 1,)."""
    each = (num_frames - 1) / segments
    return np.rint(np.arange(segments + 1) * each).astype(np.int64)


def _check_length(num_frames: int) -> None:
    if num_frames < 1:
        raise ValueError("a video needs at least one frame")
