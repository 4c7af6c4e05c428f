"""Lists with a clip a line: a path, and where labels are wanted, a label after it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ...errors import DataError
from .access import MEDIA_SUFFIXES, content_lines, suffix_of
from .columns import find_header
from .options import SourceOptions
from .table import Table

_SUFFIX = "|".join(re.escape(suffix) for suffix in sorted(MEDIA_SUFFIXES))
# The longest path with a known suffix that leaves something to be a label.
_MEDIA = re.compile(rf'(.*(?:{_SUFFIX}))[\s,]+([^\s,].*)|("(?:[^"]|"")+")[\s,]+(.+)', re.IGNORECASE)
# Folders of frames as mmaction lists them: folder, number of frames, labels.
_COUNTED = re.compile(r"(.*?[^\s,])[\s,]+\d+((?:[\s,]+\d+)+)")
_COUNTED_ONLY = re.compile(r"(.*?\S)(?:\s+\d+)+")


def plain_list(file: str, options: SourceOptions) -> Table:
    """The rows of any text file that is nothing else; a header of plain columns is left out.

    Raises:
        UsageError: the file is not text.
        DataError: a line has no label.
    """
    header = find_header(file)
    skipped = 0 if header is None else header.line
    lines = ((n, line) for n, line in content_lines(file) if n > skipped)
    return (_labeled if options.labeled else _unlabeled)(file, lines, options)


def _labeled(file: str, lines: Iterator[tuple[int, str]], options: SourceOptions) -> Table:
    table = Table(file)
    base = options.base_of(file)
    # Labels repeat: one string each, whatever the number of lines.
    labels: dict[str, str] = {}
    others = []
    for number, line in lines:
        match = _MEDIA.fullmatch(line)
        if match is None:
            others.append(len(table.paths))
            path, label = line, ""
        elif match[1] is not None:
            path, label = match[1], match[2]
        else:
            path, label = _unquoted(match[3]), match[4]
        label = _unquoted(label)
        table.paths.append(os.path.join(base, path) if match else path)
        table.labels.append(labels.setdefault(label, label))
        table.lines.append(number)
    _split_others(table, others, base, labels)
    return table


def _is_media(line: str) -> bool:
    """True where a line ends in a known suffix, so that no label follows."""
    return suffix_of(line.rstrip('"')) in MEDIA_SUFFIXES


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if text[:1] == '"' == text[-1:] else text


def _split_others(table: Table, others: list[int], base: str, labels: dict[str, str]) -> None:
    """Path and label of the lines without a known suffix, which name folders of frames."""
    if not others:
        return
    counted = (
        len(others) == len(table.paths)
        and all(_COUNTED.fullmatch(line) for line in table.paths)
        and not os.path.isdir(os.path.join(base, _at_last_separator(table.paths[0])[0]))
    )
    offsets = counted
    for row in others:
        line = table.paths[row]
        path, label = (_after_count if counted else _at_last_separator)(line)
        if not path or not label:
            raise DataError(f"{table.place(row)}: no label in '{line}'", "expected 'path label'")
        offsets = offsets and len(label.split()) == 2
        table.paths[row] = os.path.join(base, path)
        table.labels[row] = labels.setdefault(label, label)
    if offsets:
        raise DataError(
            f"{table.place(0)}: three numbers follow every folder",
            "expected 'folder num_frames label'; parts of videos need start and end columns",
        )


def _after_count(line: str) -> tuple[str, str]:
    """Folder and labels of a line with a number of frames between them."""
    match = _COUNTED.fullmatch(line)
    assert match is not None
    return match[1], match[2].strip(" ,\t")


def _at_last_separator(line: str) -> tuple[str, str]:
    """Path and label of a line, at its last tab, else its last comma, else its last space."""
    separator = next((s for s in "\t, " if s in line), "")
    if not separator or _is_media(line):
        return line, ""
    path, _, label = line.rpartition(separator)
    return path.rstrip(" ,\t"), label.strip()


def _unlabeled(file: str, lines: Iterator[tuple[int, str]], options: SourceOptions) -> Table:
    """Paths only: a label that follows one is left out."""
    table = Table(file)
    base = options.base_of(file)
    others = []
    for number, line in lines:
        path = line
        if not _is_media(line):
            match = _MEDIA.fullmatch(line)
            if match is None:
                others.append(len(table.paths))
                path = re.split(r"[,\t]", line, maxsplit=1)[0]
            else:
                path = match[1] if match[1] is not None else match[3]
        table.paths.append(os.path.join(base, _unquoted(path)))
        table.lines.append(number)
    counted = all(_COUNTED_ONLY.fullmatch(table.paths[row]) for row in others)
    if others and counted and not os.path.isdir(table.paths[others[0]]):
        for row in others:
            match = _COUNTED_ONLY.fullmatch(table.paths[row])
            assert match is not None
            table.paths[row] = match[1]
    return table
