"""Is a file as long as its container says? A look at the first bytes of its header."""

from __future__ import annotations

import os

# The header of ASF names the length of the file behind this mark (File Properties Object, ASF
# specification, section 3.2), the identity of the object's size, and the file's identity.
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_HEAD = 1 << 16


def is_cut(container: str, source: str | bytes) -> bool:
    """True for an AVI, Matroska or ASF file that ends before its content does.

    Args:
        container: the name of its format, as FFmpeg has it.
        source: its path, or its content.
    """
    size = len(source) if isinstance(source, bytes) else os.path.getsize(source)
    head = _head(source)
    readers = {"avi": _avi, "matroska,webm": _matroska, "asf": _asf}
    promised = readers[container](head) if container in readers else None
    return promised is not None and promised > size


def _head(source: str | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:_HEAD]
    with open(source, "rb") as file:
        return file.read(_HEAD)


def _avi(head: bytes) -> int | None:
    """Bytes up to the end of the first list of an AVI; a recording that was not ended says 0."""
    length = int.from_bytes(head[4:8], "little")
    return length + 8 if head[:4] == b"RIFF" and 0 < length < 0xFFFFFFFF else None


def _asf(head: bytes) -> int | None:
    """Bytes of an ASF file."""
    at = head.find(_ASF_FILE)
    length = int.from_bytes(head[at + 40 : at + 48], "little") if at >= 0 else 0
    return length or None


def _matroska(head: bytes) -> int | None:
    """Bytes up to the end of the segment; None where that is unknown, as in a live recording."""
    if head[:4] != _EBML:
        return None
    length, at = _variable(head, 4)
    at += length or 0
    if head[at : at + 4] != _SEGMENT:
        return None
    length, at = _variable(head, at + 4)
    return None if length is None else at + length


def _variable(head: bytes, at: int) -> tuple[int | None, int]:
    """A number of variable width, None where all of its bits are set, and the place behind it."""
    if at >= len(head) or not head[at]:
        return None, at
    width = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + width], "big") - (1 << 7 * width)
    return (None if value == (1 << 7 * width) - 1 else value), at + width
