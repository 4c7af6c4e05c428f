"""The results of earlier checks, by file: one small database in the user's cache folder.

It is a cache: where it cannot be opened, read or written, that is said once and work goes on. The
rollback journal is SQLite's default and stays: the faster write-ahead log shares memory between its
users, which home folders on network drives cannot.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import stat
import time
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import astuple, fields
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from ...files import cache_folder
from ..readers import READERS, archives
from ..rows import Probe

# Raised whenever a probe means something else than before: other formats are other files. In the
# first, decord was named as the reader of files that it gets wrong.
_FORMAT = 2
# Seconds: the longest wait for other processes that write, and between two commits.
_PATIENCE = 30.0
_INTERVAL = 0.5
_AT_A_TIME = 500

_TABLE = """
CREATE TABLE IF NOT EXISTS probes (
    path BLOB, decoders INTEGER, stamp TEXT, probe TEXT, reason TEXT,
    PRIMARY KEY (path, decoders)
) WITHOUT ROWID
"""


class Stamp(NamedTuple):
    """Size and time of a file, which change when it does.

    Attributes:
        size: bytes; of a folder of frames the number of its files.
        changed: when it was last written, in nanoseconds; of a member of an archive: the archive.
    """

    size: int
    changed: int


def file_key(path: str) -> str:
    """The absolute name of a file, the same for all ways to write it; links stay as they are."""
    member = archives.parse(path) if "::" in path else None
    if member is not None:
        member = member._replace(archive=os.path.abspath(member.archive))
        return archives.member_path(*member)
    absolute = os.path.abspath(path)
    return path if absolute == path else absolute  # a million equal texts need not be kept twice


def stamp_of(path: str) -> Stamp:
    """The stamp of a file, a folder of frames or a member of an archive.

    Raises:
        OSError: nothing is there, or it is out of reach, or a device or a pipe.
    """
    member = archives.parse(path) if "::" in path else None
    place = path if member is None else member.archive
    found = os.stat(place)
    if not os.access(place, os.R_OK):
        raise PermissionError(errno.EACCES, "no permission to read it")
    if member is not None:
        return Stamp(member.size, found.st_mtime_ns)
    if stat.S_ISDIR(found.st_mode):
        with os.scandir(path) as entries:
            times = [entry.stat(follow_symlinks=False).st_mtime_ns for entry in entries]
        return Stamp(len(times), max([found.st_mtime_ns, *times]))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "neither a file nor a folder")
    return Stamp(found.st_size, found.st_mtime_ns)


def cache_file() -> Path:
    """Where the cache lies, see `vidinit.files`."""
    return cache_folder() / f"probes-{_FORMAT}.sqlite"


class ProbeCache:
    """The cache, open. Many processes may use it at once; each opens its own.

    What was added is written twice a second and at the end of the ``with`` block, so a check that
    is interrupted, or killed, goes on where it stopped.
    """

    def __init__(self) -> None:
        self._unsaved: list[tuple[bytes, int, str, str | None, str | None]] = []
        self._saved = 0.0
        self._database: sqlite3.Connection | None = None
        self._place = "the cache of probes"
        try:
            file = cache_file()
            self._place = str(file)
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(file, timeout=_PATIENCE)
            self._database.execute(_TABLE)
        except (OSError, RuntimeError, sqlite3.Error) as error:
            self._disable(error)

    def __enter__(self) -> ProbeCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._save()
        if self._database is not None:
            self._database.close()

    def find(self, stamps: Mapping[str, Stamp]) -> dict[str, Probe | str]:
        """The results that are kept of files: a probe, or the reason why there is none.

        Args:
            stamps: by the `file_key` of each file. Other stamps than then are other files.
        """
        found: dict[str, Probe | str] = {}
        keys = list(stamps)
        for start in range(0, len(keys), _AT_A_TIME):
            names = {os.fsencode(key): key for key in keys[start : start + _AT_A_TIME]}
            for path, stamp, probe, reason in self._select(list(names)):
                key = names[path]
                known = _known(probe, reason)
                if stamp == _stamp_text(stamps[key]) and known is not None:
                    found[key] = known
        return found

    def add(self, key: str, stamp: Stamp, result: Probe | str) -> None:
        """Note what was found of a file, in place of what was known."""
        probe, reason = (None, result) if isinstance(result, str) else (_probe_text(result), None)
        self._unsaved.append((os.fsencode(key), decoders(), _stamp_text(stamp), probe, reason))
        if time.monotonic() - self._saved > _INTERVAL:
            self._save()

    def _select(self, names: list[bytes]) -> list[tuple[Any, ...]]:
        if self._database is None:
            return []
        marks = ", ".join("?" * len(names))
        query = f"SELECT path, stamp, probe, reason FROM probes WHERE path IN ({marks})"
        try:
            return self._database.execute(
                f"{query} AND decoders = ?", [*names, decoders()]
            ).fetchall()
        except sqlite3.Error as error:
            self._disable(error)
            return []

    def _save(self) -> None:
        if self._database is not None and self._unsaved:
            try:
                with self._database:
                    self._database.executemany(
                        "INSERT OR REPLACE INTO probes VALUES (?, ?, ?, ?, ?)", self._unsaved
                    )
            except sqlite3.Error as error:
                self._disable(error)
        self._unsaved.clear()
        self._saved = time.monotonic()

    def _disable(self, error: Exception) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        advice = "; delete it" if type(error) is sqlite3.DatabaseError else ""  # a damaged file
        warnings.warn(
            f"what is found of files is not kept: {self._place} cannot be used ({error}){advice}",
            stacklevel=2,
        )


@lru_cache(maxsize=1)
def decoders() -> int:
    """A number for what decodes here: with other versions, other files may be readable."""
    found = []
    for name in ("av", "decord", "decord2", "pillow"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return zlib.crc32(", ".join(found).encode())


def _stamp_text(stamp: Stamp) -> str:
    return f"{stamp.size} {stamp.changed}"  # text, as numbers of 65 bits are no integers to SQLite


def _probe_text(probe: Probe) -> str:
    return json.dumps(astuple(probe))


def _known(probe: Any, reason: Any) -> Probe | str | None:
    """The finding in two columns of a row, which may hold anything; None for what nobody wrote."""
    if probe is None:
        return reason if isinstance(reason, str) and reason else None
    return _parse_probe(probe) if isinstance(probe, str) else None


@lru_cache(maxsize=4096)
def _parse_probe(text: str) -> Probe | None:
    """A probe as it was written; equal ones are one object. None: a damaged text."""
    try:
        values = json.loads(text)
        return Probe(*values) if _is_probe(values) else None
    except (ValueError, TypeError, RecursionError):
        return None


_KINDS = {"int": (int,), "float": (float, int), "str": (str,), "bool": (bool,)}


def _is_probe(values: Any) -> bool:
    """True for a list of the values of a `Probe`, each of its kind and in its range."""
    kinds = [_KINDS[str(field.type)] for field in fields(Probe)]
    if not isinstance(values, list) or len(values) > len(kinds):
        return False
    if any(type(value) not in kind for value, kind in zip(values, kinds, strict=False)):
        return False
    probe = Probe(*values)
    return (
        min(probe.num_frames, probe.height, probe.width) >= 1
        and 0 <= probe.fps < float("inf")
        and probe.rotation in (0, 90, 180, 270)
        and probe.reader in (*READERS, "image", "frames")
        and probe.total >= 0
    )
