"""Clips beside the lengths of their videos: how many are shorter than a clip, and a way out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...console import say
from ...data.rows import Row, Rows
from ...data.views import Sampling, clip_span

COVERED = 0.95
"""Share of the videos that an advised stride has room in."""


@dataclass(frozen=True)
class ShortVideos:
    """Videos that are shorter than a dense clip, which is then looped or held.

    Attributes:
        count: how many.
        of: of so many.
        sampling: of the clip.
        seconds: length of the clip at the videos' median rate; None where they have no time.
        stride: the largest one with which a clip has room in `COVERED` of the videos; None if not
            even neighboring frames have.
    """

    count: int
    of: int
    sampling: Sampling
    seconds: float | None
    stride: int | None

    @property
    def share(self) -> float:
        """Of the videos, 0 to 1."""
        return self.count / self.of

    def text(self) -> str:
        """How many videos are short, and what happens to them."""
        clip = f"a clip of {self.sampling.frames} frames at stride {self.sampling.stride}"
        length = "" if self.seconds is None else f" ({self.seconds:.1f} s)"
        done = "they are looped" if self.sampling.short == "loop" else "their last frame is held"
        share = f"{self.share:.0%}" if self.share >= 0.01 else f"{self.share:.1%}"
        short = f"{self.count:,} of {self.of:,} videos ({share}) are shorter than"
        return f"{short} {clip}{length}: {done}"

    def advice(self) -> str:
        """Settings that cover them."""
        uniform = "data.sampling=uniform"
        if self.stride is None:
            return f"{uniform} covers them"
        return f"data.stride={self.stride} or {uniform} covers them"


def lengths_of(rows: Sequence[Row]) -> Iterator[tuple[int, float]]:
    """Frames of each row's video or segment, and its frames per second (0: without time).

    Rows whose file is not known to be readable are left out, and so are pictures.
    """
    for row in rows:
        if row.probe is None or row.probe.reader == "image":
            continue
        frames, fps = row.probe.num_frames, row.probe.fps
        if row.start is not None or row.end is not None:
            scale = 1.0 if row.in_frames else fps
            if scale > 0:
                begin = min(_frame((row.start or 0.0) * scale), frames)
                end = frames if row.end is None else min(_frame(row.end * scale), frames)
                frames = max(end - begin, 1)
        yield frames, fps


def _frame(place: float) -> int:
    """The first frame that is not before a place, which may be a little off its frame."""
    return math.ceil(place - 1e-3)


def short_videos(rows: Rows, sampling: Sampling) -> ShortVideos | None:
    """The videos that a clip does not fit into; None where there is none.

    Args:
        rows: with their probes.
        sampling: of the clips; only dense ones can be too long.
    """
    if sampling.kind != "dense":
        return None
    found = list(lengths_of(rows.rows))
    count = sum(frames < clip_span(sampling, fps) for frames, fps in found)
    if not count:
        return None
    rates = [fps for _, fps in found if fps > 0]
    rate = float(np.median(rates)) if rates else 0.0
    seconds = sampling.extent(rate) / rate if rate else None
    return ShortVideos(count, len(found), sampling, seconds, _stride(found, sampling))


def _stride(lengths: Sequence[tuple[int, float]], sampling: Sampling) -> int | None:
    """The largest smaller stride with which a clip has room in most of the videos."""
    for stride in range(sampling.stride - 1, 0, -1):
        smaller = replace(sampling, stride=stride)
        fits = sum(frames >= clip_span(smaller, fps) for frames, fps in lengths)
        if fits >= COVERED * len(lengths):
            return stride
    return None


def say_short(rows: Rows, sampling: Sampling, what: str) -> ShortVideos | None:
    """`short_videos`, and a line about them where there are any.

    Args:
        rows: with their probes.
        sampling: of the clips.
        what: the data, for the message.
    """
    found = short_videos(rows, sampling)
    if found is not None:
        say(f"note: {what}: {found.text()}; {found.advice()}")
    return found
