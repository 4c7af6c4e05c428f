"""Predictions, and these as lines of text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...console import json_text
from ...errors import UsageError, escaped, suggest
from ...zoo.probabilities import Ranked
from .events import Event, clock


@dataclass(frozen=True)
class Prediction:
    """Classes of one file, or of one clip of its timeline.

    Attributes:
        file: the file, as the user named it.
        classes: (class name, probability), most probable first; empty when it cannot be read. Of a
            model of verbs and nouns actions, as ``verb noun``, by the product of the two.
        error: why it cannot be read, or None.
        verbs, nouns: the same of each head of such a model; None of others.
        start, end: of a clip, in seconds from the first frame of the video; None of a whole file.
        timeline: the JSON lines of a file's clips, where a timeline was asked for. The classes are
            then those of the mean over the clips.
        events: of a timeline, see `events.find_events`; none of a file that cannot be read.
        kept: in words how much of a damaged file the classes are of; None of a sound one.
        boxes: by a detector, ready for JSON, see `detect.forms.box_dicts`; the classes are then the
            highest probabilities of any box.
    """

    file: str
    classes: Ranked
    error: str | None = None
    verbs: Ranked | None = None
    nouns: Ranked | None = None
    start: float | None = None
    end: float | None = None
    timeline: str | None = None
    events: list[Event] | None = None
    kept: str | None = None
    boxes: list[dict[str, Any]] | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.file)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: ``{path, classes: [{class, probability}]}`` and what else there is."""
        times = {} if self.start is None else {"start": self.start, "end": self.end}
        out: dict[str, Any] = {"path": self.file, **times}
        for key in ("classes", "verbs", "nouns"):
            ranked = getattr(self, key)
            if ranked is not None:
                out[key] = [{"class": name, "probability": value} for name, value in ranked]
        if self.timeline is not None:
            out["timeline"] = self.timeline
        if self.events is not None:
            out["events"] = [event.as_dict() for event in self.events]
        if self.kept is not None:
            out["kept"] = self.kept
        if self.boxes is not None:
            out["boxes"] = self.boxes
        return out if self.error is None else {**out, "error": self.error}


FORMATS = ("table", "jsonl", "csv")


def check_format(name: str) -> str:
    """``name``, if it is one of `FORMATS`.

    Raises:
        UsageError: it is not.
    """
    if name not in FORMATS:
        hint = suggest(name, FORMATS) or f"take one of {', '.join(FORMATS)}"
        raise UsageError(f"there is no format '{name}'", hint)
    return name


class Lines:
    """Predictions in one of the formats.

    A table and csv have a row for each class of a file, the most probable first; a file that
    cannot be read has a row in csv, and in JSON lines an object. Of a timeline there are the events
    of each file, with times in seconds, in a table as people read them. Names are `escaped`; in
    JSON lines they are whole.

    Args:
        form: one of `FORMATS`.
    """

    def __init__(self, form: str) -> None:
        self.form = form
        self.started = False

    def of(self, prediction: Prediction) -> Iterator[str]:
        """The lines of one prediction; before those of the first the heading of the table.

        The clips of a timeline have none.
        """
        if prediction.start is not None:
            return
        timeline = prediction.events is not None
        if not self.started:
            self.started = True
            yield from self._head(timeline)
        yield from self._events(prediction) if timeline else self._rows(prediction)

    def _head(self, timeline: bool) -> list[str]:
        if self.form == "csv":
            own = (
                ["start", "end", "class", "score"] if timeline else ["rank", "class", "probability"]
            )
            return [_csv(["path", *own, "error"])]
        if self.form == "table":
            if timeline:
                return [f"{'start':>10}  {'end':>10}  {'score':>5}  {'class':<28}  file"]
            return [f"{'probability':>11}  {'class':<28}  file"]
        return []

    def _events(self, prediction: Prediction) -> Iterator[str]:
        """A line an event."""
        file, error = escaped(prediction.file), prediction.error
        for event in prediction.events or ():
            if self.form == "jsonl":
                yield json_text({"path": prediction.file, **event.as_dict()})
            elif self.form == "csv":
                times = f"{event.start:.3f}", f"{event.end:.3f}"
                yield _csv([file, *times, escaped(event.label), f"{event.score:.8g}", ""])
            else:
                times = f"{clock(event.start):>10}", f"{clock(event.end):>10}"
                yield "  ".join(
                    [*times, f"{event.score:5.2f}", f"{escaped(event.label):<28}", file]
                )
        if error is not None and self.form == "jsonl":
            yield json_text({"path": prediction.file, "error": error})
        elif error is not None and self.form == "csv":
            yield _csv([file, "", "", "", "", escaped(error)])

    def _rows(self, prediction: Prediction) -> Iterator[str]:
        if self.form == "jsonl":
            yield json_text(prediction.as_dict())
            return
        file = escaped(prediction.file)
        if self.form == "csv":
            for rank, (name, value) in enumerate(prediction.classes, start=1):
                yield _csv([file, rank, escaped(name), f"{value:.8g}", ""])
            if prediction.error is not None:
                yield _csv([file, "", "", "", escaped(prediction.error)])
            return
        for name, value in prediction.classes:
            yield f"{value:11.4f}  {escaped(name):<28}  {file}"


def _csv(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
