"""Class probabilities over the time of a video, as a page with a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from . import plots
from .html import Section, page, table

# Points of a line: more than a picture has pixels for would be memory that grows with the video.
_BINS = 512
_SHOWN = len(plots.COLORS)
_MINUTES_FROM = 300.0  # seconds


class Course:
    """Mean probabilities in a bounded number of bins: neighbors are joined as a video goes on.

    Args:
        classes: how many probabilities a clip has.
        bins: how many bins there are at most, an even number.
    """

    def __init__(self, classes: int, bins: int = _BINS) -> None:
        self.sums = np.zeros((bins, classes))
        self.times = np.zeros(bins)
        self.counts = np.zeros(bins, dtype=np.int64)
        self.width = 1  # clips of a bin

    def add(self, clip: int, middle: float, values: np.ndarray) -> None:
        """One clip.

        Args:
            clip: its number in the video.
            middle: the time at its middle, in seconds.
            values: its probabilities, (classes,).
        """
        while clip // self.width >= len(self.sums):
            for name in ("sums", "times", "counts"):
                old = getattr(self, name)
                joined = old[0::2] + old[1::2]
                setattr(self, name, np.concatenate([joined, np.zeros_like(joined)]))
            self.width *= 2
        place = clip // self.width
        self.sums[place] += values
        self.times[place] += middle
        self.counts[place] += 1

    @property
    def mean(self) -> np.ndarray | None:
        """Probabilities of the video, (classes,); None without a clip."""
        total = int(self.counts.sum())
        return self.sums.sum(axis=0) / total if total else None

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Times in seconds, (bins,), and probabilities, (bins, classes), of bins with a clip."""
        there = self.counts > 0
        counts = self.counts[there]
        return self.times[there] / counts, self.sums[there] / counts[:, None]


def timeline_page(course: Course, heads: Mapping[str, Sequence[str]], *, title: str) -> str:
    """A page with a picture of the classes that are most probable anywhere, for each head.

    Args:
        course: of a video; it has at least one clip.
        heads: names of the classes of each head, in the order of the probabilities.
        title: the video.
    """
    seconds, values = course.points()
    minutes = seconds[-1] >= _MINUTES_FROM
    times = (seconds / 60 if minutes else seconds).tolist()
    sections, start = [], 0
    mean = course.mean
    assert mean is not None
    for head, names in heads.items():
        own = values[:, start : start + len(names)]
        overall = mean[start : start + len(names)]
        start += len(names)
        order = np.argsort(-own.max(axis=0), kind="stable")[:_SHOWN].tolist()
        series = {
            f"{names[place]}": list(zip(times, own[:, place].tolist(), strict=True))
            for place in order
        }
        picture = plots.curves(
            series, xlabel="minutes" if minutes else "seconds", ylabel="probability"
        )
        figures = table(
            ["class", "mean", "highest"],
            [[names[i], float(overall[i]), float(own[:, i].max())] for i in order],
        )
        note = "The classes with the highest peaks."
        if course.width > 1:
            note += f" A point is the mean of {course.width} neighboring clips."
        sections.append(Section(head.capitalize(), picture + figures, note))
    return page(title, sections, subtitle=f"{int(course.counts.sum())} clips")
