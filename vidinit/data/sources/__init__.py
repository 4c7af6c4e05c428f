"""Where clips come from: every form in which people have their data becomes `Rows`.

Which form a path has is seen from what is there, in the order of the table in `formats`:

- a folder with a sub-folder per class, at any depth below it; or ``train/`` and ``val/`` with them;
- a folder without labels, or a single file;
- folders of frames: see `folders`;
- lists, with a header or without: see `lists` and `columns`, for json lists, too;
- lists and json files of single data sets, which may name videos by ids: see `by_id`, `headerless`,
  `charades` and `databases`; `boxes` knows those of detection, to refuse them;
- the folder of the official lists of UCF101 or HMDB51, or one such list: see `splits`; files named
  as those of NTU RGB+D and Toyota Smarthome: see `named_files`;
- webdataset shards, a folder of them or a pattern ``shard-{0000..0009}.tar``: see `shards`.

Nothing is opened here but lists and the headers of archives: whether a video can be read, or is
there at all, is for `index` to say.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ...errors import UsageError
from ..rows import Rows
from .access import Kinds, require_existing
from .classes import ClassList, NoLabelsError, flippable, mirrored, read_class_names
from .formats import read, read_parts
from .options import SourceOptions
from .parts import few_shots, fold_of, for_training, hold_out, in_groups, join, pick
from .splits import split_numbers
from .table import Part

__all__ = [
    "NoLabelsError",
    "flippable",
    "hold_out",
    "labeled_parts",
    "labeled_rows",
    "mirrored",
    "split_numbers",
    "train_val",
    "unlabeled_rows",
]

Paths = str | Path | Sequence[str | Path]


def labeled_rows(
    data: Paths,
    *,
    kinds: Kinds = "video",
    root: str | Path | None = None,
    class_names: str | Path | None = None,
    split: int = 1,
    part: Literal["all", "train", "val", "test"] = "all",
    classes: Sequence[str] | None = None,
    nouns: Sequence[str] | None = None,
) -> Rows:
    """Labeled rows of a data set, or of several joined.

    Labels are class names or ids, the same kind throughout. The order of the classes is, the first
    that there is: that of ``class_names``; that of ``classes``, into which the ids of a list count;
    the data set's own (the names beside the lists of Something-Something, EPIC-Kitchens and
    UCF101); ids, which name the classes "0" to "max"; the sorted names. Data sets that are joined
    are matched by class name; unless all have the same classes, these are numbered in the order of
    their first appearance.

    Args:
        data: path of a folder, list or archive, or several; see the module for what they may hold.
        kinds: which files of folders and archives count. Lists may name both.
        root: folder that paths in lists are relative to, or in which videos are looked up by id;
            default: the folder of the list.
        class_names: file with the names in order, as `classes.read_class_names` reads it.
        split: which official split of UCF101, HMDB51, NTU RGB+D or Toyota Smarthome.
        part: ``train``, ``val`` or ``test``: that part of data that has parts (train/ and val/,
            official splits, a split column), where ``val`` is the test part if there is no other;
            all of data that has none, or just one. ``all``: everything.
        classes: class order that the labels must have. A class outside it is an error.
        nouns: the same for the second labels of pairs.

    Raises:
        UsageError: nothing exists at a path, or it is the wrong kind of file.
        DataError: no clip, a wrong line, an unknown class, or several sources that do not agree.
    """
    options = SourceOptions(
        kinds=kinds,
        root=_folder(root),
        names=_names(class_names),
        classes=None if classes is None else tuple(classes),
        nouns=None if nouns is None else tuple(nouns),
        split=split,
    )
    return join([pick(read(path, options), part) for path in _several(data)])


def labeled_parts(
    data: Paths,
    *,
    kinds: Kinds = "video",
    root: str | Path | None = None,
    class_names: str | Path | None = None,
    split: int = 1,
) -> list[Part]:
    """The parts of `labeled_rows`, of several data sets one after the other.

    Args:
        data, kinds, root, class_names, split: as for `labeled_rows`.

    Raises:
        UsageError, DataError: as `labeled_rows`.
    """
    options = SourceOptions(kinds=kinds, root=_folder(root), names=_names(class_names), split=split)
    return [part for path in _several(data) for part in read(path, options)]


def unlabeled_rows(
    data: Paths,
    *,
    kinds: Kinds = "video",
    root: str | Path | None = None,
    part: Literal["all", "train"] = "all",
) -> Rows:
    """Rows without labels: what labeled data may be, and files, folders and lists without labels.

    Of a list without a header, the path on each line is read, whether or not a label follows it.

    Args:
        data: path of a folder, file, list or archive, or several.
        kinds: which files of folders and archives count. Lists may name both.
        root: folder that paths in lists are relative to; default: the folder of the list.
        part: ``train``: the training part alone of data that has parts (train/ and val/, official
            splits, a split column), with a ``UserWarning`` that says how many clips are left out.

    Raises:
        UsageError: nothing exists there, or it is neither media nor text.
        DataError: no file of the wanted kind was found or listed.
    """
    options = SourceOptions(kinds=kinds, root=_folder(root), labeled=False)
    if part == "all":
        return join([pick(read(path, options), "all") for path in _several(data)])
    return join([_training_part(path, options) for path in _several(data)])


def _training_part(path: str, options: SourceOptions) -> Part:
    """The training part of a source without labels; all of it where it has no parts."""
    parts = read_parts(path, options)
    train = pick(parts, "train")
    others = {one.name: len(one.rows) for one in parts if one is not train}
    if others:
        left = " and ".join(f"{count:,} of its {name} part" for name, count in others.items())
        warnings.warn(
            f"{path}: the {len(train.rows):,} clips of its training part are taken, {left} are "
            "left out",
            stacklevel=3,
        )
    return train


def train_val(
    data: Paths,
    val: Paths | None = None,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    kinds: Kinds = "video",
    root: str | Path | None = None,
    class_names: str | Path | None = None,
    split: int = 1,
    shots: int | None = None,
    fold: tuple[int, int] | None = None,
) -> tuple[Rows, Rows]:
    """Training and validation rows, with labels in the order of the training classes.

    Validation is, in this order: an explicit ``val``; the validation part of data that has parts
    (``val/`` beside ``train/``, official splits, a split column); a split of each class by
    ``seed``. In the last, a class with a single clip stays in training, with a ``UserWarning`` that
    names it; when every class has one clip, validation is empty. Of several data sets, each is
    split as it would be alone. Rows of one group (a ``group`` column) stay in one part, and how
    many groups are held out is a ``UserWarning``.

    Args:
        data: path of a folder, list or archive, or several, as for `labeled_rows`.
        val: validation data in the same forms; of data with parts, the validation part.
        val_fraction: share of each class held out where there is no validation data, 0 to 1.
        seed: of that choice, and of the few-shot subset.
        kinds, root, class_names, split: as for `labeled_rows`.
        shots: train on this many clips of each class, chosen by (seed, class), fewer being a part
            of more; a class with fewer keeps them all, with a ``UserWarning``. None: on all.
        fold: (k, n): validate on the k-th of n folds of the training part, see `parts.fold`; a
            validation part is left alone, with a ``UserWarning``.

    Raises:
        UsageError: a path does not exist, or a number is out of its range.
        DataError: no clip, or a validation class that is unknown in training; and as for
            `labeled_rows`.
    """
    if not 0 < val_fraction < 1:
        raise UsageError(f"val_fraction is {val_fraction}", "it must lie between 0 and 1")
    if shots is not None and shots < 1:
        raise UsageError(f"shots is {shots}", "it must be at least 1")
    options = SourceOptions(kinds=kinds, root=_folder(root), names=_names(class_names), split=split)
    if fold is not None:
        if val is not None:
            raise UsageError("folds hold out training clips, and validation data is named", "")
        halves = [_fold(path, options, fold, seed) for path in _several(data)]
        train, held_out = join([part for part, _ in halves]), [part for _, part in halves]
    elif val is None:
        halves = [_halves(path, options, val_fraction, seed) for path in _several(data)]
        train, held_out = join([part for part, _ in halves]), [part for _, part in halves]
    else:
        train = join([pick(read(path, options), "train") for path in _several(data)])
        known = replace(options, classes=train.classes, nouns=train.nouns)
        held_out = [pick(read(path, known), "val") for path in _several(val)]
    if train.classes is not None and len(train.classes) == 1:
        warnings.warn(f"all training clips are of one class, '{train.classes[0]}'", stacklevel=2)
    rows = [row for part in held_out for row in for_training(part, train).rows]
    return train if shots is None else few_shots(train, shots, seed), train.of(rows)


def _halves(path: str, options: SourceOptions, val_fraction: float, seed: int) -> tuple[Part, Part]:
    """The training and the validation part of one source, which is split if it has no parts."""
    parts = read(path, options)
    train = pick(parts, "train")
    if len(parts) > 1 and any(part.name == "val" for part in parts):
        return train, pick(parts, "val")
    if len(parts) > 1:
        warnings.warn(
            f"the test part of {train.where} is left alone: validation is held out of training",
            stacklevel=3,
        )
    kept, held_out = hold_out(train.rows, val_fraction, seed)
    if words := in_groups(train.rows, held_out):
        warnings.warn(f"{train.where}: {words}", stacklevel=3)
    return replace(train, rows=kept), Part("val", held_out, train.where)


def _fold(path: str, options: SourceOptions, fold: tuple[int, int], seed: int) -> tuple[Part, Part]:
    """The training part of one source without a fold of it, and that fold."""
    parts = read(path, options)
    train = pick(parts, "train")
    others = [f"{len(one.rows):,} clips of its {one.name} part" for one in parts if one != train]
    if others:
        warnings.warn(
            f"{train.where}: folds are made of the training part, {' and '.join(others)} are left "
            "alone",
            stacklevel=3,
        )
    kept, held_out = fold_of(train.rows, *fold, seed)
    if words := in_groups(train.rows, held_out):
        warnings.warn(f"{train.where}: {words}", stacklevel=3)
    return replace(train, rows=kept), Part("val", held_out, train.where)


def _several(paths: Paths) -> list[str]:
    """One path or several, as texts.

    Raises:
        UsageError: there is none.
    """
    found = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not found:
        raise UsageError("no data is named", "pass a folder or a list")
    return [str(path) for path in found]


def _folder(path: str | Path | None) -> str | None:
    return None if path is None else os.path.expanduser(path)


def _names(file: str | Path | None) -> ClassList | None:
    return None if file is None else read_class_names(require_existing(os.path.expanduser(file)))
