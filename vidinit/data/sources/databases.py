"""Json objects with an entry a video, by its id: ActivityNet, HACS, COIN, Kinetics, and alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import DataError
from . import by_id
from .access import MEDIA_SUFFIXES, shown, suffix_of
from .boxes import refuse_box_objects
from .classes import ClassList
from .options import PART_NAMES, PartName, SourceOptions
from .table import Table

_EXPECTED = (
    'expected a json list of objects with "id" and "template", or "path" and "label", or an object '
    'with "annotations" by video'
)
_LABELS = ("label", "class", "category")


def database(file: str, value: Mapping[str, Any], options: SourceOptions) -> Table:
    """The rows of a json file with an object that says of each video its part and its annotations.

    ``{"database": {ID: {"subset": ..., "annotations": ...}}}``, or without the outer object.

    - A list of annotations, each with a ``label`` and a ``segment`` in seconds (ActivityNet, HACS):
      a row for each segment.
    - One annotation (Kinetics, and the lists made for 3D ResNets): a row for the video, which is a
      file of the segment alone, by ``ID`` or ``ID_<start>_<end>``.
    - A ``class`` of the video, and steps in it (COIN): a row for the video; the steps are not read.

    ``{PATH: LABEL}``, or a list of labels, is read as well.

    Videos are files called ``ID`` or ``v_ID`` below the root, at any depth.

    Raises:
        DataError: an entry is wrong, it is another json object, or none of the videos is there.
    """
    refuse_box_objects(file, value)
    if value and all(suffix_of(path) in MEDIA_SUFFIXES for path in value):
        return _paths(file, value, options)
    entries = value.get("database", value)
    if not isinstance(entries, Mapping) or not entries or not all(map(_is_video, entries.values())):
        keys = ", ".join(shown(str(key)) for key in list(value)[:4])
        raise DataError(f"{file} is no list of clips: its keys are {keys or 'none'}", _EXPECTED)
    rows = _Videos(Table(file, unit=", video "), options.labeled)
    for number, (name, entry) in enumerate(entries.items(), 1):
        rows.add(number, str(name), entry)
    if not rows.table.paths:
        raise DataError(f"{file} has no annotation of a video", _EXPECTED)
    names = value.get("labels")
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        rows.table.names = ClassList(tuple(dict.fromkeys(names)), file)
    by_id.find_named(rows.table, rows.stems, options.base_of(file))
    rows.table.form = rows.form()
    return rows.table


def _paths(file: str, value: Mapping[str, Any], options: SourceOptions) -> Table:
    table = Table(file, unit=", entry ")
    base = options.base_of(file)
    for number, (path, label) in enumerate(value.items(), 1):
        labels = label if isinstance(label, list) else [label]
        if not all(isinstance(one, (str, int, float)) and str(one).strip() for one in labels):
            raise DataError(
                f"{file}, entry {number}: the label of {shown(path)} is no text",
                'expected {"path": "label"}',
            )
        table.paths.append(os.path.join(base, path))
        table.lines.append(number)
        if options.labeled:
            table.labels.append("|".join(map(str, labels)) or "|")
    table.form = "an object from path to label"
    return table


def _is_video(entry: Any) -> bool:
    if not isinstance(entry, Mapping):
        return False
    return bool(entry.keys() & {"annotations", "annotation", "subset"})


@dataclass
class _Videos:
    """The rows of a table, and what became of entries that make none."""

    table: Table
    labeled: bool
    stems: list[tuple[str, ...]] = field(default_factory=list)
    unlabeled: int = 0
    empty: int = 0
    steps: bool = False
    several: bool = False

    def add(self, number: int, name: str, entry: Mapping[str, Any]) -> None:
        """The rows of one video."""
        where = f"{self.table.where}, video {number} ('{shown(name)}')"
        part = _part(where, entry)
        found = entry.get("annotations", entry.get("annotation"))
        stems: tuple[str, ...] = (name, f"v_{name}")
        if isinstance(found, list) and isinstance(entry.get("class"), str):
            self.steps = True
            self._append(number, stems, part, entry["class"], (None, None))
        elif isinstance(found, Mapping):
            span = _span(where, found.get("segment"))
            if span[0] is not None and span[1] is not None:
                trimmed = f"{name}_{int(span[0]):06d}_{int(span[1]):06d}"
                stems = (trimmed, *stems)
            self._append(number, stems, part, _label(where, found), (None, None))
        elif isinstance(found, list) and found and self.labeled:
            self._segments(number, where, stems, part, found)
        elif not self.labeled:
            self._append(number, stems, part, "", (None, None))
        else:
            self.unlabeled += 1

    def _segments(
        self, number: int, where: str, stems: tuple[str, ...], part: PartName, found: Iterable[Any]
    ) -> None:
        self.several = True
        for one in found:
            if not isinstance(one, Mapping):
                raise DataError(f"{where}: an annotation is no object", _EXPECTED)
            start, end = _span(where, one.get("segment"))
            label = _label(where, one)
            if start is not None and end is not None and start >= end:
                self.empty += 1
            else:
                self._append(number, stems, part, label, (start, end))

    def _append(
        self,
        number: int,
        stems: tuple[str, ...],
        part: PartName,
        label: str,
        span: tuple[float | None, float | None],
    ) -> None:
        if self.labeled and not label:
            self.unlabeled += 1
            return
        self.table.paths.append(stems[0])
        self.stems.append(stems)
        self.table.lines.append(number)
        self.table.parts.append(part)
        self.table.starts.append(span[0])
        self.table.ends.append(span[1])
        if self.labeled:
            self.table.labels.append(label)

    def form(self) -> str:
        """The form that the file was taken for."""
        parts = ["COIN list: the class of each video, its steps not read"] if self.steps else []
        if self.several:
            parts.append("ActivityNet's form: a clip for each segment, videos by id")
        if not parts:
            parts.append("a label for each video, videos by id")
        if self.unlabeled:
            parts.append(f"{self.unlabeled} videos without a label left out")
        if self.empty:
            parts.append(f"{self.empty} segments that end before they begin left out")
        return "; ".join(parts)


def _part(where: str, entry: Mapping[str, Any]) -> PartName:
    subset = str(entry.get("subset", "all")).lower()
    if subset != "all" and subset not in PART_NAMES:
        raise DataError(
            f"{where}: unknown subset '{shown(subset)}'", "training, validation, testing"
        )
    return PART_NAMES.get(subset, "all")


def _label(where: str, annotation: Mapping[str, Any]) -> str:
    label = next((annotation[key] for key in _LABELS if key in annotation), "")
    if not isinstance(label, (str, int)):
        raise DataError(f"{where}: its label is no text", _EXPECTED)
    return str(label).strip()


def _span(where: str, segment: Any) -> tuple[float | None, float | None]:
    """Start and end in seconds; None where there is no segment."""
    if segment is None or segment == []:
        return None, None
    numbers = isinstance(segment, list) and len(segment) == 2
    if not numbers or not all(isinstance(at, (int, float)) and 0 <= at < 1e9 for at in segment):
        raise DataError(
            f"{where}: segment {shown(str(segment))} is no [start, end]", "both are seconds, from 0"
        )
    return float(segment[0]), float(segment[1])
