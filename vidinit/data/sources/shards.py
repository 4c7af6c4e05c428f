"""Webdataset shards: tar archives whose members with one key make up a sample.

The key of a member is its name up to the first dot after the folder. Beside ``KEY.mp4`` stands its
label: ``KEY.cls`` with an id, else ``KEY.txt`` with a name, else ``KEY.json`` with an object that
has a ``"label"``. Nothing is unpacked: a row names the bytes of its video in the archive.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import re
import tarfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...errors import DataError, UsageError
from ..readers.archives import member_path
from ..rows import IMAGE_SUFFIXES
from .access import SUFFIXES, entries, require_existing, shown, suffix_of
from .classes import NoLabelsError
from .options import SourceOptions
from .table import Table

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_COMPRESSED = re.compile(r"\.(?:tar\.\w+|tgz|tbz2?|txz)$")
_MOST_SHARDS = 100_000
_LABELS = ("cls", "txt", "json")
_LONGEST_LABEL = 1_000_000  # bytes; what is larger is something else


def shard_names(path: str, options: SourceOptions) -> Table | None:
    """The samples of one archive, or of those that a brace pattern names.

    ``shard-{0000..0009}.tar`` are ten; the zeros in front are kept.

    Raises:
        UsageError: a pattern counts down or too far, an archive does not exist or is compressed.
        DataError: see `_read_shards`.
    """
    if _RANGE.search(path) and not os.path.exists(path):
        archives = [require_existing(name) for name in _expand(path)]
    elif suffix_of(path) == ".tar" or _COMPRESSED.search(path):
        archives = [require_existing(path)]
    else:
        return None
    return _read_shards(path, archives, options)


def shard_folder(folder: str, options: SourceOptions) -> Table | None:
    """The samples of all archives directly in a folder; errors as of `shard_names`."""
    archives = archives_in(folder)
    return _read_shards(folder, archives, options) if archives else None


def archives_in(folder: str) -> list[str]:
    """The tar archives directly in a folder, sorted."""
    return [os.path.join(folder, name) for name in entries(folder) if suffix_of(name) == ".tar"]


def _expand(path: str) -> list[str]:
    match = _RANGE.search(path)
    if match is None:
        return [path]
    first, last = int(match[1]), int(match[2])
    if not first <= last < first + _MOST_SHARDS:
        raise UsageError(f"{path} counts from {first} to {last}", "count up, as {0000..0009}")
    names = (f"{path[: match.start()]}{i:0{len(match[1])}d}" for i in range(first, last + 1))
    return [name + rest for name in names for rest in _expand(path[match.end() :])]


@dataclass
class _Sample:
    """The members with one key."""

    media: list[tuple[str, int, int]] = field(default_factory=list)
    labels: dict[str, tarfile.TarInfo] = field(default_factory=dict)


def _read_shards(where: str, archives: list[str], options: SourceOptions) -> Table:
    """The rows of archives, in the order of their members.

    Raises:
        UsageError: an archive is compressed.
        DataError: one is no tar archive, or a sample has no label.
    """
    table = Table(where)
    for archive in archives:
        if _COMPRESSED.search(archive) or _is_gzip(archive):
            raise UsageError(
                f"{archive} is compressed, so that no clip in it can be read on its own",
                "uncompress it to a plain .tar, as gunzip does",
            )
        try:
            with tarfile.open(archive, "r:") as tar:
                _read(archive, tar, table, options)
        except OSError as error:
            raise UsageError(f"{archive} cannot be read: {error.strerror or error}") from error
        # What damaged headers make of Python's own module, besides its own errors.
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise DataError(f"{archive} cannot be read as a tar archive ({error})") from error
    return table


def _is_gzip(archive: str) -> bool:
    with open(archive, "rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _read(archive: str, tar: tarfile.TarFile, table: Table, options: SourceOptions) -> None:
    samples: dict[str, _Sample] = {}
    suffixes = SUFFIXES[options.kinds]
    for member in _members(archive, tar):
        folder, name = posixpath.split(member.name)
        stem, _, extension = name.partition(".")
        if not stem or not member.isreg():
            continue
        sample = samples.setdefault(posixpath.join(folder, stem), _Sample())
        kind = extension.lower()
        if suffix_of(name) in suffixes:
            sample.media.append((member.name, member.offset_data, member.size))
        elif kind in _LABELS and options.labeled:
            sample.labels[kind] = member
    for key, sample in samples.items():
        media = _without_stills(sample.media)
        if not media:
            continue
        label = _label(archive, tar, key, sample) if options.labeled else ""
        for name, offset, size in media:
            table.paths.append(member_path(archive, name, offset, size))
            table.labels.append(label)


def _members(archive: str, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of an archive; a ``UserWarning`` says when they end before its end mark.

    Raises:
        DataError: a member says that it has a size that none has.
    """
    count, size = 0, os.path.getsize(archive)
    with contextlib.suppress(tarfile.ReadError):  # it ends inside a member
        for member in tar:
            if not 0 <= member.size <= size:
                raise DataError(
                    f"{archive}: member {count + 1}, '{shown(member.name)}', says that it has "
                    f"{member.size:,} bytes, in an archive of {size:,}",
                    "the archive is cut off or damaged: make it anew",
                )
            count += 1
            yield member
    with open(archive, "rb") as stream:
        stream.seek(tar.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            warnings.warn(f"{archive} is cut off or damaged after {count} members", stacklevel=2)


def _without_stills(media: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """The videos of a sample; its images if it has none, for beside a video they are previews."""
    videos = [entry for entry in media if suffix_of(entry[0]) not in IMAGE_SUFFIXES]
    return videos or media


def _label(archive: str, tar: tarfile.TarFile, key: str, sample: _Sample) -> str:
    for kind in _LABELS:
        if kind in sample.labels:
            break
    else:
        raise NoLabelsError(
            f"{archive}: sample '{shown(key)}' has no label",
            f"beside its video expected {key}.cls, {key}.txt or {key}.json",
        )
    where = f"{archive}: {shown(key)}.{kind}"
    if sample.labels[kind].size > _LONGEST_LABEL:
        raise DataError(
            f"{where} has {sample.labels[kind].size:,} bytes", "expected a class name or id"
        )
    stream = tar.extractfile(sample.labels[kind])
    assert stream is not None  # it is a regular file
    try:
        text = stream.read().decode("utf-8-sig").strip()
        value = json.loads(text)["label"] if kind == "json" else text
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{where} holds no label", 'text, or json with a "label"') from error
    text = "|".join(map(str, value)) if isinstance(value, list) else str(value)
    if not text:
        raise DataError(f"{where} is empty", "expected a class name or id")
    return text
