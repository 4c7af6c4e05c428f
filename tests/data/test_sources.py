from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from vidinit.data.sources import (
    Rows,
    align,
    folder_rows,
    labelled_rows,
    list_rows,
    train_val,
    unlabelled_rows,
)
from vidinit.errors import DataError, UsageError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def named(rows: Rows, folder: Path) -> list[tuple[str, str]]:
    """(path below the folder, class name) of every row."""
    assert rows.classes is not None
    return [
        (row.path.relative_to(folder).as_posix(), rows.classes[row.label])
        for row in rows.rows
        if row.label is not None
    ]


def test_folder_rows_takes_classes_from_subfolders(tmp_path: Path) -> None:
    touch(tmp_path, "run/z.mp4", "run/deep/a.MKV", "jump/c.webm", "jump/.hidden.mp4", "jump/x.txt")
    touch(tmp_path, "empty/readme.txt", ".git/d.mp4", "run/.cache/e.mp4")
    rows = folder_rows(tmp_path)
    assert rows.classes == ("jump", "run")
    assert named(rows, tmp_path) == [
        ("jump/c.webm", "jump"),
        ("run/deep/a.MKV", "run"),
        ("run/z.mp4", "run"),
    ]


def test_folder_rows_of_images_and_of_both(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/2.jpg", "b/3.png")
    assert named(folder_rows(tmp_path, kinds="image"), tmp_path) == [
        ("a/2.jpg", "a"),
        ("b/3.png", "b"),
    ]
    assert len(folder_rows(tmp_path, kinds="any")) == 3
    assert folder_rows(tmp_path).classes == ("a",)


def test_folder_rows_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "store/clips/1.mp4", "set/a/2.mp4")
    (tmp_path / "set/b").symlink_to(tmp_path / "store")
    (tmp_path / "store/clips/up").symlink_to(tmp_path / "store")
    assert named(folder_rows(tmp_path / "set"), tmp_path / "set") == [
        ("a/2.mp4", "a"),
        ("b/clips/1.mp4", "b"),
    ]


def test_folder_rows_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist"):
        folder_rows(tmp_path / "nowhere")
    file = touch(tmp_path, "file.mp4") / "file.mp4"
    with pytest.raises(UsageError, match="is not a folder"):
        folder_rows(file)
    with pytest.raises(DataError, match="no class sub-folders; labels come from sub-folders"):
        folder_rows(tmp_path)
    file.unlink()
    with pytest.raises(DataError, match="no video file in"):
        folder_rows(tmp_path)


def test_unlabelled_rows_from_folder_file_and_list(tmp_path: Path) -> None:
    touch(tmp_path, "b.mp4", "sub/a b.avi", "c.jpg")
    listing = tmp_path / "list.txt"
    listing.write_text("# clips\n\nsub/a b.avi\nb.mp4\n")
    both = [tmp_path / "b.mp4", tmp_path / "sub/a b.avi"]
    assert [row.path for row in unlabelled_rows(tmp_path).rows] == both
    assert [row.path for row in unlabelled_rows(listing).rows] == both[::-1]
    single = unlabelled_rows(tmp_path / "b.mp4")
    assert [(row.path, row.label) for row in single.rows] == [(both[0], None)]
    assert single.classes is None


def test_unlabelled_rows_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no video file in"):
        unlabelled_rows(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        unlabelled_rows(tmp_path / "nowhere")
    (tmp_path / "list.bin").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match=r"list\.bin is no text file"):
        unlabelled_rows(tmp_path / "list.bin")


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
        ("/abs/a.mp4 run", "/abs/a.mp4", "run"),
    ],
)
def test_list_rows_splits_lines(tmp_path: Path, line: str, path: str, label: str) -> None:
    listing = tmp_path / "train.txt"
    listing.write_text(f"# comment\n\n{line}\n", encoding="utf-8-sig")
    rows = list_rows(listing)
    assert rows.classes == (label,)
    assert rows.rows[0].path == tmp_path / path


def test_list_rows_reads_ids_and_names(tmp_path: Path) -> None:
    ids, names = tmp_path / "ids.txt", tmp_path / "names.txt"
    ids.write_text("a.mp4 2\nb.mp4 0\n")
    names.write_text("a.mp4 run\nb.mp4 jump\n")
    assert list_rows(ids).classes == ("0", "1", "2")
    assert [row.label for row in list_rows(ids).rows] == [2, 0]
    assert [row.label for row in list_rows(ids, ("x", "y", "z")).rows] == [2, 0]
    assert list_rows(names).classes == ("jump", "run")
    assert [row.label for row in list_rows(names, ("walk", "run", "jump")).rows] == [1, 2]
    # Classes that are numbers: names win when they explain every label, ids when they do not.
    assert [row.label for row in list_rows(ids, ("2", "1", "0")).rows] == [0, 2]
    assert [row.label for row in list_rows(ids, ("1", "2", "3")).rows] == [2, 0]


def test_list_rows_errors_name_the_line(tmp_path: Path) -> None:
    listing = tmp_path / "train.txt"
    listing.write_text("a.mp4 run\n\nb.mp4\n")
    with pytest.raises(DataError, match=r"train\.txt:3: no label in 'b\.mp4'"):
        list_rows(listing)
    listing.write_text("a.mp4 run\nb.mp4 jumpp\n")
    with pytest.raises(
        DataError, match=r"train\.txt:2: unknown class 'jumpp'; did you mean 'jump'"
    ):
        list_rows(listing, ("run", "jump"))
    listing.write_text("a.mp4 0\nb.mp4 7\n")
    with pytest.raises(DataError, match=r"train\.txt:2: unknown class '7'; ids run from 0 to 1"):
        list_rows(listing, ("run", "jump"))
    listing.write_text("# nothing\n")
    with pytest.raises(DataError, match="lists no clip"):
        list_rows(listing)


def test_labelled_rows_dispatches(tmp_path: Path) -> None:
    touch(tmp_path, "set/a/1.mp4")
    (tmp_path / "list.txt").write_text("set/a/1.mp4 a\n")
    assert labelled_rows(tmp_path / "set") == labelled_rows(tmp_path / "list.txt")
    with pytest.raises(UsageError, match="does not exist"):
        labelled_rows(tmp_path / "gone")


def test_align_matches_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "c/2.mp4")
    rows = align(folder_rows(tmp_path), ("c", "b", "a"), where=tmp_path)
    assert [row.label for row in rows.rows] == [2, 0]
    assert rows.classes == ("c", "b", "a")


def test_train_val_folders_share_the_training_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "train/c/3.mp4", "val/c/4.mp4", "val/b/5.mp4")
    train, val = train_val(tmp_path)
    assert train.classes == val.classes == ("a", "b", "c")
    assert named(val, tmp_path) == [("val/b/5.mp4", "b"), ("val/c/4.mp4", "c")]
    assert len(train) == 3
    # An explicit validation set wins over val/.
    touch(tmp_path, "other/a/6.mp4")
    assert named(train_val(tmp_path, tmp_path / "other")[1], tmp_path) == [("other/a/6.mp4", "a")]


def test_train_val_rejects_a_class_unknown_in_training(tmp_path: Path) -> None:
    touch(tmp_path, "train/jump/1.mp4", "val/jumps/2.mp4")
    with pytest.raises(
        DataError, match=r"'jumps' of .*val is unknown in training; did you mean 'jump'"
    ):
        train_val(tmp_path)


def test_train_val_mixes_folders_and_lists(tmp_path: Path) -> None:
    touch(tmp_path, "set/a/1.mp4", "set/b/2.mp4")
    listing = tmp_path / "val.txt"
    listing.write_text("set/b/2.mp4 1\n")
    assert [row.label for row in train_val(tmp_path / "set", listing)[1].rows] == [1]
    listing.write_text("set/b/2.mp4 b\n")
    assert [row.label for row in train_val(tmp_path / "set", listing)[1].rows] == [1]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.mp4", "train/2.mp4", "plane/3.mp4", "plane/4.mp4")
    assert train_val(tmp_path)[0].classes == ("plane", "train")


def test_train_val_splits_every_class_by_seed(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/{i:02d}.mp4" for name in "ab" for i in range(10)))
    train, val = train_val(tmp_path, val_fraction=0.3, seed=1)
    assert {row.path for row in train.rows}.isdisjoint(row.path for row in val.rows)
    assert len(train) + len(val) == 20
    assert [sum(row.label == label for row in val.rows) for label in (0, 1)] == [3, 3]
    assert train_val(tmp_path, val_fraction=0.3, seed=1) == (train, val)
    assert train_val(tmp_path, val_fraction=0.3, seed=2)[1] != val
    with pytest.raises(UsageError, match="val_fraction"):
        train_val(tmp_path, val_fraction=1.0)


def test_a_single_clip_stays_in_training_with_a_warning(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "b/2.mp4", "b/3.mp4")
    with pytest.warns(UserWarning, match="class 'a' has a single clip"):
        train, val = train_val(tmp_path, val_fraction=0.9)
    assert [row.label for row in train.rows] == [0, 1]
    assert [row.label for row in val.rows] == [1]
    touch(tmp_path, "a/4.mp4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_val(tmp_path)
