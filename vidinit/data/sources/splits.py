"""The official splits of UCF101 and HMDB51.

UCF101: ``classInd.txt`` with ``id name`` lines, ``trainlist0N.txt`` with ``Class/video.avi id``
lines and ``testlist0N.txt`` with ``Class/video.avi`` lines. HMDB51: a ``<class>_test_split<N>.txt``
for every class, with ``video.avi 1`` for training, 2 for testing, 0 for neither. Videos are looked
up by name below the root: the folder with the class folders, by default in or next to the folder of
the lists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ...errors import DataError, UsageError
from .access import (
    content_lines,
    entries,
    find_nearby,
    require_existing,
    shown,
    subfolders,
    text_lines,
)
from .by_id import Finder
from .classes import ClassList, read_class_names
from .options import PartName, SourceOptions
from .shards import archives_in
from .table import Table

_UCF_LIST = re.compile(r"(train|test)list(\d+)\.txt")
_HMDB_LIST = re.compile(r"(.+)_test_split(\d+)\.txt")
_HMDB_PARTS: dict[str, PartName | None] = {"0": None, "1": "train", "2": "val"}


def official_splits(folder: str, options: SourceOptions) -> Table | None:
    """The rows of official split ``options.split``, by part, where a folder has split lists.

    Without labels the clips of a folder count, whether or not a list names them, and so do its
    archives: then the lists are read only where there are none of these.

    Raises:
        DataError: there is no such split, a line of it is wrong, or its videos are not found.
    """
    lists = _find_lists(folder)
    if lists is None or (not options.labeled and archives_in(folder)):
        return None
    return (_ucf_table if _is_ucf(lists) else _hmdb_table)(lists, options)


def ucf_list(file: str, options: SourceOptions) -> Table | None:
    """The rows of one ``trainlist0N.txt`` or ``testlist0N.txt`` of UCF101.

    It is one by its name, and by ``classInd.txt`` next to it or by having no labels at all.
    """
    folder, name = os.path.split(file)
    if _UCF_LIST.fullmatch(name) is None:
        return None
    if not _is_ucf(folder) and any(len(line.split()) != 1 for _, line in content_lines(file)):
        return None
    table = Table(file)
    stems = _read_ucf(table, file)
    _locate(table, stems, folder, options)
    return table


NUMBER = "{split}"
"""Stands in a path for the number of a split, as in ``train_{split}.txt``."""


def split_numbers(path: str) -> list[int]:
    """The numbers of the splits of one data set by repetition, as those of UCF101 and HMDB51 are.

    Args:
        path: a folder with their official lists; or a path with `NUMBER` in it, of which there are
            as many as exist from 1 on.

    Raises:
        UsageError: it has no such splits.
    """
    path = os.path.expanduser(path)
    if NUMBER in path:
        count = 0
        while os.path.exists(path.replace(NUMBER, str(count + 1))):
            count += 1
        if not count:
            raise UsageError(
                f"{path.replace(NUMBER, '1')} does not exist",
                f"{path} is the path of split 1, 2 ...",
            )
        return list(range(1, count + 1))
    lists = _find_lists(path) if os.path.isdir(path) else None
    if lists is None:
        raise UsageError(
            f"{path} has no splits that repeat one another",
            f"data.split=all is for the lists of UCF101 and HMDB51, and for paths with {NUMBER} "
            "in them; other official splits are protocols of their own: name one by its number",
        )
    pattern = _UCF_LIST if _is_ucf(lists) else _HMDB_LIST
    matches = filter(None, map(pattern.fullmatch, entries(lists)))
    return sorted({int(match[2]) for match in matches})


def _find_lists(folder: str) -> str | None:
    """The folder with official split lists that ``folder`` is, or has directly in it; or None."""
    names = subfolders(folder)
    likely = [n for n in names if "split" in n.lower() or _is_ucf(os.path.join(folder, n))]
    for candidate in (folder, *(os.path.join(folder, name) for name in likely)):
        if _is_ucf(candidate) or any(map(_HMDB_LIST.fullmatch, entries(candidate))):
            return candidate
    return None


def _is_ucf(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "classInd.txt"))


def _ucf_table(folder: str, options: SourceOptions) -> Table:
    table = Table(folder)
    table.form = f"UCF101's lists, split {options.split}: the test list is for validation"
    stems: list[str] = []
    parts: tuple[tuple[str, PartName], ...] = (("train", "train"), ("test", "val"))
    for name, part in parts:
        file = os.path.join(folder, f"{name}list{options.split:02d}.txt")
        if not os.path.isfile(file):
            raise _no_split(folder, options.split, _UCF_LIST)
        stems += _read_ucf(table, file)
        table.parts += [part] * (len(stems) - len(table.parts))
    _locate(table, stems, folder, options)
    return table


def _read_ucf(table: Table, file: str) -> list[str]:
    """Add the lines of one list, with ``Class/video.avi`` as path; their names without suffix."""
    classes = os.path.join(os.path.dirname(file), "classInd.txt")
    if os.path.isfile(classes):
        table.names = read_class_names(classes)
    stems = []
    for number, line in text_lines(file):
        if not line.strip():
            continue
        path, _, label = line.strip().partition(" ")
        folder, name = os.path.split(path)
        if not folder:
            raise DataError(
                f"{file}:{number}: no class folder in '{shown(path)}'", "expected 'Class/video.avi'"
            )
        if label and table.names is not None:
            folder = _by_number(table.names, label, f"{file}:{number}")
        table.paths.append(path)
        table.labels.append(folder)
        table.files.append(file)
        table.lines.append(number)
        stems.append(os.path.splitext(name)[0])
    return stems


def _by_number(names: ClassList, label: str, where: str) -> str:
    """The class that a 1-based id means."""
    label = label.strip()
    digits = label.isascii() and label.isdecimal() and len(label) < 10
    position = int(label) - names.first if digits else -1
    if not 0 <= position < len(names.names):
        raise DataError(
            f"{where}: unknown class '{shown(label)}'",
            f"ids run from {names.first} in {names.where}",
        )
    return names.names[position]


def _hmdb_table(folder: str, options: SourceOptions) -> Table:
    table = Table(folder, names_only=True)
    stems = []
    neither = 0
    for name in entries(folder):
        match = _HMDB_LIST.fullmatch(name)
        if match is None or int(match[2]) != options.split:
            continue
        file = os.path.join(folder, name)
        for number, line in text_lines(file):
            if not line.strip():
                continue
            video, _, mark = line.strip().rpartition(" ")
            if mark not in _HMDB_PARTS or not video:
                raise DataError(f"{file}:{number}: '{shown(line)}'", "expected 'video.avi 0|1|2'")
            part = _HMDB_PARTS[mark]
            neither += part is None
            if part is not None:
                table.paths.append(os.path.join(match[1], video.strip()))
                table.labels.append(match[1])
                table.parts.append(part)
                table.files.append(file)
                table.lines.append(number)
                stems.append(os.path.splitext(video.strip())[0])
    if not stems:
        raise _no_split(folder, options.split, _HMDB_LIST)
    table.form = f"HMDB51's lists, split {options.split}: the test clips are for validation"
    table.form += f"; {neither} clips marked 0 are in neither part" if neither else ""
    _locate(table, stems, folder, options)
    return table


def _no_split(folder: str, split: int, pattern: re.Pattern[str]) -> DataError:
    matches = filter(None, map(pattern.fullmatch, entries(folder)))
    there = sorted({int(match[2]) for match in matches})
    return DataError(
        f"{folder} has no split {split}", f"data.split is one of {', '.join(map(str, there))}"
    )


def _locate(table: Table, stems: Sequence[str], folder: str, options: SourceOptions) -> None:
    """Make ``Class/video.avi`` the path of that video below the root."""
    if not stems:
        return
    class_folder = os.path.dirname(table.paths[0])
    root = options.root if options.root is not None else find_nearby(folder, class_folder)
    if root is None:
        raise DataError(
            f"no folder '{class_folder}' with videos in or beside {folder}",
            "give the folder of the class folders as data.root",
        )
    finder = Finder(require_existing(root), set(stems))
    finder.check(table.where, len(stems))
    table.paths = [
        finder.find([stem], (os.path.dirname(path),)) or os.path.join(root, path)
        for stem, path in zip(stems, table.paths, strict=True)
    ]
    finder.warn(table.where)
