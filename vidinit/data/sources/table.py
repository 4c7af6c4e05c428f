"""Rows as a source writes them, with labels that are still text, and how they become `Rows`."""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ...errors import DataError
from ..rows import Label, Row, Rows
from .classes import ClassList, Labels, read_labels
from .options import PartName, SourceOptions


@dataclass(frozen=True)
class Part:
    """A part of a source: all of it where it has no parts.

    Attributes:
        name: which part.
        rows: its rows.
        where: the source, for messages.
    """

    name: PartName
    rows: Rows
    where: str


@dataclass
class Table:
    """Columns of equal length, one entry a row. A column that a source does not have is empty.

    Columns rather than objects: a list may have millions of lines.

    Attributes:
        where: the source, for messages.
        paths: `Row.path` of each row.
        labels: class name, id, or several of them.
        nouns: second label of a pair.
        starts, ends: seconds, or frames.
        in_frames: it is frames; see `Row.in_frames`.
        groups: `Row.group` of each row.
        parts: which part of the data a row belongs to.
        part: which part all rows are, where there is no such column.
        lines: where a row stands in the source.
        files: in which file of the source that is, where it has several.
        unit: what separates the source from that number in messages.
        names, noun_names: the classes in order, where the source itself defines them.
        names_only: a label is one name, also where it is an integer or looks like several.
        form: what the source was taken for, where that is not plain to see.
    """

    where: str
    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    nouns: list[str] = field(default_factory=list)
    starts: list[float | None] = field(default_factory=list)
    ends: list[float | None] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    parts: list[PartName] = field(default_factory=list)
    lines: array[int] = field(default_factory=lambda: array("L"))
    files: list[str] = field(default_factory=list)
    unit: str = ":"
    names: ClassList | None = None
    noun_names: ClassList | None = None
    names_only: bool = False
    part: PartName = "all"
    in_frames: bool = False
    form: str = ""

    def place(self, row: int) -> str:
        """Where a row stands, for messages."""
        if not self.lines:
            return self.paths[row]
        return f"{self.files[row] if self.files else self.where}{self.unit}{self.lines[row]}"

    def to_parts(self, options: SourceOptions) -> list[Part]:
        """The rows with their labels looked up, by part.

        A ``UserWarning`` says what the source was taken for, another how its labels were.

        Raises:
            DataError: there is no row, or a label is not known.
        """
        if not self.paths:
            raise DataError(f"{self.where} lists no clip", "expected one 'path label' a line")
        if self.form:
            warnings.warn(f"{self.where}: {self.form}", stacklevel=2)
        if not options.labeled:
            return self._split(Rows(()), self._rows([None] * len(self.paths)))
        if self.nouns:
            meaning, labels = self._pairs(options)
        else:
            read = self._read(self.labels, self.names, options.names, options.classes)
            labels = [read.values[text] for text in self.labels]
            meaning = Rows((), read.classes, read.kind)
        return self._split(meaning, self._rows(labels))

    def _split(self, meaning: Rows, rows: Sequence[Row]) -> list[Part]:
        """The rows by the part that they belong to."""
        if not self.parts:
            return [Part(self.part, meaning.of(rows), self.where)]
        split: dict[PartName, list[Row]] = {}
        for part, row in zip(self.parts, rows, strict=True):
            split.setdefault(part, []).append(row)
        return [Part(name, meaning.of(found), self.where) for name, found in split.items()]

    def _pairs(self, options: SourceOptions) -> tuple[Rows, list[Label]]:
        """The classes of the two labels, and each row's (verb, noun)."""
        if options.names is not None:
            raise DataError(
                f"{self.where} has two labels a clip, {options.names.where} names one list of them",
                "leave data.class_names out: the names come with the list, or are sorted",
            )
        verbs = self._read(self.labels, self.names, None, options.classes)
        nouns = self._read(self.nouns, self.noun_names, None, options.nouns)
        if "multi" in (verbs.kind, nouns.kind):
            raise DataError(
                f"{self.where} has a verb and a noun a clip, and several of them in one column",
                "a pair is one verb and one noun",
            )
        pairs: list[Label] = []
        for verb, noun in zip(self.labels, self.nouns, strict=True):
            first, second = verbs.values[verb], nouns.values[noun]
            assert isinstance(first, int) and isinstance(second, int)
            pairs.append((first, second))
        return Rows((), verbs.classes, "pair", nouns.classes), pairs

    def _read(
        self,
        texts: Sequence[str],
        own: ClassList | None,
        file: ClassList | None,
        training: tuple[str, ...] | None,
    ) -> Labels:
        """One column of labels by the class names in a file, else its own, else the training's."""
        known = file or own
        if known is None and training is not None and not self.names_only:
            known = ClassList(training, "the training data")
        labels = read_labels(texts, known, place=self.place, names_only=self.names_only)
        for note in labels.notes:
            warnings.warn(f"{self.where}: {note}", stacklevel=2)
        return labels

    def _rows(self, labels: Sequence[Label]) -> tuple[Row, ...]:
        rows: Iterable[Row]
        if not self.starts:
            rows = map(Row, self.paths, labels)
        else:
            rows = map(Row, self.paths, labels, self.starts, self.ends)
        if self.in_frames:
            rows = (
                replace(row, in_frames=row.start is not None or row.end is not None) for row in rows
            )
        if self.groups:
            rows = (replace(row, group=g) for row, g in zip(rows, self.groups, strict=True))
        return tuple(rows)
