"""Lists whose header, or whose json keys, name what stands in which column."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import DataError, suggest
from . import by_id
from .access import MEDIA_SUFFIXES, content_lines, read_json, suffix_of, text_lines
from .options import PART_NAMES, PartName, SourceOptions
from .table import Table

# The names that a column may have, by its meaning, the better name first.
COLUMNS: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "video_path", "clip_path", "file_path", "filepath", "image_path", "frame_dir"),
        *("file", "filename", "file_name", "video", "clip", "image", "video_name", "clip_name"),
    ),
    "id": ("youtube_id", "video_id", "id"),
    "label": (
        *("template", "label", "labels", "class", "class_name", "label_name", "category", "action"),
        *("label_id", "class_id"),
    ),
    "verb": ("verb_class", "verb"),
    "noun": ("noun_class", "noun"),
    "start": ("start", "start_time", "time_start", "start_sec", "start_seconds", "start_timestamp"),
    "end": (
        *("end", "end_time", "time_end", "end_sec", "end_seconds", "end_timestamp"),
        *("stop", "stop_timestamp"),
    ),
    "split": ("split", "subset"),
    "participant": ("participant_id",),
}
_TIME = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d*)?)")


@dataclass(frozen=True)
class Header:
    """The columns of a list.

    Attributes:
        line: number of the header's line.
        delimiter: what separates columns.
        names: of the columns, in lower case.
    """

    line: int
    delimiter: str
    names: tuple[str, ...]

    @property
    def at(self) -> dict[str, int]:
        """Positions of the columns that are known, by what they say."""
        best = {
            what: next((name for name in names if name in self.names), None)
            for what, names in COLUMNS.items()
        }
        return {what: self.names.index(name) for what, name in best.items() if name is not None}

    @property
    def is_plain(self) -> bool:
        """True where lines are ``path label``, or paths alone, with spaces inside them."""
        at = self.at
        return self.delimiter == " " and at in ({"path": 0}, {"path": 0, "label": 1})


def find_header(file: str) -> Header | None:
    """The header that the first line of a list is, or None.

    Columns separated by tabs, commas or semicolons make a header if one of them has a known name
    and none is a media file; separated by spaces, if all of them have known names.
    """
    first = next(content_lines(file), None)
    if first is None:
        return None
    number, line = first
    delimiter = next((d for d in "\t,;" if d in line), " ")
    cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    names = tuple(cell.strip().lower().replace(" ", "_") for cell in cells)
    known = {name for names in COLUMNS.values() for name in names}
    hits = sum(name in known for name in names)
    is_header = hits == len(names) if delimiter == " " else hits > 0
    if not is_header or any(suffix_of(name) in MEDIA_SUFFIXES for name in names):
        return None
    return Header(number, delimiter, names)


def csv_list(file: str, options: SourceOptions) -> Table | None:
    """The rows of a csv or tsv file whose header names more than ``path label``.

    Raises:
        DataError: a column is missing, or a row or a value in it is wrong.
    """
    header = find_header(file)
    if header is None or header.is_plain:
        return None
    lines = (line for number, line in text_lines(file) if number > header.line)
    reader = csv.reader(lines, delimiter=header.delimiter, skipinitialspace=True)

    def records() -> Iterator[tuple[int, Sequence[str]]]:
        try:
            for cells in reader:
                if cells:
                    yield header.line + reader.line_num, cells
        except csv.Error as error:
            where = f"{file}:{header.line + reader.line_num}"
            raise DataError(f"{where}: no valid row ({error})") from error

    return _table(Table(file), header, records(), options)


def json_list(file: str, options: SourceOptions) -> Table | None:
    """The rows of a json list of objects, whose keys name the columns.

    Something-Something's files are such lists: ``id``, and ``template`` where there are labels.

    Raises:
        DataError: it is no list of objects, or as for `csv_list`.
    """
    if suffix_of(file) != ".json":
        return None
    entries = read_json(file)
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise DataError(
            f"{file} is no list of clips",
            'expected a json list of objects with "id" and "template", or "path" and "label"',
        )
    keys = list(dict.fromkeys(key for entry in entries[:1] for key in entry))
    header = Header(0, ",", tuple(key.lower() for key in keys))
    records = ((i, [_text(entry.get(key)) for key in keys]) for i, entry in enumerate(entries, 1))
    return _table(Table(file, unit=", entry "), header, records, options)


def _text(value: Any) -> str:
    """A json value as a cell; a list of labels has one text."""
    if isinstance(value, list):
        return "|".join(map(_text, value))
    return "" if value is None else str(value)


def _table(
    table: Table,
    header: Header,
    records: Iterable[tuple[int, Sequence[str]]],
    options: SourceOptions,
) -> Table:
    at = _needed(table, header, options)
    base = options.base_of(table.where)
    targets = (("label", table.labels), ("verb", table.labels), ("noun", table.nouns))
    columns = [(what, column) for what, column in targets if what in at]
    labels: dict[str, str] = {}  # one string of each label, however many rows have it
    participants: list[str] = []
    for number, cells in records:
        if len(cells) < len(header.names) or any(cells[len(header.names) :]):
            raise DataError(
                f"{table.where}{table.unit}{number}: {len(cells)} columns, "
                f"the header has {len(header.names)}",
                "put what has a separator inside in double quotes",
            )
        row = {what: cells[position].strip() for what, position in at.items()}
        table.lines.append(number)
        for what, column in columns:
            label = _filled(table, row, what)
            column.append(labels.setdefault(label, label))
        if "start" in row or "end" in row:
            start, end = _segment(table, row)
            table.starts.append(start)
            table.ends.append(end)
        if "split" in row:
            table.parts.append(_part(table, row))
        if "path" in row:
            table.paths.append(os.path.join(base, _filled(table, row, "path")))
        else:
            table.paths.append(_filled(table, row, "id"))
            participants.append(row.get("participant", ""))
    if "template" in header.names:
        table.labels = [label.replace("[", "").replace("]", "") for label in table.labels]
    by_id.find_class_names(table, header.names)
    if "path" not in at:
        by_id.find_videos(table, header.names, participants, base)
    return table


def _needed(table: Table, header: Header, options: SourceOptions) -> dict[str, int]:
    """Positions of the columns that are read.

    Raises:
        DataError: one that is needed is not there.
    """
    at = header.at
    if "path" not in at and "id" not in at:
        raise _missing(table, header, "path", "a path")
    if not options.labeled:
        return {
            what: at[what] for what in ("path", "id", "start", "end", "participant") if what in at
        }
    if "label" in at:
        at.pop("verb", None)
        at.pop("noun", None)
    elif "verb" not in at and "noun" not in at:
        raise _missing(table, header, "label", "a label")
    for what in {"verb", "noun"} - at.keys() if "label" not in at else ():
        raise _missing(table, header, what, f"a {what}")
    return at


def _missing(table: Table, header: Header, what: str, words: str) -> DataError:
    known = COLUMNS[what]
    hints = (suggest(name, known) for name in header.names)
    return DataError(
        f"{table.where}: no column with {words} among {', '.join(header.names) or 'none'}",
        next(filter(None, hints), f"call it one of {', '.join(known[:8])}"),
    )


def _place(table: Table) -> str:
    """Where the row that is being read stands."""
    return f"{table.where}{table.unit}{table.lines[-1]}"


def _filled(table: Table, row: Mapping[str, str], what: str) -> str:
    if not row[what]:
        raise DataError(f"{_place(table)}: no {what}", "every row needs one")
    return row[what]


def _segment(table: Table, row: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Start and end in seconds; None where the row does not say."""
    start, end = (_seconds(table, what, row.get(what, "")) for what in ("start", "end"))
    if end is not None and (start or 0.0) >= end:
        raise DataError(
            f"{_place(table)}: start {row.get('start') or 0} is not before end {row['end']}",
            "both are seconds, or HH:MM:SS.sss, from the beginning of the video",
        )
    return start, end


def _seconds(table: Table, what: str, text: str) -> float | None:
    if not text:
        return None
    match = _TIME.fullmatch(text)
    if match is None:
        raise DataError(
            f"{_place(table)}: {what} '{text}' is no time", "seconds, or HH:MM:SS.sss, from 0 on"
        )
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


def _part(table: Table, row: Mapping[str, str]) -> PartName:
    part = PART_NAMES.get(row["split"].lower())
    if part is None:
        raise DataError(
            f"{_place(table)}: unknown split '{row['split']}'",
            suggest(row["split"].lower(), PART_NAMES) or "train, val or test",
        )
    return part
