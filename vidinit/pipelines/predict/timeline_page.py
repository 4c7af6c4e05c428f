"""The page of a timeline: the events of a video and its probabilities, over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from ...data.readers import VideoReadError, open_row
from ...data.rows import Row
from ...report import plots
from ...report.answer import answer
from ...report.html import Section, details, figure, page, table
from ...report.pictures import animation
from .events import Event, clock

# Points of a line: more than a picture has pixels for would be memory that grows with the video.
_BINS = 512


class BinnedCurve:
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
        filled = self.counts > 0
        counts = self.counts[filled]
        return self.times[filled] / counts, self.sums[filled] / counts[:, None]


_SHOWN = len(plots.COLORS)  # classes of a picture
_MINUTES_FROM = 300.0  # seconds; times of longer videos are shown in minutes
_DRAWN = 1000  # events of a time line
_LISTED, _AT_ONCE = 500, 20  # events of a table
_PICTURED = 12  # events with a moving picture
_FRAMES, _SIDE = 8, 128  # of such a picture
_TICKS = 6


def timeline_page(
    curve: BinnedCurve,
    heads: Mapping[str, Sequence[str]],
    *,
    title: str,
    seconds: float,
    events: Sequence[Event] = (),
    row: Row | None = None,
    reader: str = "auto",
) -> str:
    """A page with the events of a video, and the classes that are most probable anywhere.

    Args:
        curve: of a video; it has at least one clip.
        heads: names of the classes of each head, in the order of the probabilities.
        title: the video.
        seconds: its length.
        events: by their start.
        row: of the video, for pictures of the events; None: no pictures.
        reader: what decodes.
    """
    sections = _lanes(events, seconds)
    if row is not None and events:
        sections += _pictures(events, row, reader)
    sections += _probabilities(curve, heads)
    if events:
        sections.append(_table(events))
    clips = f"{int(curve.counts.sum())} clips"
    return page(title, sections, subtitle=clips, answer=_answer(events, seconds))


def _answer(events: Sequence[Event], seconds: float) -> str:
    count = f"{len(events)} event{'' if len(events) == 1 else 's'}"
    if not events:
        return answer(f"No event in {clock(seconds)}", "No clip reaches the threshold.")
    lengths: Counter[str] = Counter()
    for event in events:
        lengths[event.label] += event.end - event.start  # type: ignore[assignment]
    name, most = lengths.most_common(1)[0]
    own = sum(event.label == name for event in events)
    best = max(events, key=lambda event: event.score)
    return answer(
        f"{count} in {clock(seconds)}",
        f"Most of it is {name}: {clock(most)} in {own} event{'' if own == 1 else 's'}. "
        f"The surest is {best.label} at {clock(best.peak)}, with {best.score:.2f}.",
    )


def _lanes(events: Sequence[Event], seconds: float) -> list[Section]:
    """The events on the time line, a lane for each class."""
    if not events or not seconds:
        return []
    shown = sorted(events, key=lambda event: -event.score)[:_DRAWN]
    classes = Counter(event.label for event in events).most_common()
    parts = []
    for place, (name, count) in enumerate(classes[:_TOP]):
        color = plots.COLORS[place % len(plots.COLORS)]
        bars = "".join(_bar(event, seconds, color) for event in shown if event.label == name)
        heading = f"<span>{escape(name)}</span><span>{count}</span>"
        parts.append(f'<div class="lane-name">{heading}</div><div class="lane">{bars}</div>')
    marks = np.linspace(0, seconds, _TICKS).tolist()
    ticks = "".join(
        f'<span style="left: {100 * at / seconds:.2f}%">{clock(at)}</span>' for at in marks
    )
    body = f'<div class="wide">{"".join(parts)}<div class="ticks">{ticks}</div></div>'
    note = "Point at an event for its times and its score."
    if len(classes) > _TOP:
        note += f" The {_TOP} most frequent of {len(classes)} classes."
    if len(events) > len(shown):
        note += f" The {len(shown)} surest of {len(events)} events."
    return [Section("Events", body, note, wide=True)]


_TOP = 12  # classes with a lane


def _bar(event: Event, seconds: float, color: str) -> str:
    left, width = 100 * event.start / seconds, 100 * (event.end - event.start) / seconds
    words = f"{event.label} {clock(event.start)} to {clock(event.end)}, {event.score:.2f}"
    style = f"left: {left:.3f}%; width: {width:.3f}%; background: {color}"
    return f'<span title="{escape(words)}" style="{style}"></span>'


def _pictures(events: Sequence[Event], row: Row, reader: str) -> list[Section]:
    """The surest events as moving pictures, in the order of time."""
    surest = sorted(events, key=lambda event: -event.score)[:_PICTURED]
    figures = []
    try:
        video = open_row(row, reader=reader, short_side=_SIDE)
        times = video.times()
        for event in sorted(surest, key=lambda event: event.start):
            frames = np.searchsorted(times, np.linspace(event.start, event.end, _FRAMES))
            picture = animation(
                video.get(np.minimum(frames, video.num_frames - 1)),
                label=f"{event.label} at {clock(event.start)}",
                fps=4.0,
            )
            caption = f"{event.label} {event.score:.2f}\n{clock(event.start)} to {clock(event.end)}"
            figures.append(figure(picture, caption))
    except VideoReadError:  # it went bad since its clips were read
        return []
    note = "Eight frames of each, all over its time; point at one, or tap it, and it plays."
    if len(events) > len(surest):
        note += f" The {len(surest)} surest."
    body = f'<div class="gallery">{"".join(figures)}</div>'
    return [Section("The surest events", body, note, wide=True)]


def _probabilities(curve: BinnedCurve, heads: Mapping[str, Sequence[str]]) -> list[Section]:
    """The classes that are most probable anywhere, for each head."""
    seconds, values = curve.points()
    minutes = seconds[-1] >= _MINUTES_FROM
    times = (seconds / 60 if minutes else seconds).tolist()
    sections, start = [], 0
    mean = curve.mean
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
            series,
            xlabel="minutes" if minutes else "seconds",
            ylabel="probability",
            fractions=True,
        )
        figures = table(
            ["class", "mean", "highest"],
            [[names[i], float(overall[i]), float(own[:, i].max())] for i in order],
        )
        note = "The classes with the highest peaks, each clip by itself."
        if curve.width > 1:
            note += f" A point is the mean of {curve.width} neighboring clips."
        sections.append(Section(f"Probabilities: {head}", picture + figures, note))
    return sections


def _table(events: Sequence[Event]) -> Section:
    headers = ["start", "end", "class", "score"]
    rows = [
        [clock(event.start), clock(event.end), event.label, event.score]
        for event in events[:_LISTED]
    ]
    body, then = table(headers, rows[:_AT_ONCE]), rows[_AT_ONCE:]
    if then:
        body += details(f"{len(then)} more", table(headers, then))
    left = len(events) - len(rows)
    return Section("All events", body, f"{left} more are in --events." if left else "")
