"""Pickles of plain data and arrays, read without running anything that is in them.

A pickle is a program. This reader knows numbers, texts, containers and numpy's arrays, and refuses
whatever else one asks for by name. What is in a file cannot take more memory than a fixed multiple
of its size: arrays are made of bytes that are in it, never of a shape alone.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError

_MOST_BYTES = 1 << 30
_HINT = "annotations are plain data: dictionaries, lists, numbers, texts and numpy arrays"


def read_plain_pickle(file: str | Path) -> Any:
    """The value in a pickle of plain data.

    Texts of Python 2 are read as latin-1.

    Raises:
        DataError: it holds anything else, is damaged, or is larger than 1 GiB.
    """
    size = os.path.getsize(file)
    if size > _MOST_BYTES:
        raise DataError(f"{file} has {size:,} bytes", f"no more than {_MOST_BYTES:,} are read")
    data = Path(file).read_bytes()
    try:
        _check(data)
        return _Plain(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DataError(f"{file}: {error}", _HINT) from error
    except MemoryError as error:
        raise DataError(f"{file}: it asks for more memory than there is", _HINT) from error
    except Exception as error:  # whatever a damaged program makes of the little that it may call
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise DataError(f"{file} is no whole pickle ({reason})", _HINT) from error


def _check(data: bytes) -> None:
    """Refuse what would take memory out of proportion before anything is built.

    Raises:
        UnpicklingError: it does, or is no pickle.
    """
    try:
        for operation, argument, place in pickletools.genops(data):
            # The memo is a table of that length, whatever is in it.
            is_put = operation.name in ("PUT", "BINPUT", "LONG_BINPUT")
            if is_put and int(argument or 0) > int(place or 0):
                raise pickle.UnpicklingError("it asks for more memory than it has bytes")
    except (ValueError, OverflowError) as error:
        raise pickle.UnpicklingError(f"no whole pickle ({str(error)[:120]})") from error


class _Array(np.ndarray):
    """An array that a pickle fills, once, with what fits its shape.

    numpy's own `__setstate__` trusts its arguments, and a damaged pickle can crash it.
    """

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or hasattr(self, "filled"):
            raise pickle.UnpicklingError("an array that is none")
        _, shape, kind, fortran, data = state
        count = _count(shape)
        if not isinstance(kind, _Kind):
            raise pickle.UnpicklingError("an array that is none")
        if isinstance(data, str):  # bytes of Python 2
            data = data.encode("latin1")
        needed = count if kind.code == "O" else count * kind.dtype.itemsize
        wanted = list if kind.code == "O" else bytes
        if not isinstance(data, wanted) or len(data) != needed:
            raise pickle.UnpicklingError("an array of another size than its numbers")
        _check_text(kind, data)
        whole: Any = (1, shape, kind.dtype, bool(fortran), data)
        super().__setstate__(whole)
        self.filled = True


class _Kind:
    """A kind of number: what stands for a `numpy.dtype` while a pickle is read."""

    __slots__ = ("code", "dtype", "size")

    def __init__(self, name: Any, *_: Any) -> None:
        text = name.decode("latin1") if isinstance(name, bytes) else name
        match = _KIND.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise pickle.UnpicklingError(f"an array of kind {str(name)[:40]}")
        self.code, self.size = match[2], match[3]
        self.dtype = np.dtype((match[1] or "=") + match[2] + ("" if match[2] == "O" else match[3]))

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) >= 5 else None
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "=") or any(one is not None for one in state[2:5]):
            raise pickle.UnpicklingError("an array of records")
        if self.code != "O":
            self.dtype = np.dtype(("=" if order == "|" else order) + self.code + self.size)


_KIND = re.compile(r"([<>=|]?)([biufOSU])(\d{1,6})")


def _count(shape: Any) -> int:
    """How many elements an array of a shape has."""
    if not isinstance(shape, tuple) or len(shape) > 8:
        raise pickle.UnpicklingError("an array that is none")
    count = 1
    for side in shape:
        if not isinstance(side, int) or isinstance(side, bool) or not 0 <= side < 2**40:
            raise pickle.UnpicklingError("an array that is none")
        count *= side
    return count


def _check_text(kind: _Kind, data: Any) -> None:
    """Refuse characters that there are not, of which numpy makes texts that crash Python.

    Raises:
        UnpicklingError: there is one.
    """
    if kind.code == "U":
        byteorder = "be" if kind.dtype.byteorder == ">" else "le"
        try:
            data.decode(f"utf-32-{byteorder}")
        except UnicodeDecodeError:
            raise pickle.UnpicklingError("a text that is none") from None


def _reconstruct(marker: Any, shape: Any, code: Any) -> np.ndarray:
    """The empty array that a pickle then fills; of any other shape it would be memory for free."""
    if not isinstance(marker, _Name) or shape != (0,):
        raise pickle.UnpicklingError("an array that is none")
    return np.empty((0,), dtype="u1").view(_Array)


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """An array from its bytes, as protocol 5 has it."""
    if not isinstance(kind, _Kind) or kind.code == "O" or not isinstance(data, (bytes, bytearray)):
        raise pickle.UnpicklingError("an array that is none")
    if len(data) != _count(shape) * kind.dtype.itemsize or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array of another size than its numbers")
    _check_text(kind, bytes(data))
    return np.frombuffer(bytes(data), kind.dtype).reshape(shape, order=order)


def _scalar(kind: Any, data: Any = None) -> Any:
    """A numpy number, or text, from its bytes."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    fine = isinstance(kind, _Kind) and kind.code != "O" and isinstance(raw, bytes)
    if not fine or not raw or len(raw) != kind.dtype.itemsize:
        raise pickle.UnpicklingError("a number that is none")
    _check_text(kind, raw)
    return np.frombuffer(raw, kind.dtype)[0]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes, as Python 3 writes them in pickles of Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes that are none")
    return text.encode("latin1")


def _no_bytes(*given: Any) -> bytes:
    """No bytes at all, of an empty array, as Python 3 writes them in pickles of Python 2."""
    if given:
        raise pickle.UnpicklingError("bytes that are none")
    return b""


def _marker(*_: Any) -> Any:
    """Of `numpy.ndarray`, which is a name in pickles and is never called."""
    raise pickle.UnpicklingError("an array that is none")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _marker,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): OrderedDict,
}
for _core in ("numpy.core", "numpy._core"):
    _KNOWN[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _KNOWN[f"{_core}.multiarray", "scalar"] = _scalar
    _KNOWN[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _Name:
    """A name of the list above, which a pickle may call and not change."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("it changes what it calls")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes what it calls")


class _Plain(pickle.Unpickler):
    """Knows the names above and no others."""

    def find_class(self, module: str, name: str) -> Any:
        found = _KNOWN.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not run")
        return _Name(found)
