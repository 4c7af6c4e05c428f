"""A csv of one's own: ``path,time|frame,x1,y1,x2,y2,label[,track][,score][,split]``.

A row is a box and one action; equal boxes of a frame are one box with several actions, and so are
several actions in one cell, separated by ``;``. An empty label is a person who does none of them.
``frame`` counts from 0, ``time`` is in seconds. Coordinates that are all at most 1 are fractions of
width and height, others pixels.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from ...errors import DataError, suggest
from ..sources.access import content_lines, shown, suffix_of, text_lines
from ..sources.options import PART_NAMES, PartName
from .collect import LISTS, MOST_FRAMES, BoxOptions, Collected, number_in

_COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", "video_path", "video", "file", "filename"),
    "frame": ("frame", "frame_id", "frame_number"),
    "time": ("time", "seconds", "second", "timestamp"),
    "x1": ("x1", "xmin", "x_min", "xtl"),
    "y1": ("y1", "ymin", "y_min", "ytl"),
    "x2": ("x2", "xmax", "x_max", "xbr"),
    "y2": ("y2", "ymax", "y_max", "ybr"),
    "label": ("label", "action", "class", "class_name", "category"),
    "track": ("track", "track_id", "person", "person_id"),
    "score": ("score", "confidence"),
    "split": ("split", "subset"),
}
_CORNERS = ("x1", "y1", "x2", "y2")
_HINT = "the header is path,frame,x1,y1,x2,y2,label, with time in place of frame if that is known"


def own_csv(file: str, options: BoxOptions) -> Collected | None:
    """The boxes of a csv or tsv file whose header names the corners of boxes.

    Raises:
        DataError: a column is missing, or a row or a value in it is wrong.
    """
    if suffix_of(file) not in LISTS:
        return None
    number, line = next(content_lines(file), (0, ""))
    delimiter = next((d for d in "\t;," if d in line), "")
    header = line.split(delimiter or ",")
    names = [cell.strip().strip('"').lower().replace(" ", "_") for cell in header]
    if not delimiter or not {*_COLUMNS["x1"]} & {*names}:
        return None
    at = _positions(f"{file}:{number}", names)
    what: Literal["frame", "time"] = "frame" if "frame" in at else "time"
    collected = Collected(file, what=what, named="paths", merged="tracks")
    lines = (text for n, text in text_lines(file) if n > number)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    largest = 0.0
    for place, cells in _records(file, number, reader):
        if len(cells) < len(names) or any(cells[len(names) :]):
            raise DataError(
                f"{place}: {len(cells)} columns, the header has {len(names)}",
                "put what has a separator inside in double quotes",
            )
        row = {key: cells[position].strip() for key, position in at.items()}
        box = _box(place, row)
        largest = max(largest, *box)
        if not row["path"]:
            raise DataError(f"{place}: no path", "every row needs one")
        score = number_in(place, row, "score") if row.get("score") else math.nan
        collected.add(
            number + reader.line_num,
            row["path"],
            _when(place, row, what),
            box,
            row.get("label", ""),
            track=row.get("track", ""),
            score=score,
            part=_part(place, row),
        )
    if 1 < largest < 2:
        raise DataError(
            f"{file}: the largest coordinate is {largest:g}: too much for fractions of a picture, "
            "too little for pixels",
            "fractions are at most 1: limit them to it",
        )
    collected.fractions = largest <= 1
    unit = "fractions of width and height" if collected.fractions else "pixels"
    read = {names[position] for position in at.values()}
    unread = [shown(name) for name in names if name and name not in read]
    also = f"; columns not read: {', '.join(unread)}" if unread else ""
    collected.form = f"boxes in {unit}, {what}s from 0{also}"
    return collected


def _records(file: str, header: int, reader: Any) -> Iterator[tuple[str, Sequence[str]]]:
    """Where each row stands, and its cells."""
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield f"{file}:{header + reader.line_num}", cells
    except csv.Error as error:
        where = f"{file}:{header + reader.line_num}"
        raise DataError(f"{where}: no valid row ({error})") from error


def _positions(where: str, names: Sequence[str]) -> dict[str, int]:
    """Where each column stands that is read.

    Raises:
        DataError: one that is needed is not there.
    """
    at = {
        what: names.index(known)
        for what, spellings in _COLUMNS.items()
        if (known := next((name for name in spellings if name in names), None)) is not None
    }
    for what in ("path", *_CORNERS):
        if what not in at:
            close = next(filter(None, (suggest(name, _COLUMNS[what]) for name in names)), "")
            raise DataError(f"{where}: no column {what}", close or _HINT)
    if "frame" not in at and "time" not in at:
        raise DataError(f"{where}: no column frame, and none time", _HINT)
    if "frame" in at:
        at.pop("time", None)
    return at


def _box(place: str, row: Mapping[str, str]) -> list[float]:
    box = [number_in(place, row, corner) for corner in _CORNERS]
    for low, high in (("x1", "x2"), ("y1", "y2")):
        first, last = float(row[low]), float(row[high])
        if last < first:
            raise DataError(
                f"{place}: {high} {row[high]} is less than {low} {row[low]}",
                "corners are x1, y1, x2, y2, not x, y, width, height",
            )
    return box


def _when(place: str, row: Mapping[str, str], what: str) -> float:
    value = number_in(place, row, what)
    whole = what == "time" or value == math.floor(value)
    if not whole or not 0 <= value <= MOST_FRAMES:
        raise DataError(
            f"{place}: {what} '{shown(row[what])}' is none",
            "frames count from 0" if what == "frame" else "seconds from the video's beginning",
        )
    return value


def _part(place: str, row: Mapping[str, str]) -> PartName:
    text = row.get("split")
    if text is None:
        return "all"
    part = PART_NAMES.get(text.lower())
    if part is None:
        raise DataError(
            f"{place}: unknown split '{shown(text)}'",
            suggest(text.lower(), PART_NAMES) or "train, val or test",
        )
    return part
