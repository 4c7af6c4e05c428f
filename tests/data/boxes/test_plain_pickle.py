"""Pickles are programs: what of them is run, and what is refused."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest

from vidinit.data.boxes.plain_pickle import read_plain_pickle
from vidinit.errors import DataError


def saved(tmp_path, data):
    file = tmp_path / "some.pkl"
    file.write_bytes(data)
    return file


class Attack:
    """Unpickled, it makes a file."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return open, (self.place, "w")


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back(tmp_path, protocol):
    value = {
        "array": np.arange(12, dtype=np.uint8).reshape(3, 4),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i2"),
        "none": np.zeros((0, 5), np.float32),
        "number": np.uint16(700),
        "float": np.float64(0.25),
        "text": np.str_("Biking/v_1"),
        "list": [1, 2.5, None, True, "a", b"\xff", (1, 2)],
        "ordered": OrderedDict(a=1),
        "objects": np.array([{"a": np.arange(2)}, [1]], dtype=object),
    }
    found = read_plain_pickle(saved(tmp_path, pickle.dumps(value, protocol=protocol)))
    for key in ("array", "fortran", "big", "none"):
        assert np.array_equal(found[key], value[key])
        assert found[key].shape == value[key].shape
        assert found[key].dtype.newbyteorder("=") == value[key].dtype.newbyteorder("=")
    assert found["number"] == 700 and found["number"].dtype == np.uint16
    assert found["float"] == 0.25 and found["text"] == "Biking/v_1"
    assert found["list"] == value["list"] and found["ordered"] == value["ordered"]
    assert found["objects"][0]["a"].tolist() == [0, 1] and found["objects"][1] == [1]


def test_names_of_numpy_1_and_texts_of_python_2(tmp_path):
    """As numpy 1 under Python 2 wrote an array of two bytes, opcode by opcode."""
    data = (
        b"\x80\x02}q\x00U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\n"
        b"q\x03K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\x09"
        b"U\x02u1q\nK\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x02\xc8\x64q\x0dtbs."
    )
    assert read_plain_pickle(saved(tmp_path, data))["a"].tolist() == [200, 100]


@pytest.mark.parametrize("hide", [
    lambda attack: attack,
    lambda attack: {"gttubes": {"a": {0: [attack]}}},
    lambda attack: np.array([1, attack], dtype=object),
    lambda attack: OrderedDict(a=attack),
])  # fmt: skip
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_what_asks_for_more_is_refused_and_not_run(tmp_path, hide, protocol):
    ran = tmp_path / "ran"
    file = saved(tmp_path, pickle.dumps(hide(Attack(ran)), protocol=protocol))
    with pytest.raises(DataError, match=r"some.pkl: it asks for \w+.open, which is not run"):
        read_plain_pickle(file)
    assert not ran.exists()


@pytest.mark.parametrize("name", [
    *("numpy.load", "numpy.lib.format.read_array", "numpy.core.multiarray.fromfile"),
    *("numpy.ndarray.tofile", "builtins.getattr", "builtins.eval", "os.system", "_codecs.lookup"),
    *("__builtin__.bytearray", "__builtin__.str"),
    *("torch._utils._rebuild_tensor_v2", "numpy.dtype.newbyteorder", "operator.attrgetter"),
])  # fmt: skip
def test_names_that_are_not_on_the_list(tmp_path, name):
    module, _, function = name.rpartition(".")
    data = b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"U\x01a\x85R."
    with pytest.raises(DataError, match=f"it asks for {name}, which is not run"):
        read_plain_pickle(saved(tmp_path, data))


def test_bytes_are_made_of_nothing_alone(tmp_path):
    data = b"\x80\x02c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R."  # 2 GB of zeros
    with pytest.raises(DataError, match="bytes that are none"):
        read_plain_pickle(saved(tmp_path, data))


def array_of(shape: bytes) -> bytes:
    """An array whose shape is all that is in the file."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + shape + b"U\x01btR."
    )


def filled(shape: bytes, kind: bytes, data: bytes, again: bytes = b"") -> bytes:
    """An array that is filled with a state of a shape, a kind and bytes."""
    call = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    state = b"(K\x01" + shape + b"cnumpy\ndtype\n(" + kind + b"tR\x89" + data + b"tb"
    return call + state + again + b"."


TWO = b"K\x02\x85"


def test_a_filled_array(tmp_path):
    data = filled(TWO, b"U\x02u1", b"U\x02ab")
    assert read_plain_pickle(saved(tmp_path, data)).tolist() == [97, 98]


@pytest.mark.parametrize("data", [
    filled(TWO, b"U\x02u1", b"U\x03abc"),
    filled(TWO, b"U\x02u1", b"K\x05"),
    filled(TWO, b"U\x02O8", b"U\x02ab"),  # pointers from a file
    filled(TWO, b"U\x02O8", b"]"),
    filled(TWO, b"U\x04V100", b"U\x02ab"),
    filled(TWO, b"U\x03M8x", b"U\x02ab"),
    filled(b"J\xff\xff\xff\xff\x85", b"U\x02u1", b"U\x02ab"),
    filled(b"K\x01\x85", b"U\x02U1", b"U\x04\xff\xff\xff\xff"),  # no character
    filled(b"K\x02", b"U\x02u1", b"U\x02ab"),
    filled(TWO, b"U\x02u1", b"U\x02ab", again=b"(K\x01" + TWO + b"NNNtb"),
    b"\x80\x02cnumpy\ndtype\n}b.",  # a state for what may only be called
    b"\x80\x02ccollections\nOrderedDict\nN}U\x01aK\x01s\x86b.",
    array_of(b"J\xff\xff\xff\x7f\x85"),  # two gigabytes of nothing
    array_of(b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft"),
    b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7f\x85tR.",
    b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".",  # a memo of 64 gigabytes
    b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",  # bytes that are not there
    b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    b"\x80\x02]q\x00(" + b"h\x00" * 10,  # cut off
    b"", b"hello", b"\x80\x09N.", b"\x80\x02(lp", b"\x80\x02\x81.", b"\x80\x02P1\n.",
    b"\x80\x02\x82\x01.",  # a registered extension
])  # fmt: skip
def test_sizes_and_damage(tmp_path, data):
    with pytest.raises(DataError, match=r"some.pkl"):
        read_plain_pickle(saved(tmp_path, data))


def test_a_file_that_is_cut_off_is_one_error(tmp_path):
    whole = pickle.dumps({"a": [np.arange(4, dtype=np.uint8)], "b": np.float32(2)}, protocol=2)
    for end in range(0, len(whole), 5):
        with pytest.raises(DataError):
            read_plain_pickle(saved(tmp_path, whole[:end]))


def test_bytes_that_are_changed_are_an_error_or_other_data(tmp_path):
    rng = np.random.default_rng(0)
    whole = pickle.dumps({"a": [np.arange(4, dtype=np.uint8)], "b": np.float32(2)}, protocol=2)
    for _ in range(60):
        data = bytearray(whole)
        data[rng.integers(len(data))] = rng.integers(256)
        with contextlib.suppress(DataError):
            read_plain_pickle(saved(tmp_path, bytes(data)))


def test_no_name_is_looked_up_by_python_itself(tmp_path):
    """An audit hook sees every class that Python's unpickler looks up."""
    ran = tmp_path / "ran"
    attack = saved(tmp_path, pickle.dumps({"a": np.arange(3), "b": Attack(ran)}))
    code = f"""
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(args) if event == "pickle.find_class" else None)
from vidinit.data.boxes import read_boxes
from vidinit.errors import DataError
try:
    read_boxes({str(attack)!r})
except DataError as error:
    print(len(seen), "not run" in str(error), str(error).count(chr(10)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "0 True 0\n", done.stdout + done.stderr
    assert not ran.exists()


def test_repetition_does_not_make_boxes_without_end(tmp_path, monkeypatch):
    """A small file may name one large tube many times."""
    from vidinit.data.boxes import collect, read_boxes

    monkeypatch.setattr(collect, "_MOST_BOXES", 1000)
    tube = {"sf": 0, "ef": 400, "label": 0, "boxes": np.zeros((400, 4), np.uint8) + 9}
    stream = io.BytesIO()
    pickle.dump({"v": {"numf": 400, "annotations": [tube] * 3}}, stream)
    with pytest.raises(DataError, match="more than 1,000 boxes"):
        read_boxes(saved(tmp_path, stream.getvalue()), find=False)
