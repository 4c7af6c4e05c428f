"""Events of long videos: neighboring clips of one class, joined, with start, end and score."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, UsageError, escaped, suggest
from ...files import written
from ...zoo.probabilities import ranked


@dataclass(frozen=True)
class Event:
    """A stretch of a video that is of one class.

    Attributes:
        start, end: in seconds from the first frame.
        label: its class.
        score: the highest probability of any of its clips, after smoothing.
        peak: the middle of that clip, in seconds.
    """

    start: float
    end: float
    label: str
    score: float
    peak: float

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        start, end, score = (round(value, 6) for value in (self.start, self.end, self.score))
        return {"start": start, "end": end, "class": self.label, "score": score}


@dataclass(frozen=True)
class Finding:
    """How clips become events.

    Attributes:
        positive: the one class that is looked for; None: all of them.
        threshold: the least probability, after smoothing; None: 0.5 of a class that is looked for,
            and where a clip may have several classes; otherwise there is none, and each clip is of
            its most probable class.
        smooth: seconds over whose clips probabilities are averaged; 0: each clip by itself.
    """

    positive: str | None = None
    threshold: float | None = None
    smooth: float = 0.0


@dataclass(frozen=True)
class Labeler:
    """The classes of a clip, from its probabilities.

    Attributes:
        heads: names of the classes of each head, see `VideoModel.class_names_by_head`.
        several: whether a clip may have several classes at once.
        finding: which of them count.
    """

    heads: dict[str, list[str]]
    several: bool
    finding: Finding

    def __post_init__(self) -> None:
        name = self.finding.positive
        if name is not None and name not in self.names:
            hint = suggest(name, self.names) or f"take one of {', '.join(self.names[:10])}"
            raise UsageError(f"the model has no class '{name}'", hint)

    @property
    def names(self) -> list[str]:
        """All classes, those of several heads one after the other."""
        return [name for names in self.heads.values() for name in names]

    @property
    def least(self) -> float:
        """The threshold."""
        if self.finding.threshold is not None:
            return self.finding.threshold
        return 0.5 if self.several or self.finding.positive is not None else 0.0

    def of(self, probabilities: np.ndarray) -> dict[str, float]:
        """Classes with their probabilities, of which there are so many or none."""
        if self.finding.positive is not None:
            places = [self.names.index(self.finding.positive)]
        elif self.several:
            places = np.flatnonzero(probabilities >= self.least).tolist()
        else:
            name, value = ranked(self.heads, probabilities, 1)["classes"][0]
            return {name: value} if value >= self.least else {}
        found = {self.names[place]: float(probabilities[place]) for place in places}
        return {name: value for name, value in found.items() if value >= self.least}


Clip = tuple[float, float, np.ndarray | None]
"""Start and end in seconds, and the probabilities, (classes,); None of one that was not read."""


def find_events(clips: Iterable[Clip], labeler: Labeler, *, width: int = 1) -> list[Event]:
    """Events from clips in the order of time, in memory that grows with the events alone.

    Where clips overlap, each stands for the time up to halfway to its neighbor's middle.

    Args:
        clips: of one video. One that was not read ends what goes on.
        labeler: their classes.
        width: clips that are averaged, the one in the middle among them.

    Returns:
        By their start, and those of one start by class.
    """
    going: dict[str, Event] = {}
    done: list[Event] = []
    for start, end, middle, probabilities in _cells(_smoothed(clips, width)):
        found = {} if probabilities is None else labeler.of(probabilities)
        for name in going.keys() - found.keys():
            done.append(going.pop(name))
        for name, score in found.items():
            before = going.get(name)
            if before is None:
                going[name] = Event(start, end, name, score, middle)
            elif score > before.score:
                going[name] = replace(before, end=end, score=score, peak=middle)
            else:
                going[name] = replace(before, end=end)
    return sorted([*done, *going.values()], key=lambda event: (event.start, event.label))


def smoothing_width(seconds: float, step: float) -> int:
    """How many clips ``seconds`` are, an odd number; ``step`` seconds from one to the next."""
    return 2 * math.floor(seconds / step / 2 + 1e-9) + 1


def _smoothed(clips: Iterable[Clip], width: int) -> Iterator[Clip]:
    """Each clip with the mean over it and its neighbors, as many on both sides as there are."""
    half = width // 2
    near: deque[Clip] = deque()
    place = 0  # of the clip that is next, in `near`

    def mean() -> Clip:
        start, end, own = near[place]
        if own is None:
            return start, end, None
        first = max(place - half, 0)
        around = [near[i][2] for i in range(first, min(place + half + 1, len(near)))]
        return start, end, np.mean([one for one in around if one is not None], axis=0)

    for clip in clips:
        near.append(clip)
        if len(near) > place + half:
            yield mean()
            place += 1
        if place > half:
            near.popleft()
            place -= 1
    while place < len(near):
        yield mean()
        place += 1


def _cells(clips: Iterable[Clip]) -> Iterator[tuple[float, float, float, np.ndarray | None]]:
    """Start and end of what each clip stands for, its middle, and its probabilities."""
    before: Clip | None = None
    begins = 0.0
    for clip in clips:
        if before is not None:
            start, end, values = before
            border = (start + end + clip[0] + clip[1]) / 4  # halfway between the middles
            yield begins, min(border, end), (start + end) / 2, values
            begins = max(border, clip[0])
        else:
            begins = clip[0]
        before = clip
    if before is not None:
        start, end, values = before
        yield begins, end, (start + end) / 2, values


FORMATS = (".csv", ".srt", ".json")
"""Suffixes of files of events."""


def check_events_file(file: Path, *, videos: int, overwrite: bool) -> None:
    """Raise UsageError where events cannot be written into a file of this name."""
    if file.suffix not in FORMATS:
        raise UsageError(
            f"--events {file} is of no known form", f"end its name in {', '.join(FORMATS)}"
        )
    if file.suffix == ".srt" and videos > 1:
        raise UsageError("subtitles are of one video", "write --events as .csv or .json")
    if file.is_dir() or (file.exists() and not overwrite):
        raise UsageError(f"--events {file} exists", "name another file, or pass --overwrite")


def write_events(file: Path, events: Mapping[str, Sequence[Event]]) -> None:
    """Write the events of videos, by the form that the file's name ends in.

    ``.csv`` has the columns path, start, end, class and score; ``.json`` a list of such objects;
    ``.srt`` the events of one video as subtitles.

    Raises:
        VidinitError: the disk does not take it.
    """
    listed = [(path, event) for path, own in events.items() for event in own]
    with written(file, advice="make room, or name another file") as part:
        part.write_text(_FORMS[file.suffix](listed), encoding="utf-8", errors="surrogateescape")


def _csv(listed: Sequence[tuple[str, Event]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "start", "end", "class", "score"])
    for path, event in listed:
        times = f"{event.start:.3f}", f"{event.end:.3f}"
        writer.writerow([escaped(path), *times, escaped(event.label), f"{event.score:.6f}"])
    return text.getvalue()


def _json(listed: Sequence[tuple[str, Event]]) -> str:
    return (
        json.dumps([{"path": path, **event.as_dict()} for path, event in listed], indent=2) + "\n"
    )


def _srt(listed: Sequence[tuple[str, Event]]) -> str:
    parts = [
        f"{number}\n{_srt_time(event.start)} --> {_srt_time(event.end)}\n"
        f"{escaped(event.label)} ({event.score:.2f})\n"
        for number, (_, event) in enumerate(listed, start=1)
    ]
    return "\n".join(parts)


_FORMS = {".csv": _csv, ".json": _json, ".srt": _srt}


def _srt_time(seconds: float) -> str:
    """``00:01:02,345``, as subtitles have it."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d},{thousandths:03d}"


def clock(seconds: float) -> str:
    """``1:02:03.4``: a place in a video for people, without hours where there are none."""
    tenths = round(seconds * 10)
    hours, minutes, rest = tenths // 36000, tenths // 600 % 60, tenths % 600
    text = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"


def threshold_of(word: str | float, positive: str | None) -> tuple[float, str | None]:
    """A threshold and the class that it is of, from a number or an evaluation's folder.

    Args:
        word: a probability, or the folder of an evaluation that looked for one class.
        positive: the class that is asked for; None: the evaluation's.

    Raises:
        UsageError: it is neither, or of another class.
        DataError: its result.json cannot be read.
    """
    try:
        value = float(word)
    except ValueError:
        return _chosen(Path(str(word)), positive)
    if not 0 <= value <= 1:
        raise UsageError(f"--threshold is a probability, 0 to 1, not {value:g}")
    return value, positive


def _chosen(folder: Path, positive: str | None) -> tuple[float, str]:
    file = folder / "result.json"
    if not file.is_file():
        raise UsageError(
            f"--threshold {folder} is no number, and no evaluation's folder",
            "give a probability, or a folder that vidinit eval wrote",
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("two_class")
        threshold, name = (None, None) if found is None else (found["threshold"], found["positive"])
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged ({error})", "evaluate again") from error
    if threshold is None:
        raise UsageError(
            f"the evaluation in {folder} looked for no class", "evaluate with --positive CLASS"
        )
    if positive not in (None, name):
        raise UsageError(
            f"the threshold of {folder} is that of '{name}', not of '{positive}'",
            "leave --positive out, or give a number",
        )
    return float(threshold), str(name)
