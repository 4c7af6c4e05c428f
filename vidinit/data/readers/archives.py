"""Files inside tar archives: how a path names one, and its bytes.

Members of a tar archive are stored whole, one after another, so a byte range of the archive is the
file: nothing is unpacked, and one member is read without the ones before it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from .base import VideoReadError

_MEMBER = re.compile(
    r"(?P<archive>.+?\.tar)::(?P<member>.+)@(?P<offset>\d+)\+(?P<size>\d+)", re.DOTALL
)


class Member(NamedTuple):
    """A file inside an archive: its name there, and which bytes of the archive it is."""

    archive: str
    member: str
    offset: int
    size: int


def member_path(archive: str | Path, member: str, offset: int, size: int) -> str:
    """The path of a member, ``ARCHIVE.tar::MEMBER@OFFSET+SIZE``; `parse` takes it apart again.

    Args:
        archive: an uncompressed archive named ``*.tar``.
        member: the file's name inside it.
        offset: where its content begins in the archive, in bytes (`tarfile.TarInfo.offset_data`).
        size: length of its content in bytes.
    """
    path = f"{archive}::{member}@{offset}+{size}"
    if parse(path) != Member(str(archive), member, offset, size):
        raise ValueError(f"no path can name {member!r} in {archive}: it must be called *.tar")
    return path


def parse(path: str | Path) -> Member | None:
    """The parts of the path of a member; None for the path of a plain file or folder."""
    match = _MEMBER.fullmatch(str(path))
    if match is None:
        return None
    return Member(match["archive"], match["member"], int(match["offset"]), int(match["size"]))


def source(path: str) -> str | bytes:
    """A source that decoders can open: the absolute path of a file, the content of a member.

    FFmpeg takes the ``b`` of a relative path ``b:1.mp4`` for a protocol, and names that are not
    UTF-8 for nothing at all: such a file is read into memory.

    Raises:
        VideoReadError: the file or archive cannot be read, or is shorter than the path says.
    """
    member = parse(path)
    if member is None and _is_utf8(path):
        return os.path.abspath(path)
    try:
        with open(member.archive if member else path, "rb") as file:
            file.seek(member.offset if member else 0)
            content = file.read(member.size if member else -1)
    except OSError as error:
        whose = "its archive" if member else "it"
        raise VideoReadError(path, f"{whose} cannot be read ({error.strerror})") from error
    if member and len(content) < member.size:
        reason = f"its archive ends after {len(content)} of its {member.size} bytes"
        raise VideoReadError(path, reason)
    return content


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
