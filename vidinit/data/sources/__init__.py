"""Where clips come from: folders and lists become rows of (path, label).

Nothing is opened here but list files: whether a video can be read is for ``index.py`` to say.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..errors import DataError, UsageError, suggest
from .views import SPLIT, rng

Kinds = Literal["video", "image", "any"]

VIDEO_SUFFIXES = frozenset(
    """.3g2 .3gp .asf .avi .divx .f4v .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv
    .ts .vob .webm .wmv""".split()  # noqa: SIM905
)
IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
_SUFFIXES: dict[Kinds, frozenset[str]] = {
    "video": VIDEO_SUFFIXES,
    "image": IMAGE_SUFFIXES,
    "any": VIDEO_SUFFIXES | IMAGE_SUFFIXES,
}
_NOUNS = {"video": "video", "image": "image", "any": "video or image"}
_SPLIT_NAMES = frozenset({"train", "val", "test"})


@dataclass(frozen=True)
class Row:
    """One clip of a data set.

    Attributes:
        path: the video or image file.
        label: position of its class in ``Rows.classes``; None where there are no labels.
        num_frames: how many frames it has, once ``index.check`` has looked; None before.
    """

    path: Path
    label: int | None
    num_frames: int | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of a data set in a fixed order, and the names of its classes (None: unlabelled)."""

    rows: tuple[Row, ...]
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.rows)


def folder_rows(folder: str | Path, *, kinds: Kinds = "video") -> Rows:
    """Labelled rows of a folder with one sub-folder per class.

    The classes are the sub-folders that hold at least one file of the wanted kind, sorted by name;
    files are taken from any depth below them. Hidden files and folders are ignored.

    Raises:
        UsageError: the folder does not exist or is not a folder.
        DataError: it holds no file of the wanted kind, or only files outside class sub-folders.
    """
    folder = _existing_folder(folder)
    found = [(entry.name, _media_files(entry, kinds)) for entry in _subfolders(folder)]
    classes = [(name, files) for name, files in found if files]
    if not classes:
        if _media_files(folder, kinds):
            raise DataError(
                f"{folder} holds {_NOUNS[kinds]} files but no class sub-folders",
                "labels come from sub-folders, or pass a list file of 'path label' lines",
            )
        raise DataError(
            f"no {_NOUNS[kinds]} file in {folder}", "expected one sub-folder of them per class"
        )
    rows = tuple(Row(path, label) for label, (_, files) in enumerate(classes) for path in files)
    return Rows(rows, tuple(name for name, _ in classes))


def unlabelled_rows(source: str | Path, *, kinds: Kinds = "video") -> Rows:
    """Rows without labels: every file below a folder, a single file, or a list of paths.

    A list file has a path a line, relative to its own folder, blank lines and # comments aside.

    Raises:
        UsageError: nothing exists there, or it is neither media nor text.
        DataError: no file of the wanted kind was found or listed.
    """
    source = Path(source).expanduser()
    if source.is_file():
        if source.suffix.lower() in _SUFFIXES[kinds]:
            return Rows((Row(source, None),))
        paths = [source.parent / line for _, line in _lines(source)]
    else:
        paths = _media_files(_existing_folder(source), kinds)
    if not paths:
        raise DataError(f"no {_NOUNS[kinds]} file in {source}")
    return Rows(tuple(Row(path, None) for path in paths))


def list_rows(file: str | Path, classes: Sequence[str] | None = None) -> Rows:
    """Labelled rows of a text file with ``path label`` lines.

    Path and label are separated by whitespace, a comma or a tab, and both may contain spaces: the
    path is the longest one that ends in a video or image suffix, else everything before the last
    separator. Relative paths are relative to the list's folder. Blank lines and # comments are
    skipped.

    Labels are class names or integer ids, the same kind throughout. Without ``classes``, integers
    0 to ``max`` name the classes "0" to "max", and names are sorted. With ``classes``, labels are
    read as names when all of them are in ``classes``, else as ids into it.

    Raises:
        UsageError: the file does not exist or is not text.
        DataError: a line has no label or an unknown one (named as ``file:line``), or no line.
    """
    file = _existing_path(file)
    lines = [(number, *_split_line(file, number, line)) for number, line in _lines(file)]
    if not lines:
        raise DataError(f"{file} lists no clip", "expected one 'path label' a line")
    labels = [label for _, _, label in lines]
    all_ids = all(re.fullmatch(r"\d+", label) for label in labels)
    if classes is None:
        if all_ids:
            classes = [str(i) for i in range(max(map(int, labels)) + 1)]
        else:
            classes = sorted(set(labels))
    ids = {name: label for label, name in enumerate(classes)}
    by_id = all_ids and not ids.keys() >= set(labels)

    rows = []
    for number, path, label in lines:
        if by_id and int(label) < len(classes):
            value = int(label)
        elif not by_id and label in ids:
            value = ids[label]
        else:
            known = f"ids run from 0 to {len(classes) - 1}" if by_id else suggest(label, classes)
            raise DataError(f"{file}:{number}: unknown class '{label}'", known)
        rows.append(Row(file.parent / path, value))
    return Rows(tuple(rows), tuple(classes))


def labelled_rows(
    path: str | Path, *, kinds: Kinds = "video", classes: Sequence[str] | None = None
) -> Rows:
    """Labelled rows of a folder (``folder_rows``) or a list file (``list_rows``).

    Args:
        path: the folder or the list.
        kinds: which files of a folder count.
        classes: class order that the labels must index. A class outside it is an error.

    Raises:
        UsageError: nothing exists at ``path``, or it is the wrong kind of file.
        DataError: no clip, or a class that is not in ``classes``.
    """
    path = _existing_path(path)
    if path.is_dir():
        rows = folder_rows(path, kinds=kinds)
        return rows if classes is None else align(rows, classes, where=path)
    return list_rows(path, classes)


def align(rows: Rows, classes: Sequence[str], *, where: str | Path) -> Rows:
    """The same rows with labels that index ``classes``, matched by class name.

    Raises:
        DataError: a class with rows in it is not in ``classes``; ``where`` is named as its place.
    """
    if rows.classes is None:
        raise DataError(f"{where} has no labels")
    ids = {name: label for label, name in enumerate(classes)}
    aligned = []
    for row in rows.rows:
        name = None if row.label is None else rows.classes[row.label]
        if name is not None and name not in ids:
            hint = suggest(name, classes) or "training and validation must name the same classes"
            raise DataError(f"class '{name}' of {where} is unknown in training", hint)
        aligned.append(replace(row, label=None if name is None else ids[name]))
    return Rows(tuple(aligned), tuple(classes))


def train_val(
    data: str | Path,
    val: str | Path | None = None,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    kinds: Kinds = "video",
) -> tuple[Rows, Rows]:
    """Training and validation rows, with labels in the order of the training classes.

    In this order: an explicit ``val`` (folder or list); ``train/`` and ``val/`` inside ``data``;
    a split of each class by ``seed``. A class with a single clip then stays in training, with a
    ``UserWarning`` that names it; when every class has one clip, validation is empty.

    Raises:
        UsageError: a path does not exist, or ``val_fraction`` is not between 0 and 1.
        DataError: no clip, or a validation class that is unknown in training.
    """
    data = _existing_path(data)
    names = {entry.name for entry in _subfolders(data)} if data.is_dir() else set()
    # A class may be called "train": only folders named like splits make it one.
    if {"train", "val"} <= names or ("train" in names and names <= _SPLIT_NAMES):
        if val is None and "val" in names:
            val = data / "val"
        data = data / "train"
    train = labelled_rows(data, kinds=kinds)
    if val is not None:
        return train, labelled_rows(val, kinds=kinds, classes=train.classes)
    return _split(train, val_fraction, seed)


def _split(rows: Rows, val_fraction: float, seed: int) -> tuple[Rows, Rows]:
    if not 0 < val_fraction < 1:
        raise UsageError(f"val_fraction is {val_fraction}", "it must lie between 0 and 1")
    classes = rows.classes or ()
    held_out: set[int] = set()
    for label, name in enumerate(classes):
        members = [i for i, row in enumerate(rows.rows) if row.label == label]
        if len(members) == 1:
            warnings.warn(f"class '{name}' has a single clip: it stays in training", stacklevel=3)
        if len(members) > 1:
            count = min(max(1, round(len(members) * val_fraction)), len(members) - 1)
            order = rng(seed, 0, label, stream=SPLIT).permutation(len(members))
            held_out.update(members[i] for i in order[:count])
    train = tuple(row for i, row in enumerate(rows.rows) if i not in held_out)
    val = tuple(row for i, row in enumerate(rows.rows) if i in held_out)
    return Rows(train, rows.classes), Rows(val, rows.classes)


def _existing_path(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.exists():
        raise UsageError(f"{path} does not exist", "check the path of the data")
    return path


def _existing_folder(path: str | Path) -> Path:
    folder = _existing_path(path)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "pass the folder that holds the clips")
    return folder


def _subfolders(folder: Path) -> list[Path]:
    """Visible sub-folders, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _media_files(folder: Path, kinds: Kinds) -> list[Path]:
    """Visible files of the wanted kind at any depth, sorted; links to folders are followed."""
    suffixes = _SUFFIXES[kinds]
    files: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        # A link to a folder above would be walked for ever.
        folders[:] = [] if real in seen else [n for n in folders if not n.startswith(".")]
        if real not in seen:
            files += (
                Path(parent, name)
                for name in names
                if not name.startswith(".") and Path(name).suffix.lower() in suffixes
            )
        seen.add(real)
    return sorted(files)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a list file, without blank lines and comments."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{file} is no text file", "a list has one clip a line") from error
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield number, line


def _split_line(file: Path, number: int, line: str) -> tuple[str, str]:
    """Path and label of one line of a list."""
    parts = [
        (line[: match.start()].rstrip(" ,\t"), line[match.end() :].strip())
        for match in reversed(list(re.finditer(r"[\s,]", line)))
    ]
    parts = [(path, label) for path, label in parts if path and label]
    if not parts:
        raise DataError(f"{file}:{number}: no label in '{line}'", "expected 'path label'")
    known = (part for part in parts if Path(part[0]).suffix.lower() in _SUFFIXES["any"])
    return next(known, parts[0])
