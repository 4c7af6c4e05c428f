"""The frames that a clip is made of, and the randomness that chooses them. Numpy only.

Randomness is counted, not drawn: every generator is a function of (seed, epoch, index), so neither
the number of workers nor an interruption changes what a run sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import UsageError

# Uses of randomness that must not share a stream.
CLIP, ORDER, SUBSTITUTE, SPLIT, MIX = range(5)
SCHEDULE, SHOTS, SHUFFLE, BOOTSTRAP, BALANCE = 101, 102, 103, 104, 105


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
    """

    frames: int
    stride: int = 1
    kind: Literal["dense", "uniform", "all"] = "dense"
    short: Literal["loop", "hold"] = "loop"

    def __post_init__(self) -> None:
        if self.frames < 1 or self.stride < 1:
            raise ValueError(f"frames and stride are at least 1, not {self.frames}, {self.stride}")
        if self.kind not in ("dense", "uniform", "all"):
            raise ValueError(f"kind is dense, uniform or all, not {self.kind}")
        if self.short not in ("loop", "hold"):
            raise ValueError(f"short is loop or hold, not {self.short}")


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
    num_frames: int, sampling: Sampling, generator: np.random.Generator | None
) -> np.ndarray:
    """Frame indices of one training clip, int64 (T,), all in [0, num_frames).

    Args:
        num_frames: length of the video, at least 1.
        sampling: how its frames are taken.
        generator: draws the start of a dense clip, or a place inside each segment, uniformly;
            None takes the clip at the center, or the centers of the segments.

    In a video with fewer frames than segments each segment shows the frame at its center, so
    frames repeat in order and none is lost.
    """
    if sampling.kind == "all" or generator is None:
        return eval_indices(num_frames, sampling, 1)[0]
    _check_length(num_frames)
    if sampling.kind == "dense":
        return _dense(int(generator.integers(_starts(num_frames, sampling))), num_frames, sampling)
    # Drawn for short videos too: the draws that follow do not depend on the length.
    offsets = generator.random(sampling.frames)
    if num_frames <= sampling.frames:
        return _centers(num_frames, sampling.frames)
    places = (np.arange(sampling.frames) + offsets) * num_frames / sampling.frames
    # An offset just below one may round up to the end of the video.
    return np.minimum(places.astype(np.int64), num_frames - 1)


def eval_indices(num_frames: int, sampling: Sampling, clips: int) -> np.ndarray:
    """Frame indices of ``clips`` clips spread over a video, int64 (clips, T), in [0, num_frames).

    Dense clips start at the midpoints of ``clips`` equal parts of all possible starts; one clip is
    the one at the center.

    A uniform clip shows the centers of the segments; of V > 1 clips the v-th shows, in segments of
    n / T frames, the frames nearest to ``(k + (v + 1) / V) * n / T`` (DiST,
    https://arxiv.org/abs/2309.07911).

    Raises:
        UsageError: several clips of all frames are asked for.
    """
    _check_length(num_frames)
    if sampling.kind == "all":
        if clips != 1:
            raise UsageError(
                f"a video sampled with 'all' frames has one clip, not {clips}",
                "ask for one clip, or for dense or uniform sampling",
            )
        return np.arange(0, num_frames, sampling.stride, dtype=np.int64)[None]
    if sampling.kind == "dense":
        starts = _starts(num_frames, sampling)
        midpoints = [(2 * clip + 1) * starts // (2 * clips) for clip in range(clips)]
        return np.stack([_dense(start, num_frames, sampling) for start in midpoints])
    if clips == 1:
        return _centers(num_frames, sampling.frames)[None]
    # (clips, T): k * V + v + 1, in steps of n / (T * V) frames.
    steps = np.arange(sampling.frames) * clips + np.arange(1, clips + 1)[:, None]
    places = steps * num_frames / (sampling.frames * clips)
    return np.rint(np.minimum(places, num_frames - 1)).astype(np.int64)


def dense_indices(
    num_frames: int,
    sampling: Sampling,
    step: int | None = None,
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
        first: the first clip of those that are wanted; none are left behind the last one.
        count: how many at most; default: all.
    """
    _check_length(num_frames)
    if sampling.kind != "dense":
        raise ValueError(f"only dense clips stand one behind the other, not {sampling.kind}")
    span = (sampling.frames - 1) * sampling.stride + 1
    last = _starts(num_frames, sampling) - 1
    each = span if step is None else step
    clips = -(-last // each) + 1
    stop = clips if count is None else min(first + count, clips)
    starts = np.minimum(np.arange(first, stop, dtype=np.int64) * each, last)
    return _shown(
        starts[:, None] + sampling.stride * np.arange(sampling.frames), num_frames, sampling
    )


def _starts(num_frames: int, sampling: Sampling) -> int:
    """How many dense clips a video has; one if it is shorter than a clip."""
    span = (sampling.frames - 1) * sampling.stride + 1
    return max(num_frames - span, 0) + 1


def _dense(start: int, num_frames: int, sampling: Sampling) -> np.ndarray:
    indices = start + sampling.stride * np.arange(sampling.frames, dtype=np.int64)
    return _shown(indices, num_frames, sampling)


def _shown(indices: np.ndarray, num_frames: int, sampling: Sampling) -> np.ndarray:
    """Frame indices for places that may lie behind the end of a video."""
    if sampling.short == "hold":
        return np.minimum(indices, num_frames - 1)
    return indices % num_frames


def _centers(num_frames: int, segments: int) -> np.ndarray:
    """The frame in which the center of each segment lies: floor((k + 1/2) n / T)."""
    return (2 * np.arange(segments, dtype=np.int64) + 1) * num_frames // (2 * segments)


def clip_span(sampling: Sampling) -> int:
    """How many frames of a video a clip is cut from, at least."""
    if sampling.kind == "dense":
        return (sampling.frames - 1) * sampling.stride + 1
    return sampling.frames if sampling.kind == "uniform" else 1


def _check_length(num_frames: int) -> None:
    if num_frames < 1:
        raise ValueError("a video needs at least one frame")
