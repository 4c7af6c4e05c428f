"""Files of Matlab, version 5 to 7: numbers, texts, cells and structs, and nothing else.

scipy reads more of them, and crashes on some that are damaged. What is in a file takes no more
memory than a fixed multiple of its size once it is unpacked, which is bounded.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError

_MOST_BYTES = 1 << 30
_DEEPEST = 16
_MATRIX, _COMPRESSED = 14, 15
# By the number of their type in the format.
_NUMBERS = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8"},
    **{13: "u8", 16: "u1", 17: "u2", 18: "u4"},
}
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)
_HINT = "save it with -v7: numbers, texts, cells and structs are read"


class _WrongError(Exception):
    """Something in a file is not as the format has it."""


def read_plain_mat(file: str | Path, name: str) -> Any:
    """The variable of a name.

    Returns:
        An array of numbers as numpy's, with as many dimensions; a text as a str; a cell array as a
        list, and a struct array as a list of dictionaries, both in the order of memory (the first
        index changes first). None where there is no such variable.

    Raises:
        DataError: it is damaged, of another version, or holds something else.
    """
    data = Path(file).read_bytes()
    try:
        return _variable(data, name)
    except (_WrongError, struct.error, zlib.error, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is no file of Matlab that is read ({error})", _HINT) from error


def _variable(data: bytes, name: str) -> Any:
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or len(data) < 128:
        raise _WrongError("its head is another")
    (version,) = struct.unpack(f"{order}H", data[124:126])
    if version != 0x0100:
        raise _WrongError("version 7.3" if version == 0x0200 else f"version {version:#x}")
    room = _MOST_BYTES
    for kind, content in _elements(memoryview(data)[128:], order):
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            whole = unpacker.decompress(content, room)
            if not unpacker.eof:
                raise _WrongError(f"cut off, or more than {_MOST_BYTES:,} bytes once unpacked")
            room -= len(whole)
            kind, content = next(_elements(memoryview(whole), order), (0, memoryview(b"")))
        if kind != _MATRIX:
            raise _WrongError(f"an element of type {kind}")
        found, value = _matrix(content, order, wanted=name)
        if found == name:
            return value
    return None


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and content of the elements one after the other."""
    place = 0
    while place < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if kind >> 16:  # type and size in four bytes, and the content in the next four
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            if size > 4:
                raise _WrongError("an element that is larger than its place")
        if start + size > len(data):
            raise _WrongError("cut off")
        yield kind, data[start : start + size]
        small = start == place + 4
        place = place + 8 if small else start + size + (0 if kind == _COMPRESSED else -size % 8)


def _matrix(
    data: memoryview, order: str, *, wanted: str | None = None, depth: int = 0
) -> tuple[str, Any]:
    """Name and value of a matrix element; without its value where another name is wanted."""
    if depth > _DEEPEST:
        raise _WrongError("nested too deeply")
    if not len(data):  # an empty cell, or field
        return "", np.zeros((0, 0))
    parts = _elements(data, order)
    flags = _numbers(_next(parts), order)
    shape = tuple(int(side) for side in _numbers(_next(parts), order))
    name = bytes(_next(parts)[1]).decode("latin-1")
    if wanted is not None and name != wanted:
        return name, None
    if not len(flags) or len(shape) < 2 or min(shape) < 0:
        raise _WrongError("a matrix without a kind or a size")
    kind = int(flags[0]) & 0xFF
    count = 1
    for side in shape:
        count *= side
    if kind in (_CELL, _STRUCT):
        names = _field_names(parts, order) if kind == _STRUCT else [""]
        # Each has eight bytes at least, so that a size alone makes nothing.
        if count * len(names) * 8 > len(data):
            raise _WrongError("cut off")
        values = [{field: _inner(parts, order, depth) for field in names} for _ in range(count)]
        return name, values if kind == _STRUCT else [value[""] for value in values]
    if kind not in _NUMERIC and kind != _CHAR:
        raise _WrongError(f"a matrix of kind {kind}")
    if int(flags[0]) & 0x0800:
        raise _WrongError("complex numbers")
    content = next(parts, (1, memoryview(b"")))
    numbers = _numbers(content, order)
    if kind == _CHAR:
        if content[0] in (1, 2, 16):
            return name, bytes(content[1]).decode("utf-8" if content[0] == 16 else "latin-1")
        return name, "".join(map(chr, numbers.tolist()))
    if len(numbers) != count:
        raise _WrongError(f"{len(numbers)} numbers in a matrix of {count}")
    return name, numbers.reshape(shape, order="F")


def _field_names(parts: Iterator[tuple[int, memoryview]], order: str) -> list[str]:
    lengths = _numbers(_next(parts), order)
    text = bytes(_next(parts)[1])
    size = int(lengths[0]) if len(lengths) else 0
    if not 0 < size <= 256:
        raise _WrongError("fields without names")
    cut = (text[i : i + size] for i in range(0, len(text), size))
    return [name.partition(b"\0")[0].decode("latin-1") for name in cut]


def _inner(parts: Iterator[tuple[int, memoryview]], order: str, depth: int) -> Any:
    kind, content = _next(parts)
    if kind != _MATRIX:
        raise _WrongError(f"an element of type {kind} in a cell or struct")
    return _matrix(content, order, depth=depth + 1)[1]


def _numbers(element: tuple[int, memoryview], order: str) -> np.ndarray:
    kind, content = element
    if kind not in _NUMBERS:
        raise _WrongError(f"numbers of type {kind}")
    return np.frombuffer(content, order + _NUMBERS[kind])


def _next(parts: Iterator[tuple[int, memoryview]]) -> tuple[int, memoryview]:
    found = next(parts, None)
    if found is None:
        raise _WrongError("cut off")
    return found
