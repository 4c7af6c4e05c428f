from __future__ import annotations

import warnings

import pytest

from vidinit.data.sources import labeled_rows, train_val, unlabeled_rows
from vidinit.errors import DataError, UsageError


def test_labelled_rows_of_folder_and_list(touch, write):
    folder = touch("set/a/1.mp4")
    assert labeled_rows(folder / "set") == labeled_rows(write("list.txt", "set/a/1.mp4 a\n"))
    with pytest.raises(UsageError, match="does not exist"):
        labeled_rows(folder / "gone")
    with pytest.raises(UsageError, match="no data is named"):
        labeled_rows([])


def test_folders_share_the_training_classes(touch, named):
    folder = touch("train/a/1.mp4", "train/b/2.mp4", "train/c/3.mp4", "val/c/4.mp4", "val/b/5.mp4")
    train, val = train_val(folder)
    assert train.classes == val.classes == ("a", "b", "c")
    assert named(val) == [("val/b/5.mp4", "b"), ("val/c/4.mp4", "c")]
    assert len(train) == 3
    # An explicit validation set wins over val/, and may itself have parts.
    touch("other/a/6.mp4")
    assert named(train_val(folder, folder / "other")[1]) == [("other/a/6.mp4", "a")]
    assert train_val(folder, folder)[1] == val


def test_a_class_unknown_in_training(touch):
    folder = touch("train/jump/1.mp4", "train/run/2.mp4", "val/jumps/2.mp4")
    with pytest.raises(
        DataError, match=r"'jumps' of .*val is unknown in training; did you mean 'jump'"
    ):
        train_val(folder)


def test_folders_and_lists_go_together(touch, write):
    folder = touch("set/a/1.mp4", "set/b/2.mp4")
    for label in ("1", "b"):
        listing = write("val.txt", f"set/b/2.mp4 {label}\n")
        assert [row.label for row in train_val(folder / "set", listing)[1].rows] == [1]


def test_a_class_may_be_called_train(touch):
    folder = touch("train/1.mp4", "train/2.mp4", "plane/3.mp4", "plane/4.mp4")
    assert train_val(folder)[0].classes == ("plane", "train")


def test_every_class_is_split_by_seed(touch):
    folder = touch(*(f"{name}/{i:02d}.mp4" for name in "ab" for i in range(10)))
    train, val = train_val(folder, val_fraction=0.3, seed=1)
    assert {row.path for row in train.rows}.isdisjoint(row.path for row in val.rows)
    assert len(train) + len(val) == 20
    assert [sum(row.label == label for row in val.rows) for label in (0, 1)] == [3, 3]
    assert train_val(folder, val_fraction=0.3, seed=1) == (train, val)
    assert train_val(folder, val_fraction=0.3, seed=2)[1] != val
    with pytest.raises(UsageError, match="val_fraction"):
        train_val(folder, val_fraction=1.0)


def test_the_split_stays_what_it_is(touch):
    """A resumed run must hold out the same clips as the run that was started."""
    folder = touch(*(f"{name}/{i}.mp4" for name in "ab" for i in range(8)))
    val = train_val(folder, val_fraction=0.25, seed=3)[1]
    assert [row.path[len(str(folder)) + 1 :] for row in val.rows] == [
        *("a/1.mp4", "a/3.mp4", "b/2.mp4", "b/7.mp4"),
    ]


def test_a_clip_that_is_listed_twice_is_not_split(write):
    lines = [f"{name}{i}.mp4 {name}" for name in "ab" for i in range(4)]
    once = train_val(write("once.txt", "\n".join(lines)), val_fraction=0.5)
    twice = train_val(write("twice.txt", "\n".join([*lines, *lines[:3]])), val_fraction=0.5)
    for part, again in zip(once, twice, strict=True):
        paths = {row.path for row in part.rows}
        assert {row.path for row in again.rows} == paths
    assert sum(map(len, twice)) == 11, "all lines of the list are in one of the two"
    assert {row.path for row in twice[0].rows}.isdisjoint(row.path for row in twice[1].rows)
    # A class that has one clip, twice, is a class with a single clip.
    with pytest.warns(UserWarning, match="'c' has a single clip"):
        train, val = train_val(write("c.txt", "\n".join([*lines, "c.mp4 c", "c.mp4 c"])))
    assert sum(row.label == 2 for row in train.rows) == 2 and len(val) == 2


def test_a_single_clip_stays_in_training_with_a_warning(touch):
    folder = touch("a/1.mp4", "b/2.mp4", "b/3.mp4")
    with pytest.warns(UserWarning, match="class 'a' has a single clip"):
        train, val = train_val(folder, val_fraction=0.9)
    assert [row.label for row in train.rows] == [0, 1]
    assert [row.label for row in val.rows] == [1]
    touch("a/4.mp4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_val(folder)
    with pytest.warns(UserWarning, match="all training clips are of one class, 'a'"):
        train_val(touch("one/a/1.mp4", "one/a/2.mp4") / "one")


def test_every_class_of_a_multi_label_list_stays_in_training(write):
    lines = [f"{i}.mp4,{'abcd'[i % 4]};{'abcd'[(i * 7 + 1) % 4]}" for i in range(12)]
    listing = write("a.csv", "\n".join(["path,labels", *lines, "solo.mp4,a;e"]))
    for seed in range(30):
        with pytest.warns(UserWarning, match="class 'e' has a single clip"):
            train, val = train_val(listing, val_fraction=0.5, seed=seed)
        assert train.kind == val.kind == "multi"
        assert {label for row in train.rows for label in row.label} == {0, 1, 2, 3, 4}
        assert 3 <= len(val) <= 9 and len(train) + len(val) == 13


def test_pairs_are_split_by_verb_and_aligned(write, named):
    listing = write(
        "a.csv", "path,verb,noun\n1.mp4,open,door\n2.mp4,open,jar\n3.mp4,cut,jar\n4.mp4,cut,leek\n"
    )
    train, val = train_val(listing, val_fraction=0.5)
    assert val.kind == "pair" and val.nouns == train.nouns == ("door", "jar", "leek")
    assert sorted(label.split()[0] for _, label in named(val)) == ["cut", "open"]
    other = write("b.csv", "path,verb,noun\n5.mp4,open,leek\n")
    assert [row.label for row in train_val(listing, other)[1].rows] == [(1, 2)]
    with pytest.raises(DataError, match=r"b\.csv has one label a clip, training had two"):
        train_val(listing, write("b.csv", "path,label\n5.mp4,open\n"))


def test_several_sources_are_joined_by_class_name(touch, write, named):
    folder = touch("one/b/1.mp4", "one/d/2.mp4", "two/a/3.mp4", "two/b/4.mp4")
    rows = labeled_rows([folder / "one", folder / "two"])
    assert rows.classes == ("b", "d", "a")
    assert named(rows) == [
        ("one/b/1.mp4", "b"),
        ("one/d/2.mp4", "d"),
        ("two/a/3.mp4", "a"),
        ("two/b/4.mp4", "b"),
    ]
    same = touch("three/d/5.mp4", "three/b/6.mp4") / "three"
    assert labeled_rows([folder / "one", same]).classes == ("b", "d")
    names = write("names.txt", "a\nb\nc\nd\n")
    assert labeled_rows([folder / "one", folder / "two"], class_names=names).classes == (
        *("a", "b", "c", "d"),
    )
    train, val = train_val([folder / "one", folder / "two"], [same, folder / "two"])
    assert named(val) == [
        *(("three/b/6.mp4", "b"), ("three/d/5.mp4", "d")),
        *(("two/a/3.mp4", "a"), ("two/b/4.mp4", "b")),
    ]
    assert val.classes == train.classes == ("b", "d", "a")


def test_sources_are_split_each_on_its_own(touch, named):
    folder = touch("one/train/a/1.mp4", "one/val/a/2.mp4", "two/b/3.mp4", "two/b/4.mp4")
    train, val = train_val([folder / "one", folder / "two"])
    assert train.classes == ("a", "b") and len(train) == 2
    assert named(val)[0] == ("one/val/a/2.mp4", "a") and named(val)[1][1] == "b"


def test_sources_must_agree(touch, write):
    single = write("single.txt", "a.mp4 run\n")
    multi = write("multi.txt", "a.mp4 run;jump\n")
    pair = write("pair.csv", "path,verb,noun\na.mp4,run,dog\n")
    ids = write("ids.txt", "a.mp4 0\n")
    with pytest.raises(
        DataError, match=r"single\.txt has one label a clip, .*multi\.txt has several"
    ):
        labeled_rows([single, multi])
    with pytest.raises(DataError, match=r"pair\.csv has a verb and a noun a clip, .*single\.txt"):
        labeled_rows([pair, single])
    with pytest.raises(
        DataError, match=r"ids\.txt has class ids and .*single\.txt has class names"
    ):
        labeled_rows([single, ids])
    assert labeled_rows([single, ids], class_names=write("n.txt", "run\njump\n")).rows[1].label == 0
    assert len(labeled_rows([multi, write("marked.txt", "a.mp4 run;\n")])) == 2
    with pytest.raises(DataError, match=r"multi\.txt has several labels a clip, the training data"):
        train_val(write("two.txt", "a.mp4 run\nb.mp4 jump\n"), multi)
    # Validation clips may all happen to have one label.
    val = train_val(multi, single)[1]
    assert val.kind == "multi" and val.rows[0].label == (1,)


def test_shots_are_chosen_by_seed_and_class(touch, named):
    folder = touch(*(f"train/{name}/{i:02d}.mp4" for name in "ab" for i in range(20)))
    touch("train/c/1.mp4", "train/c/2.mp4", *(f"val/{name}/1.mp4" for name in "abc"))

    def chosen(shots, seed=0):
        train, val = train_val(folder, shots=shots, seed=seed)
        assert len(val) == 3 and train.classes == ("a", "b", "c")
        return named(train)

    with pytest.warns(UserWarning, match=r"fewer than 4 clips, all kept: class 'c' \(2\)$"):
        four = chosen(4)
    assert [sum(label == name for _, label in four) for name in "abc"] == [4, 4, 2]
    two = chosen(2)
    assert set(two) < set(four)  # fewer are a part of more
    assert two == chosen(2) and two != chosen(2, seed=1)
    # Not the same places in every class.
    assert {p[-6:] for p, label in four if label == "a"} != {
        p[-6:] for p, label in four if label == "b"
    }
    # A class beside does not change what is chosen of a class.
    for i in range(20, 30):
        touch(f"train/b/{i}.mp4")
    assert [entry for entry in chosen(2) if entry[1] == "a"] == [e for e in two if e[1] == "a"]
    with pytest.raises(UsageError, match="shots is 0"):
        train_val(folder, shots=0)


def test_shots_come_out_of_what_is_not_held_out(touch):
    folder = touch(*(f"{name}/{i:02d}.mp4" for name in "ab" for i in range(10)))
    full, val = train_val(folder, seed=5)
    few, same = train_val(folder, seed=5, shots=3)
    assert same == val and set(few.rows) < set(full.rows) and len(few) == 6


def test_unlabelled_rows_take_labelled_data(touch, write):
    folder = touch("train/a/1.mp4", "val/a/2.mp4")
    listing = write("list.csv", "path,label,split\nx.mp4,run,train\ny.mp4,run,val\n")
    rows = unlabeled_rows([folder, listing])
    assert len(rows) == 4 and rows.classes is None
