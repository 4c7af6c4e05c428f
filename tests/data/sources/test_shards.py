from __future__ import annotations

import io
import json
import tarfile

import pytest

from vidinit.data.sources import labeled_rows, train_val, unlabeled_rows
from vidinit.errors import DataError, UsageError


@pytest.fixture
def shard(tmp_path):
    """Writes members in order, each a (name, content)."""

    def make(name, *members, mode="w"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, mode) as tar:
            for member, content in members:
                content = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path

    return make


def content(row):
    archive, _, rest = row.path.partition("::")
    offset, size = rest.rpartition("@")[2].split("+")
    with open(archive, "rb") as stream:
        stream.seek(int(offset))
        return stream.read(int(size))


def test_rows_name_the_bytes(shard):
    path = shard(
        "a.tar",
        ("s/000.mp4", b"first"),
        ("s/000.cls", "1\n"),
        ("s/001.video.MP4", b"second" * 200),
        ("s/001.cls", "0"),
        ("s/001.jpg", b"preview"),
        ("readme.md", "no sample"),
        ("s/" + "x" * 150 + ".mkv", b"long name"),
        ("s/" + "x" * 150 + ".cls", "1"),
    )
    rows = labeled_rows(path)
    assert [content(row) for row in rows.rows] == [b"first", b"second" * 200, b"long name"]
    assert [row.label for row in rows.rows] == [1, 0, 1] and rows.classes == ("0", "1")
    assert rows.rows[0].path.startswith(f"{path}::s/000.mp4@")
    assert labeled_rows(path, kinds="any") == rows  # the preview is no clip
    assert content(unlabeled_rows(path).rows[0]) == b"first"


def test_labels_as_text_and_json(shard):
    path = shard(
        "a.tar",
        ("0.mp4", b"0"),
        ("0.txt", "riding a bike\n"),
        ("1.mp4", b"1"),
        ("1.json", json.dumps({"label": "jump", "fps": 25})),
    )
    rows = labeled_rows(path)
    assert rows.classes == ("jump", "riding a bike") and [row.label for row in rows.rows] == [1, 0]
    path = shard("b.tar", ("0.mp4", b"0"), ("0.json", json.dumps({"label": [2, 0]})))
    assert labeled_rows(path).kind == "multi" and labeled_rows(path).rows[0].label == (0, 2)
    path = shard("c.tar", ("0.png", b"0"), ("0.cls", "0"))
    assert len(labeled_rows(path, kinds="image")) == 1
    with pytest.raises(DataError, match=r"c\.tar lists no clip"):
        labeled_rows(path)


def test_folders_and_patterns(shard, tmp_path):
    for i in range(12):
        shard(f"set/train/shard-{i:04d}.tar", (f"{i}.mp4", f"{i}"), (f"{i}.cls", str(i % 2)))
    shard("set/val/shard-0.tar", ("v.mp4", "v"), ("v.cls", "1"))
    rows = labeled_rows(tmp_path / "set/train")
    assert [content(row) for row in rows.rows] == [str(i).encode() for i in range(12)]
    some = labeled_rows(tmp_path / "set/train/shard-{0009..0011}.tar")
    assert [content(row) for row in some.rows] == [b"9", b"10", b"11"]
    train, val = train_val(tmp_path / "set")
    assert len(train) == 12 and [row.label for row in val.rows] == [1]
    assert unlabeled_rows(tmp_path / "set/train").rows[0].label is None
    with pytest.raises(UsageError, match=r"shard-0012\.tar does not exist"):
        labeled_rows(tmp_path / "set/train/shard-{0011..0013}.tar")
    with pytest.raises(UsageError, match="counts from 5 to 2"):
        labeled_rows(tmp_path / "shard-{5..2}.tar")


def test_shard_errors(shard, tmp_path):
    path = shard("a.tar", ("0.mp4", b"0"), ("0.cls", "1"), ("1.mp4", b"1"))
    with pytest.raises(DataError, match=r"a\.tar: sample '1' has no label; .* 1\.cls, 1\.txt or"):
        labeled_rows(path)
    path = shard("b.tar", ("0.mp4", b"0"), ("0.json", '{"class": 1}'))
    with pytest.raises(DataError, match=r"b\.tar: 0\.json holds no label"):
        labeled_rows(path)
    path = shard("c.tar", ("0.mp4", b"0"), ("0.cls", "5"))
    with pytest.raises(DataError, match=r"c\.tar::0\.mp4@\d+\+1: unknown class '5'; ids run"):
        labeled_rows(path, classes=("run", "jump"))
    for name in ("d.tar.gz", "d.tgz", "really-gzip.tar"):
        path = shard(name, ("0.mp4", b"0"), ("0.cls", "5"), mode="w:gz")
        with pytest.raises(UsageError, match=f"{name} is compressed, so that no clip"):
            labeled_rows(path)
    (tmp_path / "text.tar").write_text("no archive\n" * 100)
    with pytest.raises(DataError, match=r"text\.tar cannot be read as a tar archive"):
        labeled_rows(tmp_path / "text.tar")
    (tmp_path / "empty.tar").touch()
    with pytest.raises(DataError, match=r"empty\.tar cannot be read as a tar archive"):
        labeled_rows(tmp_path / "empty.tar")


@pytest.mark.parametrize("keep", [512 * 4, 512 * 4 + 100, 512 * 5 + 100])
def test_a_shard_that_is_cut_off_is_noticed(shard, keep):
    path = shard("a.tar", ("0.mp4", b"0"), ("0.cls", "1"), ("1.mp4", b"1" * 900), ("1.cls", "1"))
    path.write_bytes(path.read_bytes()[:keep])
    count = 3 if keep > 512 * 5 else 2
    with pytest.warns(UserWarning, match=rf"a\.tar is cut off or damaged after {count} members"):
        rows = unlabeled_rows(path)
    assert len(rows) == count - 1  # the clip that is cut is a row, for the index to name


@pytest.mark.parametrize(
    ("field", "size"),
    [
        (b"-0000001000\0", "-512"),
        (b"\xff" + (-600).to_bytes(11, "big", signed=True), "-600"),
        (b"\x80" + (10 << 30).to_bytes(11, "big"), "10,737,418,240"),
        (b"\x80" + (1 << 80).to_bytes(11, "big"), "1,208,925,819,614,629,174,706,176"),
    ],
)
def test_a_member_of_an_impossible_size_is_named(shard, field, size):
    """A negative one would be read again and again."""
    path = shard("a.tar", ("0.mp4", b"0"), ("0.cls", "1"), ("1.mp4", b"1"), ("1.cls", "1"))
    data = bytearray(path.read_bytes())
    at = data.index(b"1.mp4")
    data[at + 124 : at + 136] = field
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    path.write_bytes(data)
    for read in (labeled_rows, unlabeled_rows):
        with pytest.raises(
            DataError, match=rf"a\.tar: member 3, '1\.mp4', says that it has {size} b"
        ):
            read(path)


def test_labels_of_a_shard_that_are_none(shard):
    for content, message in (
        ("[" * 100_000, r"a\.tar: 0\.json holds no label"),
        ("9" * 5000, r"a\.tar: 0\.json holds no label"),
        (" " * 2_000_000, r"a\.tar: 0\.json has 2,000,000 bytes; expected a class name or id"),
    ):
        path = shard("a.tar", ("0.mp4", b"0"), ("0.json", content))
        with pytest.raises(DataError, match=message):
            labeled_rows(path)
    path = shard("a.tar", ("0.mp4", b"0"), ("0.cls", "9" * 5000))
    with pytest.raises(DataError, match=r"label 9+\.\.\.9+ is too large for a class id"):
        labeled_rows(path)


def test_a_damaged_shard_is_noticed(shard):
    path = shard("a.tar", ("0.mp4", b"0"), ("0.cls", "1"), ("1.mp4", b"1"), ("1.cls", "1"))
    data = bytearray(path.read_bytes())
    data[512 * 4 : 512 * 4 + 100] = b"x" * 100
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=r"a\.tar is cut off or damaged after 2 members"):
        assert len(labeled_rows(path)) == 1
