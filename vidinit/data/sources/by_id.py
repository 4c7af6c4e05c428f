"""Data sets that name videos by ids: Kinetics, Something-Something, EPIC-Kitchens, and alike.

Files are looked up below the root, each folder being listed once. An id without a file keeps its
row, with the path where its file is most likely missing, for the index to report it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

from ...errors import DataError
from ..rows import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from .access import MEDIA_SUFFIXES, entries, suffix_of
from .classes import read_class_names
from .folders import walk
from .table import Table


def find_class_names(table: Table, columns: Sequence[str]) -> None:
    """Take the class names from the files that the data set keeps beside its lists, if any.

    These are ``labels.json`` of Something-Something, ``verb_classes.csv`` and ``noun_classes.csv``
    of EPIC-Kitchens, with or without something before these names, and ``Diving48_vocab.json``.
    """
    folder = os.path.dirname(table.where)
    if "vid_name" in columns and (file := _file_ending_in(folder, "Diving48_vocab.json")):
        table.names = read_class_names(file)
    if "template" in columns and (file := _file_ending_in(folder, "labels.json")):
        table.names = read_class_names(file)
    if "verb_class" in columns and (file := _file_ending_in(folder, "verb_classes.csv")):
        table.names = read_class_names(file)
    if "noun_class" in columns and (file := _file_ending_in(folder, "noun_classes.csv")):
        table.noun_names = read_class_names(file)


def labels_beside(file: str, end: str) -> str | None:
    """The file beside a list whose name ends with ``end`` and begins as that of the list does."""
    folder, name = os.path.split(file)
    own = os.path.join(folder, f"{name.rpartition('-')[0]}-{end}")
    return own if os.path.isfile(own) else _file_ending_in(folder, end)


def _file_ending_in(folder: str, end: str) -> str | None:
    """The file in a folder that is called ``end``, else the only one whose name ends so."""
    names = [name for name in entries(folder) if name.endswith(end)]
    name = end if end in names else names[0] if len(names) == 1 else None
    return None if name is None else os.path.join(folder, name)


def find_videos(
    table: Table, columns: Sequence[str], participants: Sequence[str], root: str
) -> None:
    """Replace the ids in ``table.paths`` by paths of files below ``root``.

    Raises:
        DataError: not one of the files is there.
    """
    if {"classname", "youtube_id"} <= set(
        columns
    ):  # HACS: segments of whole videos, which Kinetics' are not
        find_named(table, [(f"v_{name}", name) for name in table.paths], root)
    elif "youtube_id" in columns:
        _kinetics(table, root)
    elif "participant_id" in columns and "video_id" in columns:
        _epic(table, participants, root)
    else:
        find_named(table, [(name, _stem(name)) for name in table.paths], root)


def _stem(name: str) -> str:
    """An id without the folder and the suffix that some lists give it."""
    name = os.path.basename(name)
    return os.path.splitext(name)[0] if suffix_of(name) in MEDIA_SUFFIXES else name


def turn_slashes(table: Table, base: str) -> list[str]:
    r"""Write listed paths with / that have \ alone, as Windows writes them, unless they are there.

    Returns:
        What was done, for a message; nothing where nothing was.
    """
    rows = [i for i, path in enumerate(table.paths) if "\\" in path and "/" not in path]
    if not rows or os.sep == "\\" or os.path.exists(os.path.join(base, table.paths[rows[0]])):
        return []
    for row in rows:
        table.paths[row] = table.paths[row].replace("\\", "/")
    return ["paths with \\ are read with /"]


def add_suffixes(table: Table, base: str) -> list[str]:
    """Replace paths without a known suffix that are no folders by those of files of that name.

    Each is looked for in its own folder; a bare name at any depth below ``base``, too. What is not
    found stays as it is, for the index to report.

    Returns:
        What was done, for a message; nothing where nothing was.
    """
    rows = [i for i, path in enumerate(table.paths) if suffix_of(path) not in MEDIA_SUFFIXES]
    folders: dict[str, tuple[set[str], dict[str, str]]] = {}
    found, left = 0, []
    for row in rows:
        folder, name = os.path.split(table.paths[row])
        if folder not in folders:
            folders[folder] = _names_in(folder)
        below, files = folders[folder]
        if name in files and name not in below:
            table.paths[row] = os.path.join(folder, files[name])
            found += 1
        elif name not in below and folder == base:
            left.append(row)
    if left:
        finder = Finder(base, {os.path.basename(table.paths[row]) for row in left})
        for row in left:
            if path := finder.find([os.path.basename(table.paths[row])]):
                table.paths[row] = path
                found += 1
        finder.warn(table.where)
    return [f"{found} of {len(rows)} names without a suffix are found as files"] if found else []


def find_bare(table: Table, base: str) -> list[str]:
    """Replace names of files without a folder by those files, where they lie deeper below ``base``.

    That is how lists for videos in one folder are read with videos in a folder a class. Nothing
    changes where the first of these names is right in ``base``, and what is not found stays.

    Returns:
        What was done, for a message; nothing where nothing was.
    """
    top = base.rstrip(os.sep) or base
    rows = [
        i
        for i, path in enumerate(table.paths)
        if os.path.dirname(path) == top and suffix_of(path) in MEDIA_SUFFIXES
    ]
    if not rows or os.path.exists(table.paths[rows[0]]):
        return []
    finder, found = Finder(base, {_stem(table.paths[row]) for row in rows}), 0
    for row in rows:
        if not os.path.exists(table.paths[row]) and (
            path := finder.find([_stem(table.paths[row])])
        ):
            table.paths[row] = path
            found += 1
    finder.warn(table.where)
    where = f"{found} of {len(rows)} names are found as files in folders below {base or '.'}"
    return [where] if found else []


def is_there(base: str, path: str) -> bool:
    """True for a folder or file below ``base``, and for a media file named without its suffix."""
    place = os.path.join(base, path)
    if os.path.exists(place):
        return True
    folder, name = os.path.split(place)
    return name in _names_in(folder)[1]


def _names_in(folder: str) -> tuple[set[str], dict[str, str]]:
    """The folders in a folder, and its media files by name without suffix, videos before others."""
    below: set[str] = set()
    files: dict[str, str] = {}
    try:
        with os.scandir(folder or os.curdir) as found:
            for entry in sorted(found, key=lambda entry: entry.name):
                stem, suffix = os.path.splitext(entry.name)
                if suffix.lower() not in MEDIA_SUFFIXES:
                    below.add(entry.name)
                elif stem not in files or suffix_of(files[stem]) in IMAGE_SUFFIXES:
                    files[stem] = entry.name
    except OSError:  # that it is missing is for its clips to say
        pass
    return below, files


def find_named(table: Table, stems: Sequence[tuple[str, ...]], root: str) -> None:
    """Replace ``table.paths`` by files below ``root`` that have one of the names of their row.

    Args:
        table: with the paths to be replaced.
        stems: names without suffix that the file of each row may have, the likelier first.
        root: where to look, at any depth.

    Raises:
        DataError: not one of the files is there.
    """
    finder = Finder(root, {stem for names in stems for stem in names})
    finder.check(table.where, len(stems))
    table.paths = [finder.find(names) or finder.guess(names[0]) for names in stems]
    finder.warn(table.where)


def _kinetics(table: Table, root: str) -> None:
    """``<id>_<start:06d>_<end:06d>`` or ``<id>``, anywhere or in a folder called as the class.

    Both are files of the segment alone, so the rows lose their start and end.
    """
    stems: list[tuple[str, ...]] = [(name,) for name in table.paths]
    if table.starts:
        stems = [
            (name,) if start is None or end is None else (_trimmed(name, start, end), name)
            for name, start, end in zip(table.paths, table.starts, table.ends, strict=True)
        ]
        table.starts, table.ends = [], []
    finder = Finder(root, {stem for names in stems for stem in names})
    finder.check(table.where, len(stems))
    labels = table.labels or [""] * len(stems)
    for row, (names, label) in enumerate(zip(stems, labels, strict=True)):
        near = (label, label.replace(" ", "_"))
        path = finder.find(names, near)
        if path is None:
            folder = next((finder.folders[n] for n in near if n in finder.folders), root)
            path = os.path.join(folder, f"{names[0]}.mp4")
        table.paths[row] = path
    finder.warn(table.where)


def _trimmed(name: str, start: float, end: float) -> str:
    return f"{name}_{int(start):06d}_{int(end):06d}"


def _epic(table: Table, participants: Sequence[str], root: str) -> None:
    """``<video_id>`` anywhere; officially ``<participant>/videos/<video_id>.MP4``."""
    # Folders of frames have no time, so that a segment in seconds means nothing in them.
    finder = Finder(root, set(table.paths), folders=False)
    finder.check(table.where, len(table.paths))
    table.paths = [
        finder.find([name]) or os.path.join(root, participant, "videos", f"{name}.MP4")
        for name, participant in zip(table.paths, participants, strict=True)
    ]
    finder.warn(table.where)


class Finder:
    """The files and folders of frames with given names below a folder.

    Args:
        root: where to look, at any depth.
        wanted: names without suffix.
        folders: a folder of images with such a name counts, too, and is then not searched.
    """

    def __init__(self, root: str, wanted: Collection[str], *, folders: bool = True) -> None:
        self.root = root
        self.found: dict[str, list[str]] = {}
        self.several: dict[str, tuple[str, str]] = {}
        self.folders: dict[str, str] = {}
        for parent, below, names in walk(root or os.curdir):
            self.folders.setdefault(os.path.basename(parent), parent)
            others = []
            for name in below:
                if folders and name in wanted and _holds_images(os.path.join(parent, name)):
                    self.found.setdefault(name, []).append(os.path.join(parent, name))
                else:
                    others.append(name)
            below[:] = others
            for name in names:
                stem, suffix = os.path.splitext(name)
                if stem in wanted and suffix.lower() in MEDIA_SUFFIXES:
                    self.found.setdefault(stem, []).append(os.path.join(parent, name))

    def find(self, stems: Iterable[str], near: Collection[str] = ()) -> str | None:
        """The file named by the first of ``stems`` that has one, or None.

        Of several, one in a folder called as one of ``near`` is taken before others, a video
        before others, then the first by path.
        """
        for stem in stems:
            if paths := self.found.get(stem):
                first, *others = sorted(paths, key=lambda path: self._order(path, near))
                if others and self._order(others[0], near)[:2] == self._order(first, near)[:2]:
                    self.several.setdefault(stem, (first, others[0]))
                return first
        return None

    def warn(self, where: str) -> None:
        """Say which names several files have, of which one had to be chosen."""
        if self.several:
            name, (first, second) = next(iter(self.several.items()))
            more = f", and so for {len(self.several) - 1} more" if len(self.several) > 1 else ""
            warnings.warn(
                f"{where}: '{name}' may be {first} or {second}: the first is taken{more}; list "
                "paths instead of names, or give the folder of the right ones as data.root",
                stacklevel=3,
            )

    def guess(self, name: str) -> str:
        """Where a file that was not found is most likely missing: where others are."""
        return os.path.join(self._example[0], name + self._example[1])

    @cached_property
    def _example(self) -> tuple[str, str]:
        """Folder and suffix of the first file that was found."""
        first = min(path for paths in self.found.values() for path in paths)
        is_file = suffix_of(first) in MEDIA_SUFFIXES
        return os.path.dirname(first), os.path.splitext(first)[1] if is_file else ""

    def check(self, where: str, count: int) -> None:
        """Refuse a folder in which nothing at all was found.

        Raises:
            DataError: nothing was.
        """
        if not self.found:
            raise DataError(
                f"none of the {count} clips that {where} lists is below {self.root or '.'}",
                "give the folder of the videos as data.root",
            )

    @staticmethod
    def _order(path: str, near: Collection[str]) -> tuple[bool, bool, str]:
        parent, name = os.path.split(path)
        is_video = os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES
        return os.path.basename(parent) not in near, not is_video, path


def _holds_images(folder: str) -> bool:
    """True where the first visible thing in a folder is an image."""
    try:
        with os.scandir(folder) as found:
            first = next((e.name for e in found if not e.name.startswith(".")), "")
    except OSError:  # the walk will say so
        return False
    return suffix_of(first) in IMAGE_SUFFIXES
