"""A store of arrays: what is in it is whole and right, whoever writes it and however that ends."""

from __future__ import annotations

import errno
import os
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidinit.errors import UsageError, VidinitError
from vidinit.pipelines.shared import array_store
from vidinit.pipelines.shared.array_store import ArrayStore, predicted_bytes

FORM: dict[str, Any] = {
    "count": 400,
    "shape": (3, 50),
    "dtype": "float16",
    "fingerprint": {"teacher": "a", "size": (8, 8)},
}

# Writes every second key, each with what follows from it, a few at a time and without a pause.
WRITER = """
import sys
import numpy as np
from vidinit.pipelines.shared import array_store
array_store._FLUSH_BYTES = 4 * 300
store = array_store.ArrayStore(sys.argv[1], **eval(sys.argv[2]))
print("open", flush=True)
for first in range(int(sys.argv[3]), 400, 8):
    keys = np.arange(first, first + 8, 2)
    store.write(keys[keys < 400], np.stack([np.full((3, 50), k) for k in keys[keys < 400]]))
store.close()
"""


def value(key: int) -> np.ndarray:
    return np.full((3, 50), key, np.float16)


def start(folder: Path, first: int) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", WRITER, str(folder), repr(FORM), str(first)]
    writer = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == "open\n"
    return writer


def assert_right(store: ArrayStore) -> np.ndarray:
    keys = np.flatnonzero(store.written(np.arange(400)))
    assert np.array_equal(
        store.read(keys), np.array([value(key) for key in keys]).reshape(-1, 3, 50)
    )
    return keys


def test_values_come_back_and_stay(tmp_path):
    store = ArrayStore(tmp_path / "store", **FORM)
    keys = np.array([[7, 3], [399, 0]])
    assert not store.written(keys).any() and len(store) == 0
    store.write(keys[0], np.stack([value(7), value(3)]))
    assert store.written(keys).tolist() == [[True, True], [False, False]]
    assert np.array_equal(store.read(keys[:1])[0, 1], value(3))
    with pytest.raises(KeyError, match="399"):
        store.read(keys)
    store.write(np.array([3, 4]), np.stack([value(9), value(4)]))  # 3 keeps what it has
    assert len(store) == 3
    store.close()
    with ArrayStore(tmp_path / "store", **FORM) as again:
        assert assert_right(again).tolist() == [3, 4, 7]
    assert predicted_bytes(400, (3, 50), "float16") == 400 * 301
    assert sum(f.stat().st_blocks for f in (tmp_path / "store").iterdir()) * 512 < 40_000


def test_wrong_keys_and_shapes_are_refused(tmp_path):
    store = ArrayStore(tmp_path / "store", **FORM)
    for keys in ([-1], [400]):
        with pytest.raises(IndexError):
            store.written(keys)
    with pytest.raises(ValueError, match="do not fit"):
        store.write([1, 2], value(1)[None])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fingerprint": {"teacher": "b", "size": [8, 8]}}, "teacher is a there and b here"),
        ({"fingerprint": {"size": [8, 8]}}, "teacher is a there and absent here"),
        ({"count": 500}, "keys is 400 there and 500 here"),
        ({"dtype": "float32"}, "dtype is <f2 there and <f4 here"),
    ],
)
def test_another_fingerprint_or_form_is_named(change, told, tmp_path):
    ArrayStore(tmp_path / "store", **FORM).close()
    with pytest.raises(UsageError, match=told):
        ArrayStore(tmp_path / "store", **{**FORM, **change})
    ArrayStore(tmp_path / "store", **FORM).close()


def test_folders_that_are_no_store_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"is no cache: it holds notes\.txt"):
        ArrayStore(tmp_path, **FORM)
    with pytest.raises(VidinitError, match="cannot use the cache"):
        ArrayStore(tmp_path / "notes.txt", **FORM)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    ArrayStore(tmp_path / "store", **FORM).close()
    (tmp_path / "store" / "values.bin").write_bytes(b"short")
    with pytest.raises(UsageError, match="is damaged"):
        ArrayStore(tmp_path / "store", **FORM)


def test_marks_are_written_after_the_values_are_on_disk(tmp_path, monkeypatch):
    store = ArrayStore(tmp_path / "store", **FORM)
    names = {store._file.fileno(): "values", store._mark_file.fileno(): "marks"}
    events: list[str] = []
    write, sync = array_store._write_at, os.fsync

    def noted_write(file: Any, *args: Any) -> None:
        events.append(f"write {names[file.fileno()]}")
        write(file, *args)

    def noted_sync(handle: int) -> None:
        events.append(f"sync {names[handle]}")
        sync(handle)

    monkeypatch.setattr(array_store, "_write_at", noted_write)
    monkeypatch.setattr(os, "fsync", noted_sync)
    store.write([5], value(5)[None])
    store.flush()
    assert events == ["write values", "sync values", "write marks", "sync marks"]


def test_killed_at_any_moment_it_holds_only_what_is_right(tmp_path):
    rng, folder = random.Random(0), tmp_path / "store"
    counts = []
    for _ in range(5):
        writer = start(folder, 0)
        time.sleep(rng.uniform(0, 0.04))
        writer.kill()
        writer.wait()
        with ArrayStore(folder, **FORM) as store:
            counts.append(len(assert_right(store)))
    assert counts == sorted(counts)
    assert start(folder, 0).wait() == 0
    with ArrayStore(folder, **FORM) as store:
        assert assert_right(store).tolist() == list(range(0, 400, 2))


def test_two_processes_write_at_once(tmp_path):
    writers = [start(tmp_path / "store", first) for first in (0, 1)]
    assert [writer.wait() for writer in writers] == [0, 0]
    with ArrayStore(tmp_path / "store", **FORM) as store:
        assert len(assert_right(store)) == 400


def test_a_pickled_store_reads_the_same_files(tmp_path):
    with ArrayStore(tmp_path / "store", **FORM) as store:
        other = pickle.loads(pickle.dumps(store))
        store.write([5], value(5)[None])
        assert not other.written([5])[0], "not on disk yet"
        store.flush()
        assert np.array_equal(other.read([5])[0], value(5))


def test_the_size_is_predicted_and_must_fit(tmp_path, monkeypatch):
    # Scattered values take whole blocks, but never more than all of them do.
    assert predicted_bytes(10**6, (1000,), "float16", expected=100) == 100 * 8192 + 10**6
    assert predicted_bytes(100, (1000,), "float16", expected=90) == 100 * 2000 + 100
    free = array_store.shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(array_store.shutil, "disk_usage", lambda place: free)
    with pytest.raises(VidinitError, match=r"may grow by 120\.\d kB, and 100\.0 kB are free"):
        ArrayStore(tmp_path / "store", **FORM)
    assert not list((tmp_path / "store").iterdir())
    ArrayStore(tmp_path / "store", **FORM, expected=3).close()


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    store = ArrayStore(tmp_path / "store", **FORM)
    store.write([1, 2], np.stack([value(1), value(2)]))
    write = array_store._write_at

    def full(file: Any, place: int, data: bytes) -> None:
        if len(data) > 1:
            write(file, place, data[:20])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, place, data)

    monkeypatch.setattr(array_store, "_write_at", full)
    with pytest.raises(
        VidinitError, match=r"takes no more of the cache .*No space left.*B are free"
    ):
        store.write([3, 4], np.stack([value(3), value(4)]))
    store.close()
    monkeypatch.undo()
    with ArrayStore(tmp_path / "store", **FORM) as again:
        assert assert_right(again).tolist() == [1, 2]
        again.write([3], value(3)[None])
        assert assert_right(again).tolist() == [1, 2, 3]


def test_a_file_that_may_not_grow_is_one_error(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(VidinitError, match="takes no more of the cache"):
            ArrayStore(tmp_path / "store", **FORM)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    ArrayStore(tmp_path / "store", **FORM).close()
