"""Access to the files that describe data: text, json, and what is in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ...errors import DataError, UsageError
from ..rows import IMAGE_SUFFIXES, VIDEO_SUFFIXES

Kinds = Literal["video", "image", "any"]

MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES
SUFFIXES: dict[Kinds, frozenset[str]] = {
    "video": VIDEO_SUFFIXES,
    "image": IMAGE_SUFFIXES,
    "any": MEDIA_SUFFIXES,
}
MEDIA_NOUN: dict[Kinds, str] = {"video": "video", "image": "image", "any": "video or image"}


def suffix_of(name: str) -> str:
    """The suffix of a file name in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()


def require_existing(path: str) -> str:
    """``path`` itself, if something is there.

    Raises:
        UsageError: nothing is.
    """
    if not os.path.exists(path):
        raise UsageError(f"{path} does not exist", "check the path of the data")
    return path


# What annotations come in that is no text, by suffix.
_BINARY = frozenset((".pkl", ".pickle", ".mat", ".npy", ".npz", ".h5", ".hdf5", ".xls", ".xlsx"))
_SHOWN = 60


def shown(text: str) -> str:
    """A text for a message: in one line, its middle left out where it is long."""
    text = " ".join(text[: 20 * _SHOWN].split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 20]}...{text[-17:]}"


def text_lines(file: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a UTF-8 text file, with their line ends.

    Raises:
        UsageError: it cannot be opened, or holds no text.
    """
    hint = "a list has one clip a line, in UTF-8"
    if (suffix := suffix_of(file)) in _BINARY:
        hint = f"annotations in {suffix} are not read: write them as a csv with path and label"
    try:
        with open(file, encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if "\0" in line:
                    raise UsageError(f"{file} is no text file", hint)
                yield number, line
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no text file", hint) from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error


def content_lines(file: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a list, stripped, without blank lines and # comments."""
    for number, line in text_lines(file):
        line = line.strip()
        if line and not line.startswith("#"):
            yield number, line


_LIST_OF_CLIPS = "a list of clips is a json list of objects with a path and a label"


def read_json(file: str) -> Any:
    """The value in a json file.

    Raises:
        UsageError: it cannot be opened, or holds no text.
        DataError: it is not valid json.
    """
    try:
        return json.loads("".join(line for _, line in text_lines(file)))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}: no valid json ({error.msg})") from error
    except RecursionError as error:
        raise DataError(f"{file}: json that is nested too deeply", _LIST_OF_CLIPS) from error
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{file}: json with a number that is too large", _LIST_OF_CLIPS) from error


def entries(folder: str) -> list[str]:
    """Names of what is in a folder, sorted.

    Raises:
        UsageError: it cannot be looked into.
    """
    try:
        return sorted(os.listdir(folder or os.curdir))
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}") from error


def subfolders(folder: str) -> list[str]:
    """Names of the visible sub-folders, sorted.

    Raises:
        UsageError: the folder cannot be looked into.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(e.name for e in found if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}") from error


def find_nearby(folder: str, name: str) -> str | None:
    """The folder with an entry ``name`` that is in or next to ``folder``, or None.

    Looked at in this order: the folder, its sub-folders, its parent, the parent's sub-folders.
    """
    for base in (folder, str(Path(folder).absolute().parent)):
        for candidate in (base, *(os.path.join(base, sub) for sub in subfolders(base))):
            if os.path.exists(os.path.join(candidate, name)):
                return candidate
    return None
