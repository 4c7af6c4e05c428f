"""The forms in which people have their data: which of them a path is, and its rows.

A form is one function, in the file that says what the form looks like. To add one, write that
function and its line in `FORMATS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from ...errors import UsageError
from ..rows import align
from .access import require_existing, subfolders
from .boxes import ava_list
from .charades import charades_list, frame_list
from .columns import csv_list, json_list
from .folders import class_folders, no_clips, single_clip, unlabeled_folder
from .headerless import id_list, moments_list
from .lists import plain_list
from .named_files import named_files
from .options import PART_NAMES, PartName, SourceOptions
from .parts import pick
from .shards import shard_folder, shard_names
from .splits import official_splits, ucf_list
from .table import Part, Table

Format = Callable[[str, SourceOptions], Table | Iterable[Table] | None]
"""Reads a path to a `Table`, labels still being text, or to one for each part of the data.

None: the path is of another form. What is of this form but wrong is a `DataError`.
"""


def train_and_val(folder: str, options: SourceOptions) -> Iterator[Table] | None:
    """``train/`` and ``val/``, each of any form that stands below this one among `FORMATS`.

    A class may be called "train": only folders named like parts make it one. A test/ beside
    train/ or val/ is left alone.
    """
    if not options.labeled:
        return None
    found = _part_folders(folder)
    if not found:
        return None
    parts = {p: name for p, name in found.items() if p != "test"} or found
    inner = FORMATS["folder"][FORMATS["folder"].index(train_and_val) + 1 :]
    return (  # one after the other: what is wrong in the first is said before the next is read
        replace(table, part=part)
        for part, name in parts.items()
        for table in _tables(os.path.join(folder, name), options, inner)
    )


def _part_folders(folder: str) -> dict[PartName, str]:
    """The sub-folders that are the parts of a data set, by part; empty where there are none."""
    names = subfolders(folder)
    found: dict[PartName, str] = {}
    for name in names:
        if (part := PART_NAMES.get(name.lower())) is not None:
            found.setdefault(part, name)
    return found if {"train", "val"} <= found.keys() or len(found) == len(names) else {}


FORMATS: dict[Literal["name", "folder", "file"], tuple[Format, ...]] = {
    # Asked first, also about what is not there under this very name.
    "name": (shard_names,),
    "folder": (
        *(unlabeled_folder, official_splits, train_and_val, named_files, class_folders),
        shard_folder,
    ),
    # Whatever is text may be a plain list, so that nothing below it would be asked.
    "file": (
        *(single_clip, json_list, ucf_list, ava_list, charades_list, frame_list, csv_list),
        *(id_list, moments_list, plain_list),
    ),
}
"""All forms, in the order in which they are asked: the first that does not say None is it."""


def read(path: str, options: SourceOptions) -> list[Part]:
    """The rows of one source, by part, in the order of ``options.classes`` if these are given.

    Raises:
        UsageError: nothing is there, or it is not something that holds or lists clips.
        DataError: there is no clip, or something about it is wrong.
    """
    path = os.path.expanduser(path)
    if options.root is not None and not os.path.isdir(options.root):
        raise UsageError(f"{options.root} is no folder", "data.root is the folder of the videos")
    tables = _first_match(path, options, FORMATS["name"])
    if tables is None:
        forms = FORMATS["folder" if os.path.isdir(require_existing(path)) else "file"]
        tables = _tables(path, options, forms)
    parts = [part for table in tables for part in table.to_parts(options)]
    if options.classes is None:
        return parts
    return [
        replace(p, rows=align(p.rows, options.classes, where=p.where, nouns=options.nouns))
        for p in parts
    ]


def read_parts(path: str, options: SourceOptions) -> list[Part]:
    """`read` of a source whose labels are not wanted, by the parts that it would have with them.

    Raises:
        UsageError, DataError: as `read`.
    """
    path = os.path.expanduser(path)
    if not os.path.isdir(path):
        return read(path, options)
    if len(folders := _part_folders(path)) > 1:
        return [
            replace(pick(read(os.path.join(path, name), options), "all"), name=part)
            for part, name in folders.items()
        ]
    table = official_splits(path, options)
    return read(path, options) if table is None else table.to_parts(options)


def _tables(path: str, options: SourceOptions, forms: Sequence[Format]) -> Iterable[Table]:
    """The rows by the first form that takes the path.

    Raises:
        DataError: none does, which happens to folders only.
    """
    tables = _first_match(path, options, forms)
    if tables is None:
        raise no_clips(path, options)
    return tables


def _first_match(
    path: str, options: SourceOptions, forms: Sequence[Format]
) -> Iterable[Table] | None:
    for form in forms:
        found = form(path, options)
        if found is not None:
            return [found] if isinstance(found, Table) else found
    return None
