"""Folders of clips, with a sub-folder per class or without classes, and single files.

What is a clip below a folder: every file of the wanted kind, and every folder of frames. A folder
of frames has no sub-folders and at least two images, all numbered with one prefix and one suffix
(``img_00001.jpg img_00002.jpg``, ``1.png 2.png``). A class folder itself is never one, so images
directly in it are stills. With kinds ``image`` there are no folders of frames: all images are
stills. Hidden files and folders, and files that are neither videos nor images, are ignored.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator

from ...errors import DataError, UsageError
from .access import MEDIA_NOUN, MEDIA_SUFFIXES, SUFFIXES, Kinds, entries, subfolders, suffix_of
from .classes import NoLabelsError
from .options import SourceOptions
from .table import Table


def single_clip(file: str, options: SourceOptions) -> Table | None:
    """One video or image, which has no label.

    Raises:
        UsageError: a label is wanted, or a file of the other kind.
    """
    if suffix_of(file) not in MEDIA_SUFFIXES:
        return None
    if options.labeled:
        raise UsageError(
            f"{file} is one clip without a label",
            "pass a folder with a sub-folder per class, or a list of 'path label' lines",
        )
    if suffix_of(file) not in SUFFIXES[options.kinds]:
        raise UsageError(f"{file} is no {MEDIA_NOUN[options.kinds]}")
    return Table(file, paths=[file])


def unlabeled_folder(folder: str, options: SourceOptions) -> Table | None:
    """Every clip at any depth below a folder, where labels are not wanted."""
    if options.labeled:
        return None
    clips = clips_below(folder, options.kinds, is_class=False)
    return Table(folder, paths=clips) if clips else None


def class_folders(folder: str, options: SourceOptions) -> Table | None:
    """The clips below each sub-folder that holds any, with its name as their label."""
    if not options.labeled:
        return None
    table = Table(folder, names_only=True)
    for name in subfolders(folder):
        clips = clips_below(os.path.join(folder, name), options.kinds, is_class=True)
        table.paths += clips
        table.labels += [name] * len(clips)
    return table if table.paths else None


def no_clips(folder: str, options: SourceOptions) -> DataError:
    """The error for a folder in which no form of data was found: says what is missing."""
    noun = MEDIA_NOUN[options.kinds]
    if not options.labeled:
        return DataError(f"no {noun} file in {folder}")
    names = entries(folder)
    if any(suffix_of(name) in SUFFIXES[options.kinds] for name in names):
        return NoLabelsError(
            f"{folder} holds {noun} files but no class sub-folders",
            "labels come from sub-folders, or pass a list file of 'path label' lines",
        )
    if clips_below(folder, options.kinds, is_class=True):
        return NoLabelsError(
            f"{folder} holds folders of frames but no class folders around them",
            "expected CLASS/CLIP/img_00001.jpg, or pass a list file of 'folder label' lines",
        )
    lists = [name for name in names if suffix_of(name) in (".csv", ".tsv", ".json")]
    hint = "expected one sub-folder of them per class"
    if lists:
        hint = f"to read a list, pass it: {os.path.join(folder, lists[0])}"
    return DataError(f"no {noun} file in {folder}", hint)


def walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Visible folders below and with ``folder``: path, names of sub-folders, names of files.

    Each folder is listed once; links to folders are followed, but not in circles. The caller may
    take sub-folders out of the list, and they are not entered. A folder that cannot be looked into
    is left out, with a ``UserWarning``.
    """
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=_warn, followlinks=True):
        real = os.path.realpath(parent)
        # A link to a folder above would be walked for ever.
        folders[:] = [] if real in seen else [n for n in folders if not n.startswith(".")]
        if real not in seen:
            seen.add(real)
            yield parent, folders, [name for name in names if not name.startswith(".")]


def _warn(error: OSError) -> None:
    reason = f"{error.filename} cannot be looked into ({error.strerror})"
    warnings.warn(f"{reason}: what is in it is left out", stacklevel=2)


def clips_below(folder: str, kinds: Kinds, *, is_class: bool) -> list[str]:
    """The clips below a folder, sorted by the names on their paths.

    Args:
        folder: where to look.
        kinds: which files count.
        is_class: it is a class folder, and so never itself a folder of frames.
    """
    suffixes = SUFFIXES[kinds]
    found: list[str] = []
    for parent, folders, names in walk(folder):
        if kinds != "image" and not folders and not (is_class and parent == folder):
            media = [name for name in names if suffix_of(name) in MEDIA_SUFFIXES]
            if are_frames(media):
                found.append(parent)
                continue
        found += (os.path.join(parent, name) for name in names if suffix_of(name) in suffixes)
    return sorted(found, key=lambda path: path.split(os.sep))


def are_frames(names: list[str]) -> bool:
    """True for the frames of one clip: two or more images, numbered, with one prefix."""
    start = end = None
    for name in names:
        stem, suffix = os.path.splitext(name)
        prefix = stem.rstrip("0123456789")
        if prefix == stem or suffix.lower() not in SUFFIXES["image"]:
            return False
        if start is None:
            start, end = prefix, suffix
        elif (prefix, suffix) != (start, end):
            return False
    return len(names) > 1
