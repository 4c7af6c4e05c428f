from __future__ import annotations

import subprocess
import sys

import pytest

from vidinit.data.sources import labeled_rows, unlabeled_rows
from vidinit.errors import DataError, UsageError


@pytest.mark.parametrize(
    ("line", "path", "label"),
    [
        ("a.mp4 run", "a.mp4", "run"),
        ("my clips/a b.mp4 run", "my clips/a b.mp4", "run"),
        ("a.mp4,run", "a.mp4", "run"),
        ("a, b.mp4\trun", "a, b.mp4", "run"),
        ("a b.mp4, riding a bike", "a b.mp4", "riding a bike"),
        ("a.mp4 b.mp4 run", "a.mp4 b.mp4", "run"),
        ("no suffix run", "no suffix", "run"),
        ("frames/001,riding a bike", "frames/001", "riding a bike"),
        ("frames/a b\triding a bike", "frames/a b", "riding a bike"),
        ("/abs/a.mp4 run", "/abs/a.mp4", "run"),
        ('"a, ""b"".mp4",run', 'a, "b".mp4', "run"),
        ('a.mp4,"catching, or throwing"', "a.mp4", "catching, or throwing"),
        ("photo 1.JPG run", "photo 1.JPG", "run"),
    ],
)
def test_lines_are_split(write, line, path, label):
    listing = write("train.txt", f"\ufeff# comment\n\n{line}\n")
    rows = labeled_rows(listing)
    assert rows.classes == (label,)
    assert rows.rows[0].path == str(listing.parent / path)
    bare = unlabeled_rows(listing)
    if "suffix" not in line:  # there, nothing says where the path ends
        assert [row.path for row in bare.rows] == [rows.rows[0].path]
    assert bare.classes is None and bare.rows[0].label is None


def test_ids_and_names(write):
    ids = write("ids.txt", "a.mp4 2\nb.mp4 0\n")
    names = write("names.txt", "a.mp4 run\nb.mp4 jump\n")

    def labels(listing, **options):
        return [row.label for row in labeled_rows(listing, **options).rows]

    assert labeled_rows(ids).classes == ("0", "1", "2")
    assert labels(ids) == [2, 0]
    assert labels(ids, classes=("x", "y", "z")) == [2, 0]
    assert labeled_rows(names).classes == ("jump", "run")
    assert labels(names, classes=("walk", "run", "jump")) == [1, 2]
    # Classes that are numbers are those numbers, wherever they stand.
    assert labels(ids, classes=("2", "1", "0")) == [0, 2]
    with pytest.raises(DataError, match=r"ids\.txt:2: unknown class '0'; ids run from 1 to 3"):
        labels(ids, classes=("1", "2", "3"))
    # Class names from a file: names and ids alike; ids as the file counts them.
    order = write("order.txt", "walk\nrun\njump\n")
    assert labels(names, class_names=order) == [1, 2]
    assert labels(ids, class_names=order) == [2, 0]
    counted = write("counted.txt", "1 walk\n2 run\n3 jump\n")
    assert labels(names, class_names=counted) == [1, 2]
    assert labels(write("from1.txt", "a.mp4 3\nb.mp4 1\n"), class_names=counted) == [2, 0]


def test_headers_are_not_rows(write):
    for header in ("path label", "video,label", "File\tClass"):
        separator = "\t" if "\t" in header else "," if "," in header else " "
        listing = write("train.csv", f"{header}\na b.mp4{separator}run\n")
        rows = labeled_rows(listing)
        assert [row.path for row in rows.rows] == [str(listing.parent / "a b.mp4")]
        assert rows.classes == ("run",)
    listing = write("list.txt", "path\na b.mp4\nclips/c\n")
    assert [row.path for row in unlabeled_rows(listing).rows] == [
        str(listing.parent / name) for name in ("a b.mp4", "clips/c")
    ]


def test_root(write, touch):
    folder = touch("videos/a.mp4")
    listing = write("lists/train.txt", "a.mp4 run\n/abs/b.mp4 run\n")
    rows = labeled_rows(listing, root=folder / "videos")
    assert [row.path for row in rows.rows] == [str(folder / "videos/a.mp4"), "/abs/b.mp4"]
    with pytest.raises(UsageError, match=r"/nowhere is no folder; data\.root is"):
        labeled_rows(listing, root="/nowhere")


def test_several_labels(write, named):
    rows = labeled_rows(write("a.txt", "a.mp4 1 3 5\nb.mp4 2\n"))
    assert rows.kind == "multi" and len(rows.classes) == 6
    assert [row.label for row in rows.rows] == [(1, 3, 5), (2,)]
    rows = labeled_rows(write("b.txt", "a.mp4,run|jump\nb.mp4,riding a bike;\n"))
    assert rows.kind == "multi" and rows.classes == ("jump", "riding a bike", "run")
    assert named(rows) == [("a.mp4", "jump+run"), ("b.mp4", "riding a bike")]
    # A name that is known as a whole is one label.
    order = write("names.txt", "up;down\nrun\n")
    rows = labeled_rows(write("c.txt", "a.mp4 up;down\nb.mp4 run\n"), class_names=order)
    assert rows.kind == "single" and [row.label for row in rows.rows] == [0, 1]
    with pytest.raises(DataError, match=r"a\.txt:2: unknown class 'walk'; did you mean 'talk'"):
        labeled_rows(write("a.txt", "a.mp4 run\nb.mp4 run;walk\n"), classes=("run", "talk"))


def test_names_with_a_comma_that_are_known(write, named):
    text = "a.mp4,catching, or throwing\nb.mp4,run\n"
    with pytest.raises(DataError, match=r"a\.txt:1, column 3: 'or throwing' is not understood"):
        labeled_rows(write("a.txt", text))
    names = write("names.txt", "run\ncatching, or throwing\n")
    rows = labeled_rows(write("a.txt", text), class_names=names)
    assert named(rows) == [("a.mp4", "catching, or throwing"), ("b.mp4", "run")]
    assert labeled_rows(write("a.txt", text), classes=rows.classes) == rows
    assert len(unlabeled_rows(write("a.txt", text))) == 2


def test_separators_of_folders(write, named):
    text = "d1;riding a bike\nd2;run\n"
    assert named(labeled_rows(write("a.txt", text))) == [("d1", "riding a bike"), ("d2", "run")]
    assert [row.path[-2:] for row in unlabeled_rows(write("a.txt", text)).rows] == ["d1", "d2"]
    rows = labeled_rows(write("b.txt", "d 1 run;jump\nd 2 run\n"))
    assert rows.kind == "multi" and named(rows) == [("d 1", "jump+run"), ("d 2", "run")]


def test_counted_folders_of_frames(write, touch):
    folder = touch("my clip 12/img_1.jpg")
    rows = labeled_rows(write("a.txt", "some/dir_1 163 1\nsome/dir_2 122 0\n"))
    assert [(row.path, row.label) for row in rows.rows] == [
        (str(folder / "some/dir_1"), 1),
        (str(folder / "some/dir_2"), 0),
    ]
    rows = labeled_rows(write("multi.txt", "d1 163 1 3 5\nd2 122 1 2\nd3 258 2\n"))
    assert rows.kind == "multi"
    assert [row.label for row in rows.rows] == [(1, 3, 5), (1, 2), (2,)]
    assert rows.rows[0].path == str(folder / "d1")
    # The folder on disk says where its name ends.
    rows = labeled_rows(write("named.txt", "my clip 12 3\n"))
    assert [(row.path, row.label) for row in rows.rows] == [(str(folder / "my clip 12"), 3)]
    bare = unlabeled_rows(write("bare.txt", "d1 163\nd2 122\n"))
    assert [row.path for row in bare.rows] == [str(folder / "d1"), str(folder / "d2")]
    bare = unlabeled_rows(write("bare.txt", "my clip 12\n"))
    assert [row.path for row in bare.rows] == [str(folder / "my clip 12")]
    with pytest.raises(DataError, match=r"off\.txt:1: three numbers follow every folder"):
        labeled_rows(write("off.txt", "d1 0 163 1\nd2 10 122 2\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4 run\n\nb.mp4\n", r"train\.txt:3: no label in 'b\.mp4'; expected 'path label'"),
        ("a.mp4 run\nmy clip.mp4\n", r"train\.txt:2: no label in 'my clip\.mp4'"),
        ("a.mp4 run\nb.mp4,\n", r"train\.txt:2: no label in 'b\.mp4,'"),
        ("a.mp4 run\nb.mp4 jumpp\n", r"train\.txt:2: unknown class 'jumpp'; did you mean 'jump'"),
        ("a.mp4 0\nb.mp4 7\n", r"train\.txt:2: unknown class '7'; ids run from 0 to 1"),
        ("a.mp4 run\nb.mp4 1\n", r"train\.txt:2: unknown class '1'; the classes are those of the"),
        ("# nothing\n", "train.txt lists no clip; expected one 'path label' a line"),
        ("", "train.txt lists no clip"),
    ],
)
def test_errors_name_the_line(write, text, message):
    with pytest.raises(DataError, match=message):
        labeled_rows(write("train.txt", text), classes=("run", "jump"))


def test_ids_mixed_with_names(write):
    with pytest.raises(
        DataError, match=r"a\.txt:3: label '3' is an id, but other labels are names, as 'run'"
    ):
        labeled_rows(write("a.txt", "a.mp4 run\nb.mp4 jump\nc.mp4 3\n"))
    rows = labeled_rows(
        write("a.txt", "a.mp4 run\nb.mp4 3\n"), class_names=write("names.txt", "3\nrun\n")
    )
    assert [row.label for row in rows.rows] == [1, 0]
    with pytest.raises(DataError, match=r"a\.txt:1: label 12345678901 is too large"):
        labeled_rows(write("a.txt", "a.mp4 12345678901\n"))


def test_text_only(tmp_path):
    for content in (b"\x89PNG\r\n\x1a\n\xff\xfe", "a.mp4 run\n".encode("utf-16")):
        (tmp_path / "list.txt").write_bytes(content)
        with pytest.raises(UsageError, match=r"list\.txt is no text file"):
            labeled_rows(tmp_path / "list.txt")


LARGE = """
import re, sys, time
from vidinit.data.sources import labeled_rows
# Of this program; what getrusage tells begins with the memory of the process it was forked from.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before, start = peak(), time.process_time()  # of this core, whoever else is on it
rows = labeled_rows(sys.argv[1])
print(len(rows), len(rows.classes), time.process_time() - start, before, peak())
"""


@pytest.mark.parametrize("count", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("header", ["", "path,label\n"])
def test_large_lists_take_little_time_and_memory(tmp_path, count, header):
    """A million lines in 20 s and 600 MB, and no more for fewer."""
    listing = tmp_path / "train.csv"
    with open(listing, "w") as file:
        file.write(header)
        for i in range(count):
            comma = "," if header else " "
            file.write(
                f"videos/class_{i % 400:03d}/clip_{i:08d}_000010.mp4{comma}class {i % 400}\n"
            )
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(listing)], capture_output=True, text=True, check=True
    )
    rows, classes, seconds, before, peak = map(float, done.stdout.split())
    assert (rows, classes) == (count, 400)
    share = count / 1_000_000
    assert seconds < 20 * share
    assert peak - before < (600 - before) * share + 5
