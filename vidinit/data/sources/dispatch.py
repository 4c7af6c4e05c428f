"""One path to its rows: what is there decides how it is read."""

from __future__ import annotations

import os
from dataclasses import replace

from ...errors import DataError, UsageError
from ..rows import Row, Rows, align
from .access import (
    MEDIA_NOUN,
    MEDIA_SUFFIXES,
    SUFFIXES,
    Kinds,
    entries,
    existing,
    subfolders,
    suffix_of,
)
from .columns import json_table
from .folders import class_folders, clips_below
from .lists import list_table
from .options import PART_NAMES, PartName, Reading
from .shards import expand_shards, folder_shards, shards_table
from .splits import find_splits, is_ucf_list, splits_table, ucf_list_table
from .table import Part


def read(path: str, reading: Reading) -> list[Part]:
    """The rows of one source, by part, in the order of `Reading.classes` if these are given.

    Raises:
        UsageError: nothing is there, or it is not something that holds or lists clips.
        DataError: there is no clip, or something about it is wrong.
    """
    path = os.path.expanduser(path)
    if reading.root is not None and not os.path.isdir(reading.root):
        raise UsageError(f"{reading.root} is no folder", "data.root is the folder of the videos")
    archives = expand_shards(path)
    if archives is not None:
        parts = shards_table(path, archives, reading).to_parts(reading)
    elif os.path.isdir(existing(path)):
        parts = (_labelled_folder if reading.labelled else _bare_folder)(path, reading)
    else:
        parts = _file(path, reading)
    if reading.classes is None:
        return parts
    return [
        replace(p, rows=align(p.rows, reading.classes, where=p.where, nouns=reading.nouns))
        for p in parts
    ]


def _file(file: str, reading: Reading) -> list[Part]:
    if suffix_of(file) in MEDIA_SUFFIXES:
        if not reading.labelled and suffix_of(file) in SUFFIXES[reading.kinds]:
            return [Part("all", Rows((Row(file),)), file)]
        if reading.labelled:
            raise UsageError(
                f"{file} is one clip without a label",
                "pass a folder with a sub-folder per class, or a list of 'path label' lines",
            )
        raise UsageError(f"{file} is no {MEDIA_NOUN[reading.kinds]}")
    if suffix_of(file) == ".json":
        table = json_table(file, reading)
    elif is_ucf_list(file):
        table = ucf_list_table(file, reading)
    else:
        table = list_table(file, reading)
    return table.to_parts(reading)


def _labelled_folder(folder: str, reading: Reading) -> list[Part]:
    """Official splits, train/ and val/, a sub-folder per class, or shards; in this order."""
    if (splits := find_splits(folder)) is not None:
        return splits_table(splits, reading).to_parts(reading)
    if halves := _part_folders(folder):
        return [
            replace(_one_folder(os.path.join(folder, name), reading), name=part)
            for part, name in halves.items()
        ]
    return [_one_folder(folder, reading)]


def _part_folders(folder: str) -> dict[PartName, str]:
    """The sub-folders that are parts of the data, or none if they are classes.

    A class may be called "train": only folders named like parts make it one. A test/ beside
    train/ or val/ is left alone.
    """
    names = subfolders(folder)
    found: dict[PartName, str] = {}
    for name in names:
        if (part := PART_NAMES.get(name.lower())) is not None:
            found.setdefault(part, name)
    if not ({"train", "val"} <= found.keys() or len(found) == len(names)):
        return {}
    return {p: name for p, name in found.items() if p != "test"} or found


def _one_folder(folder: str, reading: Reading) -> Part:
    table = class_folders(folder, reading.kinds)
    if not table.paths and (archives := folder_shards(folder)):
        table = shards_table(folder, archives, reading)
    if not table.paths:
        raise _no_classes(folder, reading.kinds)
    return table.to_parts(reading)[0]


def _no_classes(folder: str, kinds: Kinds) -> DataError:
    """What is missing in a folder in which no class was found."""
    noun, names = MEDIA_NOUN[kinds], entries(folder)
    if any(suffix_of(name) in SUFFIXES[kinds] for name in names):
        return DataError(
            f"{folder} holds {noun} files but no class sub-folders",
            "labels come from sub-folders, or pass a list file of 'path label' lines",
        )
    if clips_below(folder, kinds, is_class=True):
        return DataError(
            f"{folder} holds folders of frames but no class folders around them",
            "expected CLASS/CLIP/img_00001.jpg, or pass a list file of 'folder label' lines",
        )
    lists = [name for name in names if suffix_of(name) in (".csv", ".tsv", ".json")]
    hint = "expected one sub-folder of them per class"
    if lists:
        hint = f"to read a list, pass it: {os.path.join(folder, lists[0])}"
    return DataError(f"no {noun} file in {folder}", hint)


def _bare_folder(folder: str, reading: Reading) -> list[Part]:
    """Every clip below a folder; else its shards, else what its official split lists name."""
    clips = clips_below(folder, reading.kinds, is_class=False)
    if clips:
        return [Part("all", Rows(tuple(map(Row, clips))), folder)]
    if archives := folder_shards(folder):
        return shards_table(folder, archives, reading).to_parts(reading)
    if (splits := find_splits(folder)) is not None:
        return splits_table(splits, reading).to_parts(reading)
    raise DataError(f"no {MEDIA_NOUN[reading.kinds]} file in {folder}")
