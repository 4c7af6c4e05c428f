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
        kept: in words how much of a damaged file the classes are of; None of a sound one.
    """

    file: str
    classes: Ranked
    error: str | None = None
    verbs: Ranked | None = None
    nouns: Ranked | None = None
    start: float | None = None
    end: float | None = None
    timeline: str | None = None
    kept: str | None = None

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
        if self.kept is not None:
            out["kept"] = self.kept
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
    cannot be read has a row in csv, and in JSON lines an object. The clips of a timeline have times
    in seconds. Names are `escaped`; in JSON lines they are whole.

    Args:
        form: one of `FORMATS`.
        timeline: show clips, and of whole files only what is wrong with them.
    """

    def __init__(self, form: str, *, timeline: bool = False) -> None:
        self.form, self.timeline = form, timeline
        self.started = False

    def of(self, prediction: Prediction) -> Iterator[str]:
        """The lines of one prediction; before those of the first the heading of the table."""
        if self.timeline and prediction.start is None and prediction.error is None:
            return
        if not self.started:
            self.started = True
            yield from self._head()
        yield from self._rows(prediction)

    def _head(self) -> list[str]:
        times = ["start", "end"] if self.timeline else []
        if self.form == "csv":
            return [_csv(["path", *times, "rank", "class", "probability", "error"])]
        if self.form == "table":
            wide = "".join(f"{name:>9}  " for name in times)
            return [f"{wide}{'probability':>11}  {'class':<28}  file"]
        return []

    def _rows(self, prediction: Prediction) -> Iterator[str]:
        if self.form == "jsonl":
            yield json_text(prediction.as_dict())
            return
        file = escaped(prediction.file)
        span = (prediction.start, prediction.end) if self.timeline else ()
        if self.form == "csv":
            times = ["" if second is None else f"{second:.3f}" for second in span]
            for rank, (name, value) in enumerate(prediction.classes, start=1):
                yield _csv([file, *times, rank, escaped(name), f"{value:.8g}", ""])
            if prediction.error is not None:
                yield _csv([file, *times, "", "", "", escaped(prediction.error)])
            return
        wide = "".join(f"{second:9.2f}  " for second in span if second is not None)
        for name, value in prediction.classes:
            yield f"{wide}{value:11.4f}  {escaped(name):<28}  {file}"


def _csv(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
