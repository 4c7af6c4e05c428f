"""Files of Matlab: what scipy wrote comes back, and what is damaged is one error."""

from __future__ import annotations

import contextlib
import struct
import zlib

import numpy as np
import pytest

from vidinit.data.boxes import plain_mat
from vidinit.data.boxes.plain_mat import read_plain_mat
from vidinit.errors import DataError


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def matrix(kind, shape, *parts, name=b"annot"):
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", *shape))
    return element(14, head + element(1, name) + b"".join(parts))


def saved(tmp_path, *elements, version=b"\x00\x01IM"):
    file = tmp_path / "some.mat"
    file.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + version + b"".join(elements))
    return file


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_wrote_comes_back(tmp_path, compressed):
    scipy_io = pytest.importorskip("scipy.io")
    arrays = {
        kind: np.arange(6).reshape(2, 3).astype(kind)
        for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
    }
    tube = np.array([[(1, "one", arrays["u1"])]], dtype=[(n, object) for n in ("sf", "t", "boxes")])
    cell = np.array([[1, "two"], [tube, np.zeros((0, 0))]], dtype=object)
    file = tmp_path / "some.mat"
    scipy_io.savemat(
        file,
        {"first": np.zeros((2, 2)), **arrays, "text": "a name", "tube": tube, "cell": cell},
        do_compression=compressed,
    )
    for kind, array in arrays.items():
        assert np.array_equal(read_plain_mat(file, kind), array)
    assert read_plain_mat(file, "text") == "a name" and read_plain_mat(file, "none") is None
    (found,) = read_plain_mat(file, "tube")
    assert (found["sf"].item(), found["t"], found["boxes"].tolist()) == (
        *(1, "one"),
        arrays["u1"].tolist(),
    )
    first, second, third, fourth = read_plain_mat(file, "cell")  # down the first column
    assert first.item() == 1 and second[0]["t"] == "one" and third == "two" and fourth.size == 0


def test_the_other_byte_order(tmp_path):
    head = struct.pack(">II8s", 6, 8, struct.pack(">II", 6, 0))
    head += struct.pack(">II8s", 5, 8, struct.pack(">ii", 1, 2))
    head += struct.pack(">II8s", 1, 5, b"annot")
    head += struct.pack(">HHhh", 4, 3, 256, 2)  # four bytes of type 3 stand in their own head
    file = saved(tmp_path, struct.pack(">II", 14, len(head)) + head, version=b"\x01\x00MI")
    assert read_plain_mat(file, "annot").tolist() == [[256, 2]]


NUMBER = matrix(6, (1, 1), element(9, struct.pack("<d", 3.0)))
DEEP = NUMBER
for _ in range(40):
    DEEP = matrix(1, (1, 1), DEEP)


@pytest.mark.parametrize(("elements", "message"), [
    ((NUMBER[:-4],), "cut off"),
    ((struct.pack("<II", 14, 2**31),), "cut off"),
    ((matrix(1, (2**20, 2**10)),), "cut off"),  # a billion cells in no bytes
    ((matrix(6, (2**15, 2**15), element(9, b"")),), "0 numbers in a matrix of 1073741824"),
    ((matrix(6, (-1, -1), element(9, b"")),), "without a kind or a size"),
    ((matrix(17, (1, 1)),), "matrix of kind 17"),  # an object
    ((matrix(5, (1, 1)),), "matrix of kind 5"),  # sparse
    ((matrix(6, (1, 1), element(10, b"12345678")),), "numbers of type 10"),
    ((matrix(1, (1, 1), element(9, b"12345678")),), "type 9 in a cell"),
    ((matrix(2, (1, 1), element(5, struct.pack("<i", 0)), element(1, b"a")),), "without names"),
    ((DEEP,), "nested too deeply"),
    ((element(9, b"12345678"),), "an element of type 9"),
    ((struct.pack("<II", 15, 4) + b"none",), "incorrect header check"),
    ((struct.pack("<II", 15, 20) + zlib.compress(NUMBER)[:20],), "cut off"),
])  # fmt: skip
def test_what_is_wrong(tmp_path, elements, message):
    with pytest.raises(DataError, match=rf"some.mat is no file of Matlab that is read .*{message}"):
        read_plain_mat(saved(tmp_path, *elements), "annot")


def test_heads_that_are_others(tmp_path):
    for version, message in (
        (b"\x00\x02IM", "version 7.3"),
        (b"  IM", "version"),
        (b"    ", "head"),
    ):
        with pytest.raises(DataError, match=message):
            read_plain_mat(saved(tmp_path, NUMBER, version=version), "annot")
    file = tmp_path / "some.mat"
    file.write_bytes(b"IM")
    with pytest.raises(DataError, match="its head is another"):
        read_plain_mat(file, "annot")


def test_a_small_file_cannot_become_a_large_one(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_mat, "_MOST_BYTES", 100_000)
    packed = zlib.compress(matrix(6, (1, 20_000), element(9, b"\0" * 160_000)))
    file = saved(tmp_path, struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(DataError, match="more than 100,000 bytes once unpacked"):
        read_plain_mat(file, "annot")


def test_bytes_that_are_changed_are_an_error_or_other_data(tmp_path):
    rng = np.random.default_rng(0)
    fields = element(5, struct.pack("<i", 8)) + element(1, b"sf".ljust(8, b"\0"))
    whole = saved(tmp_path, matrix(2, (1, 1), fields, NUMBER)).read_bytes()
    assert read_plain_mat(tmp_path / "some.mat", "annot")[0]["sf"].item() == 3.0
    for _ in range(200):
        data = bytearray(whole)
        data[rng.integers(124, len(data))] = rng.integers(256)
        (tmp_path / "some.mat").write_bytes(data)
        with contextlib.suppress(DataError):
            read_plain_mat(tmp_path / "some.mat", "annot")
