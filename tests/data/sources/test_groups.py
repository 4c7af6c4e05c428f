"""A ``group`` column: cameras, persons and films stay in one part, in hold-outs and in folds."""

from __future__ import annotations

import csv
import warnings

import pytest

from vidinit.data.rows import Row, Rows
from vidinit.data.sources import labeled_rows, train_val, unlabeled_rows
from vidinit.data.sources.parts import fold_of, hold_out, in_groups
from vidinit.errors import DataError, UsageError


def listed(tmp_path, rows, *columns):
    file = tmp_path / "labels.csv"
    with file.open("w", newline="") as handle:
        csv.writer(handle).writerows([columns, *rows])
    return file


def cameras(count=6, each=8, rare=2):
    """Each camera has clips of both classes, few of the second."""
    return [
        (f"{camera}-{i}.mp4", "fall" if i < rare else "walk", f"cam{camera}")
        for camera in range(count)
        for i in range(each)
    ]


def test_held_out_groups_are_whole_and_said(tmp_path):
    file = listed(tmp_path, cameras(), "path", "label", "group")
    with pytest.warns(UserWarning, match="1 of 6 groups are held out, 8 of 48 clips"):
        train, val = train_val(file, val_fraction=0.2)
    groups = [{row.group for row in part.rows} for part in (train, val)]
    assert groups[0].isdisjoint(groups[1]) and len(groups[1]) == 1
    assert {row.label for row in val.rows} == {0, 1}, "both classes are validated on"


def test_without_groups_nothing_changes_and_nothing_is_said(tmp_path):
    rows = [(path, label) for path, label, _ in cameras()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, val = train_val(listed(tmp_path, rows, "path", "label"), val_fraction=0.25)
    assert (len(train), len(val)) == (36, 12)


def test_a_class_in_a_single_group_stays_in_training():
    rows = Rows((Row("a", 0, group="g"), Row("b", 0, group="g"), Row("c", 1)), ("x", "y"))
    with pytest.warns(UserWarning, match="class 'x' is in a single group: it stays in training"):
        train, val = hold_out(rows, 0.5, 0)
    assert len(train) == 3 and not len(val)
    assert in_groups(rows, val).startswith("0 of 1 groups")


def test_an_empty_cell_is_no_group(tmp_path):
    file = listed(tmp_path, [("a.mp4", "x", ""), ("b.mp4", "x", "g")], "path", "label", "group")
    assert [row.group for row in labeled_rows(file).rows] == [None, "g"]


def test_folds_are_disjoint_grouped_and_stratified():
    rows = Rows(
        tuple(
            Row(path, ("fall", "walk").index(label), group=group)
            for path, label, group in cameras(count=10, each=6)
        ),
        ("fall", "walk"),
    )
    seen = []
    for number in range(1, 6):
        train, val = fold_of(rows, number, 5, seed=0)
        assert {row.group for row in train.rows}.isdisjoint(row.group for row in val.rows)
        # Two cameras of six clips each: four falls and eight walks in every fold.
        assert sorted(row.label for row in val.rows) == [0] * 4 + [1] * 8
        seen += [row.path for row in val.rows]
    assert sorted(seen) == sorted(row.path for row in rows.rows)
    assert fold_of(rows, 1, 5, seed=0) == fold_of(rows, 1, 5, seed=0)
    assert fold_of(rows, 1, 5, seed=0) != fold_of(rows, 1, 5, seed=1)


def test_folds_even_out_groups_of_different_sizes():
    sizes = {"a": 9, "b": 4, "c": 3, "d": 2, "e": 1, "f": 1}
    rows = Rows(
        tuple(Row(f"{g}{i}", 0, group=g) for g, n in sizes.items() for i in range(n)), ("x",)
    )
    found = [{row.group for row in fold_of(rows, k, 2, seed=0)[1].rows} for k in (1, 2)]
    assert sorted(sum(sizes[group] for group in own) for own in found) == [10, 10]


def test_more_folds_than_groups_are_refused(tmp_path):
    rows = Rows(tuple(Row(str(i), 0, group=str(i % 3)) for i in range(9)), ("x",))
    with pytest.raises(DataError, match="3 groups cannot make 4 folds"):
        fold_of(rows, 1, 4, seed=0)
    file = listed(tmp_path, cameras(), "path", "label", "group")
    with pytest.raises(UsageError, match="validation data is named"):
        train_val(file, file, fold=(1, 2))


def test_folds_leave_the_other_parts_alone(tmp_path):
    rows = [(*row, "val" if row[2] == "cam5" else "train") for row in cameras()]
    file = listed(tmp_path, rows, "path", "label", "group", "split")
    with pytest.warns(UserWarning, match="the training part, 8 clips of its val part are left al"):
        train, val = train_val(file, fold=(1, 5))
    assert len(train) + len(val) == 40 and "cam5" not in {row.group for row in val.rows}


def test_the_training_part_alone_is_learned_from_without_labels(tmp_path):
    rows = [(*row, "val" if row[2] in ("cam4", "cam5") else "train") for row in cameras()]
    file = listed(tmp_path, rows, "path", "label", "group", "split")
    assert len(unlabeled_rows(file)) == 48
    with pytest.warns(
        UserWarning, match="the 32 clips of its training part are taken, 16 of its val part are"
    ):
        train = unlabeled_rows(file, part="train")
    assert {row.group for row in train.rows} == {"cam0", "cam1", "cam2", "cam3"}
    assert all(row.label is None for row in train.rows)


def test_train_and_val_folders_are_parts_without_labels_too(tmp_path):
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        for i in range(count):
            clip = tmp_path / part / "walk" / f"{i}.mp4"
            clip.parent.mkdir(parents=True, exist_ok=True)
            clip.write_bytes(b"x")
    assert len(unlabeled_rows(tmp_path)) == 6
    with pytest.warns(UserWarning, match="3 clips .* taken, 1 of its test part and 2 of its val"):
        assert len(unlabeled_rows(tmp_path, part="train")) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(unlabeled_rows(tmp_path / "train", part="train")) == 3, "it has no parts"
