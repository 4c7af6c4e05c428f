"""Arrays of one shape by integer key, kept in a folder: what is costly to compute and used again.

A folder holds ``store.json`` (the form of the arrays and what their values depend on),
``values.bin`` (all arrays by key, a sparse file: what is not written takes no room) and
``written.bin`` (a byte for each key). A key is marked as written only after its values have
reached the disk, so a kill at any moment, or a power cut, costs what was written last and leaves
nothing wrong.

Numpy's memory maps are for reading only. Where the disk is full, writing through one ends the
process by SIGBUS: it is a fault of memory, not a call that returns an error which could be said.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from ...errors import UsageError, VidinitError

# Values and marks go to the disk after this many bytes or seconds, whichever comes first.
_FLUSH_BYTES = 32 << 20
_FLUSH_SECONDS = 10.0
# What file systems give out: a value that stands alone takes whole blocks.
_BLOCK = 4096
# The disk takes no more: it is full, a quota is, or the file has the largest size there is.
_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


def predicted_bytes(
    count: int, shape: Sequence[int], dtype: Any, expected: int | None = None
) -> int:
    """Largest size on disk of a store, in bytes.

    Args:
        count: number of keys.
        shape: of one array.
        dtype: of the arrays, as numpy names it.
        expected: how many keys will be written at most; None for all. These may lie scattered, and
            then each takes whole blocks of the disk.
    """
    one = math.prod(shape) * np.dtype(dtype).itemsize
    everything = count * one
    if expected is not None:
        everything = min(everything, expected * (one // _BLOCK + 2) * _BLOCK)
    return everything + count


def size_text(size: float) -> str:
    """A number of bytes for people: ``12.3 MB``."""
    unit, divisor = ("GB", 1e9) if size >= 1e9 else ("MB", 1e6) if size >= 1e6 else ("kB", 1e3)
    return f"{size / divisor:.1f} {unit}"


def check_room(folder: Path, size: float) -> None:
    """Refuse what several stores below a folder would take if its disk has not so much free.

    Args:
        folder: need not be there.
        size: of all of them, in bytes; what they hold already is taken off.

    Raises:
        VidinitError: naming both sizes.
    """
    there = [file.stat() for file in folder.rglob("values.bin")] if folder.is_dir() else []
    more = size - sum(getattr(status, "st_blocks", 0) * 512 for status in there)
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    _check_free(folder, more, place)


def _check_free(folder: Path, more: float, place: Path) -> None:
    """Raise VidinitError where a folder may grow by more bytes than are free at a place."""
    free = shutil.disk_usage(place).free
    if more > free:
        raise VidinitError(
            f"{folder} may grow by {size_text(more)}, and {size_text(free)} are free on its disk",
            "name a folder on a larger disk",
        )


class ArrayStore:
    """Arrays of one shape and dtype by key in [0, count), in files that are mapped into memory.

    Opened again, it goes on with what is there. Several processes may have it open and write
    different keys; each opens it for itself or gets it pickled (a forked copy may only read). Of
    the keys that others write, one sees those whose values are on disk already.

    Args:
        folder: of this store alone; made if it is not there.
        count: number of keys.
        shape: of one array.
        dtype: as numpy names it.
        fingerprint: whatever the values depend on, as plain data with a name for each part. It
            must be that of the folder.
        expected: how many keys will be written at most, for the prediction of the size.

    Raises:
        UsageError: the folder holds something else, or values of another fingerprint.
        VidinitError: the predicted size is more than what the disk has free.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        count: int,
        shape: Sequence[int],
        dtype: Any,
        fingerprint: Mapping[str, Any],
        expected: int | None = None,
    ) -> None:
        if count < 1:
            raise ValueError(f"a store has at least one key, not {count}")
        self.folder, self.count, self.shape = Path(folder), count, tuple(shape)
        self.dtype, self.expected = np.dtype(dtype), expected
        # As JSON gives it back: tuples are lists then, and keys are texts.
        self.fingerprint = json.loads(json.dumps(dict(fingerprint)))
        self._size = math.prod(self.shape) * self.dtype.itemsize
        self._unmarked: set[int] = set()  # keys whose values may not have reached the disk
        self._flushed = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._is_new():
                self._check_room()
                _put_once(self._form_file, json.dumps(self._form(), indent=1).encode())
            self._check_form()
            self._check_room()
            self._make_files()
            self._file = (self.folder / "values.bin").open("r+b", buffering=0)
            self._mark_file = (self.folder / "written.bin").open("r+b", buffering=0)
        except OSError as error:
            raise self._refused(error) from error
        whole = (count, *self.shape)
        self._values = np.memmap(self._file, self.dtype, mode="r", shape=whole)
        self._marks = np.memmap(self._mark_file, np.uint8, mode="r", shape=(count,))

    def __reduce__(self) -> tuple[Any, ...]:
        form = {"count": self.count, "shape": self.shape, "dtype": self.dtype.str}
        return _open, (self.folder, {**form, "fingerprint": self.fingerprint, "expected": 0})

    def __len__(self) -> int:
        """How many keys are written."""
        return int(np.count_nonzero(self._marks)) + sum(not self._marks[k] for k in self._unmarked)

    def written(self, keys: Any) -> np.ndarray:
        """True for keys that can be read, bool of the shape of ``keys``."""
        keys = self._checked(keys)
        found: np.ndarray = np.asarray(self._marks[keys]) != 0
        if self._unmarked and not found.all():
            own = [int(key) in self._unmarked for key in keys.reshape(-1)]
            found = found | np.array(own, dtype=bool).reshape(keys.shape)
        return found

    def read(self, keys: Any) -> np.ndarray:
        """The arrays of some keys, a copy: (*keys.shape, *shape).

        Raises:
            KeyError: one of them is not written.
        """
        keys = self._checked(keys)
        found = self.written(keys)
        if not found.all():
            raise KeyError(f"key {int(keys[~found].reshape(-1)[0])} of {self.folder} is missing")
        return np.asarray(self._values[keys])

    def write(self, keys: Any, values: np.ndarray) -> None:
        """Set the arrays of some keys; one that is written already keeps what it has.

        Args:
            keys: int (N,).
            values: (N, *shape), converted to the store's dtype.

        Raises:
            VidinitError: the disk is full. All that was written before stays.
        """
        keys = self._checked(keys)
        values = np.ascontiguousarray(values, dtype=self.dtype)
        if values.shape != (*keys.shape, *self.shape) or keys.ndim != 1:
            raise ValueError(f"{values.shape} do not fit {keys.shape} keys of {self.shape}")
        # Never in place: a kill between two halves of a value would leave it marked, and torn.
        new = ~self.written(keys)
        keys, values = keys[new], values[new]
        try:
            for key, value in zip(keys, values, strict=True):
                _write_at(self._file, int(key) * self._size, value.tobytes())
        except OSError as error:
            raise self._refused(error) from error
        self._unmarked.update(keys.tolist())
        overdue = time.monotonic() - self._flushed > _FLUSH_SECONDS
        if overdue or len(self._unmarked) * self._size > _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Bring values to the disk, then mark them as written, then bring the marks there.

        Raises:
            VidinitError: the disk does not take them; they are not marked then.
        """
        self._flushed = time.monotonic()
        if not self._unmarked:
            return
        try:
            os.fsync(self._file.fileno())
            for key in sorted(self._unmarked):
                _write_at(self._mark_file, key, b"\x01")
            os.fsync(self._mark_file.fileno())
        except OSError as error:
            raise self._refused(error) from error
        self._unmarked.clear()

    def close(self) -> None:
        """Flush, and let go of the files."""
        try:
            self.flush()
        finally:
            self._file.close()
            self._mark_file.close()

    def __enter__(self) -> ArrayStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, keys: Any) -> np.ndarray:
        keys = np.asarray(keys)
        if keys.size and not 0 <= keys.min() <= keys.max() < self.count:
            raise IndexError(f"keys are in [0, {self.count}), not {keys.min()} to {keys.max()}")
        return keys.astype(np.int64, copy=False)

    def _form(self) -> dict[str, Any]:
        return {
            "keys": self.count,
            "shape": list(self.shape),
            "dtype": self.dtype.str,
            **self.fingerprint,
        }

    @property
    def _form_file(self) -> Path:
        return self.folder / "store.json"

    def _is_new(self) -> bool:
        """True where the folder is empty and may become the store."""
        if self._form_file.is_file():
            return False
        if others := sorted(p.name for p in self.folder.iterdir() if p.name[0] != "."):
            raise UsageError(
                f"{self.folder} is no cache: it holds {others[0]}", "name an empty folder"
            )
        return True

    def _check_form(self) -> None:
        """Compare the folder with what is wanted."""
        try:
            there = json.loads(self._form_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"{self._form_file} is damaged", f"delete {self.folder}") from error
        here = self._form()
        differing = [key for key in {**here, **there} if here.get(key) != there.get(key)]
        if differing:
            differences = ", ".join(
                f"{k} is {_short(there.get(k))} there and {_short(here.get(k))} here"
                for k in differing[:3]
            )
            raise UsageError(
                f"{self.folder} was written for something else: {differences}",
                "name another folder, or delete that one",
            )

    def _check_room(self) -> None:
        if (self.folder / "written.bin").is_file():
            status = (self.folder / "values.bin").stat()
            present = getattr(status, "st_blocks", 0) * 512 + self.count
        else:
            present = 0
        wanted = predicted_bytes(self.count, self.shape, self.dtype, self.expected)
        _check_free(self.folder, wanted - present, self.folder)

    def _make_files(self) -> None:
        """Values first: where there are marks, the file of the values has its size."""
        values, marks = self.folder / "values.bin", self.folder / "written.bin"
        marked = marks.is_file()
        with values.open("ab") as file:
            size = file.seek(0, os.SEEK_END)
            if marked and (size, marks.stat().st_size) != (self.count * self._size, self.count):
                raise UsageError(f"{self.folder} is damaged", "delete it")
            if not marked:
                file.truncate(self.count * self._size)
        if not marked:
            # Real zeros, no hole: marking a value as written must not need room.
            _put_once(marks, bytes(self.count))

    def _refused(self, error: OSError) -> VidinitError:
        if error.errno in _FULL:
            free = shutil.disk_usage(self.folder).free if self.folder.is_dir() else 0
            return VidinitError(
                f"the disk takes no more of the cache {self.folder}: {error.strerror}, "
                f"{size_text(free)} are free",
                "make room and start again: what was written stays",
            )
        return VidinitError(f"cannot use the cache {self.folder}: {error.strerror or error}")


def _open(folder: Path, form: dict[str, Any]) -> ArrayStore:
    return ArrayStore(folder, **form)


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _write_at(file: Any, place: int, data: bytes) -> None:
    """Write all bytes at a place; a disk that fills up may take some of them first."""
    file.seek(place)
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _put_once(path: Path, data: bytes) -> None:
    """Make a file with its contents, all at once; where another process was first, keep that."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links: here the last one wins
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
