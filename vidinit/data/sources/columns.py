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
from .access import MEDIA_SUFFIXES, content_lines, read_json, shown, suffix_of, text_lines
from .boxes import refuse_box_columns
from .classes import NoLabelsError
from .databases import database
from .options import PART_NAMES, PartName, SourceOptions
from .table import Table

# The names that a column may have, by its meaning, the better name first.
COLUMNS: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "video_path", "clip_path", "file_path", "filepath", "image_path", "frame_dir"),
        *("file", "filename", "file_name", "video", "clip", "image", "video_name", "clip_name"),
    ),
    "id": ("youtube_id", "video_id", "vid_name", "file_id", "id"),
    "label": (
        *("template", "classname", "label", "labels", "class", "class_name", "label_name"),
        *("category", "action", "action_name", "activity", "tags", "label_id", "class_id"),
        "action_id",
    ),
    "verb": ("verb_class", "verb", "verb_id"),
    "noun": ("noun_class", "noun", "noun_id"),
    "start": ("start_time", "time_start", "start_sec", "start_seconds", "start_timestamp", "start"),
    "end": (
        *("end_time", "time_end", "end_sec", "end_seconds", "end_timestamp", "stop_timestamp"),
        *("end", "stop"),
    ),
    "start_frame": ("start_frame", "frame_start", "begin_frame"),
    "end_frame": ("end_frame", "frame_end", "stop_frame"),
    "split": ("split", "subset"),
    "group": ("group", "group_id"),
    "participant": ("participant_id",),
}
_TIME = re.compile(r"(?:(?:(\d{1,9}):)?([0-5]?\d):)?(\d{1,15}(?:\.\d*)?)", re.ASCII)
_FRAME = re.compile(r"(\d{1,15})(?:\.0*)?", re.ASCII)
# Words of a column that says where a part of a video begins or ends.
_BEGIN = frozenset(("start", "begin", "onset"))
_STOP = frozenset(("end", "stop", "offset"))
_LENGTH = frozenset(("duration", "length"))

# What lists that name videos by ids are, by a column.
_SETS = (
    ("classname", "HACS list: segments in seconds of videos by youtube_id"),
    ("youtube_id", "Kinetics list: files of the segments alone, by youtube_id"),
    ("template", "Something-Something V2 list: the templates are the classes, videos by id"),
    ("verb_class", "EPIC-Kitchens list: a verb and a noun, segments of videos by video_id"),
    ("vid_name", "Diving48 list: videos by vid_name"),
)


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
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    except csv.Error:  # of a length that no header has
        return None
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
    if isinstance(entries, Mapping):
        return database(file, entries, options)
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise DataError(
            f"{file} is no list of clips",
            'expected a json list of objects with "id" and "template", or "path" and "label"',
        )
    keys = list(dict.fromkeys(key for entry in entries for key in entry))
    header = Header(0, ",", tuple(key.lower() for key in keys))
    read = {keys[position] for position in header.at.values()}
    records = (
        (
            i,
            [
                _text(f"{file}, entry {i}", key, entry.get(key)) if key in read else ""
                for key in keys
            ],
        )
        for i, entry in enumerate(entries, 1)
    )
    table = _table(Table(file, unit=", entry "), header, records, options)
    label = next((key for key in keys if key.lower() in COLUMNS["label"]), None)
    if any(isinstance(entry.get(label), Mapping) for entry in entries):
        several = "HVU list: several labels a clip, named 'category tag'"
        table.form = "; ".join(filter(None, (several, table.form)))
    return table


def _text(where: str, key: str, value: Any) -> str:
    """A json value as a cell; a list of labels has one text, and so has one by category."""
    if isinstance(value, Mapping):
        tags = {name: tag if isinstance(tag, list) else [tag] for name, tag in value.items()}
        value = [f"{name} {one}" for name, tag in tags.items() for one in tag if _is_plain(one)]
        if len(value) == sum(map(len, tags.values())):
            return "".join(f"{one}|" for one in value) or "|"
        value = [None]
    if isinstance(value, list) and all(map(_is_plain, value)):
        return "|".join(map(str, value))
    if value is not None and not _is_plain(value):
        raise DataError(f"{where}: '{key}' holds objects", "expected a text, a number or a list")
    return "" if value is None else str(value)


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _table(
    table: Table,
    header: Header,
    records: Iterable[tuple[int, Sequence[str]]],
    options: SourceOptions,
) -> Table:
    refuse_box_columns(f"{table.where}:{header.line}", header.names)
    at = _needed(table, header, options)
    in_frames = table.in_frames = _check_times(table, header, at)
    base = options.base_of(table.where)
    targets = (("label", table.labels), ("verb", table.labels), ("noun", table.nouns))
    columns = [(what, column) for what, column in targets if what in at]
    labels: dict[str, str] = {}  # one string of each label, however many rows have it
    participants: list[str] = []
    negatives = header.names.index("label") if at.get("label") == _class_of_hacs(header) else None
    left_out = 0
    for number, cells in records:
        if len(cells) < len(header.names) or any(cells[len(header.names) :]):
            raise DataError(
                f"{table.where}{table.unit}{number}: {len(cells)} columns, "
                f"the header has {len(header.names)}",
                "put what has a separator inside in double quotes",
            )
        if negatives is not None and cells[negatives].strip() == "-1":
            left_out += 1
            continue
        row = {what: cells[position].strip() for what, position in at.items()}
        table.lines.append(number)
        for what, column in columns:
            label = _filled(table, row, what)
            column.append(labels.setdefault(label, label))
        if in_frames or "start" in row or "end" in row:
            start, end = (_frames if in_frames else _segment)(table, row)
            table.starts.append(start)
            table.ends.append(end)
        if "group" in row:
            table.groups.append(row["group"] or None)
        if "split" in row:
            table.parts.append(_part(table, row))
        if "path" in row:
            table.paths.append(_filled(table, row, "path"))
        else:
            table.paths.append(_filled(table, row, "id"))
            participants.append(row.get("participant", ""))
    if "template" in header.names:
        table.labels = [label.replace("[", "").replace("]", "") for label in table.labels]
    by_id.find_class_names(table, header.names)
    forms = _forms(table, header, at, left_out, options)
    if "path" in at:
        forms += by_id.turn_slashes(table, base)
        table.paths = [os.path.join(base, path) for path in table.paths]
        forms += by_id.add_suffixes(table, base)
    elif table.paths:
        by_id.find_videos(table, header.names, participants, base)
    table.form = "; ".join(forms)
    return table


def _class_of_hacs(header: Header) -> int:
    """Where the class stands in a list of HACS, whose ``label`` is 1 or -1: yes or no; else -1."""
    is_hacs = {"classname", "youtube_id", "label"} <= set(header.names)
    return header.names.index("classname") if is_hacs else -1


def _check_times(table: Table, header: Header, at: dict[str, int]) -> bool:
    """True where parts of videos are counted in frames, by columns that are read for it.

    Raises:
        DataError: a column seems to say where a part begins or ends, and none is understood.
    """
    seconds = "start" in at or "end" in at
    frames = not seconds and ("start_frame" in at or "end_frame" in at)
    for what in ("start_frame", "end_frame") if not frames else ("start", "end"):
        at.pop(what, None)
    known = {header.names[position] for position in at.values()}
    stop = _STOP | (_LENGTH if "start" in at or "start_frame" in at else frozenset())
    for words, what in ((_BEGIN, "start"), (stop, "end")):
        if what in at or f"{what}_frame" in at:
            continue
        for position, name in enumerate(header.names):
            if name not in known and words & set(re.split(r"[_\W]+", name)):
                raise DataError(
                    f"{table.where}:{header.line}, column {position + 1}: '{name}' is not "
                    "understood",
                    f"call it {what} if it holds seconds, {what}_frame if it counts frames, or "
                    "take it out",
                )
    return frames


def _forms(
    table: Table,
    header: Header,
    at: Mapping[str, int],
    left_out: int,
    options: SourceOptions,
) -> list[str]:
    """The form that a list with a header was taken for, and its columns that are not read."""
    forms = []
    if "path" not in at:
        forms += [form for column, form in _SETS if column in header.names][:1] or ["clips by id"]
    if "vid_name" in header.names and table.in_frames and not any(table.starts):
        # Diving48's files are the clips alone.
        table.in_frames, table.starts, table.ends = False, [], []
    if table.in_frames:
        forms.append("segments are counted in frames from 0, the end frame is not part of them")
    if left_out:
        forms.append(f"{left_out} clips that do not show their class (-1) left out")
    read = {header.names[position] for what, position in header.at.items() if _is_read(what, at)}
    unread = [name for name in header.names if name and name not in read]
    if options.labeled and unread:
        more = f" and {len(unread) - 5} more" if len(unread) > 5 else ""
        forms.append(f"columns not read: {', '.join(map(shown, unread[:5]))}{more}")
    return forms


def _is_read(what: str, at: Mapping[str, int]) -> bool:
    """False for verbs and nouns beside a label; frames beside seconds say the same as these."""
    return what in at or what not in ("verb", "noun")


def _frames(table: Table, row: Mapping[str, str]) -> tuple[float | None, float | None]:
    """First frame and the one after the last; None where the row does not say, or the end is -1."""
    found = []
    for what in ("start_frame", "end_frame"):
        text = row.get(what, "")
        match = _FRAME.fullmatch(text)
        if match is None and text and (what, text) != ("end_frame", "-1"):
            raise DataError(
                f"{_place(table)}: {what} '{shown(text)}' is no number of a frame",
                "frames count from 0; an end of -1 is that of the video",
            )
        found.append(None if match is None else int(match[1]))
    start, end = found
    if end is not None and (start or 0) >= end:
        raise DataError(
            f"{_place(table)}: start_frame {start or 0} is not before end_frame {end}",
            "both count from 0, and the end frame is not part of the segment",
        )
    return start, end


def _needed(table: Table, header: Header, options: SourceOptions) -> dict[str, int]:
    """Positions of the columns that are read.

    Raises:
        DataError: one that is needed is not there.
    """
    at = header.at
    if "path" not in at and "id" not in at:
        raise _missing(table, header, "path", "a path")
    if not options.labeled:
        times = ("start", "end", "start_frame", "end_frame")
        wanted = ("path", "id", *times, "participant", "split", "group")
        return {what: at[what] for what in wanted if what in at}
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
    kind = DataError if what == "path" else NoLabelsError
    names = ", ".join(map(shown, header.names[:12])) + ", ..." * (len(header.names) > 12)
    return kind(
        f"{table.where}: no column with {words} among {names or 'none'}",
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
            f"{_place(table)}: {what} '{shown(text)}' is no time",
            "seconds, or HH:MM:SS.sss, from 0 on",
        )
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


def _part(table: Table, row: Mapping[str, str]) -> PartName:
    part = PART_NAMES.get(row["split"].lower())
    if part is None:
        raise DataError(
            f"{_place(table)}: unknown split '{shown(row['split'])}'",
            suggest(row["split"].lower(), PART_NAMES) or "train, val or test",
        )
    return part
