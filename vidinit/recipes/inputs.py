"""From the words of a command line to files."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..data.sources.folders import clips_below
from ..errors import DataError
from ..report.notes import with_messages

STDIN = "-"
"""The word for a list of files on stdin, one a line."""


def given_files(paths: Sequence[str | Path]) -> list[str]:
    """The videos, images and folders of frames that are meant, in the order they are named.

    A folder is searched through. A word that is no path may be a pattern, with ``**`` for folders
    at any depth. What is not there stays in the list: whoever reads it says so.

    Args:
        paths: files, folders, patterns, and ``-`` for such files and folders on stdin.

    Raises:
        DataError: there is none.
    """
    files = [file for path in paths for file in _meant(str(path))]
    if not files:
        words = ", ".join("stdin" if str(path) == STDIN else str(path) for path in paths[:3])
        raise DataError(
            f"there is no video and no image in {words or 'an empty list'}",
            "name files, or folders that hold some",
        )
    return files


def _meant(word: str) -> Iterator[str]:
    if word == STDIN:
        for line in _lines():
            yield from _in(line)
        return
    path = os.path.expanduser(word)
    if os.path.lexists(path) or not glob.has_magic(path):
        yield from _in(path)
        return
    matches = sorted(glob.glob(path, recursive=True))
    # A pattern may match a folder and what is in it.
    yield from dict.fromkeys(file for match in matches for file in _in(match)) or [path]


def _in(path: str) -> list[str]:
    """The clips below a folder, or the file itself."""
    if not os.path.isdir(path):
        return [path]
    return with_messages(lambda: clips_below(path, "any", is_class=False))


def _lines() -> Iterator[str]:
    """The lines of stdin that are not blank, in the encoding of file names."""
    for line in sys.stdin.buffer:
        text = os.fsdecode(line.rstrip(b"\r\n"))
        if text.strip():
            yield text
