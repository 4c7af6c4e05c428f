"""Predictions as lines of text, each as soon as it is known."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import UsageError, suggest

if TYPE_CHECKING:
    from ...scoring.predict import Prediction

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
    in seconds.

    Args:
        form: one of `FORMATS`.
        timeline: whether clips are told, and of whole files only what is wrong with them.
    """

    def __init__(self, form: str, *, timeline: bool = False) -> None:
        self.form, self.timeline = form, timeline
        self.begun = False

    def of(self, prediction: Prediction) -> Iterator[str]:
        """The lines of one prediction, and of the first those above all others."""
        if self.timeline and prediction.start is None and prediction.error is None:
            return
        if not self.begun:
            self.begun = True
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
            yield json.dumps(prediction.as_dict())
            return
        file = _printable(prediction.file)
        span = (prediction.start, prediction.end) if self.timeline else ()
        if self.form == "csv":
            times = ["" if second is None else f"{second:.3f}" for second in span]
            for rank, (name, value) in enumerate(prediction.classes, start=1):
                yield _csv([file, *times, rank, name, f"{value:.8g}", ""])
            if prediction.error is not None:
                yield _csv([file, *times, "", "", "", prediction.error])
            return
        wide = "".join(f"{second:9.2f}  " for second in span if second is not None)
        for name, value in prediction.classes:
            yield f"{wide}{value:11.4f}  {name:<28}  {file}"


def _csv(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _printable(path: str) -> str:
    """A path as text: the bytes of a name that is not UTF-8 are written out."""
    return path.encode(errors="backslashreplace").decode()
