from __future__ import annotations

import os

import pytest

from vidinit.data.rows import align
from vidinit.data.sources import labeled_rows, train_val, unlabeled_rows
from vidinit.errors import DataError, UsageError


def frames(folder, count=3, prefix="img_", suffix=".jpg", digits=5):
    return [f"{folder}/{prefix}{i:0{digits}d}{suffix}" for i in range(1, count + 1)]


def test_classes_are_the_sub_folders(touch, named):
    touch("run/z.mp4", "run/deep/a.MKV", "jump/c.webm", "jump/.hidden.mp4", "jump/x.txt")
    folder = touch("empty/readme.txt", ".git/d.mp4", "run/.cache/e.mp4")
    rows = labeled_rows(folder)
    assert rows.classes == ("jump", "run") and rows.kind == "single"
    assert named(rows) == [("jump/c.webm", "jump"), ("run/deep/a.MKV", "run"), ("run/z.mp4", "run")]


def test_images_and_both(touch, named):
    folder = touch("a/1.mp4", "a/2.jpg", "b/3.png")
    assert named(labeled_rows(folder, kinds="image")) == [("a/2.jpg", "a"), ("b/3.png", "b")]
    assert len(labeled_rows(folder, kinds="any")) == 3
    assert labeled_rows(folder).classes == ("a",)


def test_links_are_followed_but_not_in_circles(touch, named):
    folder = touch("store/clips/1.mp4", "set/a/2.mp4")
    (folder / "set/b").symlink_to(folder / "store")
    (folder / "store/clips/up").symlink_to(folder / "store")
    rows = labeled_rows(folder / "set")
    assert named(rows) == [("set/a/2.mp4", "a"), ("set/b/clips/1.mp4", "b")]
    # A link to nowhere is a row: that it cannot be read is for the index to say.
    (folder / "set/a/gone.mp4").symlink_to(folder / "nowhere")
    assert len(labeled_rows(folder / "set")) == 3


def test_folders_of_frames_are_clips(touch, named):
    folder = touch(*frames("run/one"), *frames("run/two", 2, prefix="", digits=1, suffix=".png"))
    touch(*frames("run/deep/three", prefix="frame", digits=1), "run/four.mp4", "jump/photo.jpg")
    clips = [("run/deep/three", "run"), ("run/four.mp4", "run"), ("run/one", "run")]
    clips.append(("run/two", "run"))
    assert named(labeled_rows(folder)) == clips
    assert named(labeled_rows(folder, kinds="any")) == [("jump/photo.jpg", "jump"), *clips]
    # Images are stills for who wants images.
    assert len(labeled_rows(folder, kinds="image")) == 3 + 2 + 3 + 1
    found = [row.path for row in unlabeled_rows(folder).rows]
    assert found == [str(folder / path) for path, _ in clips]
    # The folder itself, without labels.
    assert [row.path for row in unlabeled_rows(folder / "run/one").rows] == [
        str(folder / "run/one")
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["a/x/1.jpg"],  # one image is a still
        ["a/x/cat1.jpg", "a/x/dog2.jpg"],  # two prefixes
        ["a/x/1.jpg", "a/x/2.png"],  # two formats
        ["a/x/1.jpg", "a/x/2.jpg", "a/x/cover.jpg"],  # one without a number
        ["a/x/1.jpg", "a/x/2.jpg", "a/x/y/1.jpg"],  # not a leaf
        ["a/1.jpg", "a/2.jpg"],  # directly in the class folder
    ],
)
def test_what_is_no_folder_of_frames(touch, names):
    folder = touch(*names)
    assert [row.path for row in labeled_rows(folder, kinds="any").rows] == [
        str(folder / name) for name in names
    ]
    with pytest.raises(DataError, match=r"no video file in|folders of frames but no class folders"):
        labeled_rows(folder)


def test_other_files_do_not_keep_frames_from_being_a_clip(touch, named):
    folder = touch(*frames("a/x"), "a/x/meta.json", "a/x/.DS_Store", "a/x/.thumbs/1.jpg")
    assert named(labeled_rows(folder)) == [("a/x", "a")]
    touch("a/x/clip.mp4")
    assert named(labeled_rows(folder)) == [("a/x/clip.mp4", "a")]


def test_errors_say_what_to_do(touch, tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist"):
        labeled_rows(tmp_path / "nowhere")
    file = touch("file.mp4") / "file.mp4"
    with pytest.raises(UsageError, match=r"is one clip without a label; pass a folder with a sub"):
        labeled_rows(file)
    with pytest.raises(DataError, match="no class sub-folders; labels come from sub-folders"):
        labeled_rows(tmp_path)
    file.unlink()
    with pytest.raises(DataError, match=r"no video file in .*expected one sub-folder"):
        labeled_rows(tmp_path)
    touch("train.csv")
    with pytest.raises(
        DataError, match=r"no video file in .*to read a list, pass it: .*train\.csv"
    ):
        labeled_rows(tmp_path)


def test_unlabelled_folder_file_and_list(touch, write, tmp_path):
    touch("b.mp4", "sub/a b.avi", "c.jpg")
    listing = write("list.txt", "# clips\n\nsub/a b.avi\nb.mp4\n")
    both = [str(tmp_path / "b.mp4"), str(tmp_path / "sub/a b.avi")]
    assert [row.path for row in unlabeled_rows(tmp_path).rows] == both
    assert [row.path for row in unlabeled_rows(listing).rows] == both[::-1]
    single = unlabeled_rows(tmp_path / "b.mp4")
    assert [(row.path, row.label) for row in single.rows] == [(both[0], None)]
    assert single.classes is None
    joined = unlabeled_rows([listing, tmp_path / "b.mp4"])
    assert [row.path for row in joined.rows] == [*both[::-1], both[0]]
    with pytest.raises(UsageError, match=r"c\.jpg is no video"):
        unlabeled_rows(tmp_path / "c.jpg")


def test_unlabelled_errors(tmp_path):
    with pytest.raises(DataError, match="no video file in"):
        unlabeled_rows(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        unlabeled_rows(tmp_path / "nowhere")
    for name, content in (("list.bin", b"\xff\xfe\x00\x80"), ("zeros.txt", bytes(100))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=f"{name} is no text file"):
            unlabeled_rows(tmp_path / name)


def test_align_matches_by_name(touch, tmp_path):
    touch("a/1.mp4", "c/2.mp4")
    rows = align(labeled_rows(tmp_path), ("c", "b", "a"), where=tmp_path)
    assert [row.label for row in rows.rows] == [2, 0]
    assert labeled_rows(tmp_path, classes=("c", "b", "a")) == rows


def test_class_names_give_folders_their_order(touch, write, named):
    folder = touch("set/a/1.mp4", "set/c/2.mp4")
    rows = labeled_rows(folder / "set", class_names=write("names.txt", "c\nb\na\n"))
    assert rows.classes == ("c", "b", "a")
    assert [row.label for row in rows.rows] == [2, 0]
    with pytest.raises(DataError, match=r"set/c/2\.mp4: unknown class 'c'; the classes are those"):
        labeled_rows(folder / "set", class_names=write("names.txt", "b\na\n"))
    # Folders called by ids.
    folder = touch("ids/0/1.mp4", "ids/1/2.mp4")
    rows = labeled_rows(folder / "ids", class_names=write("names.txt", "jump\nrun\n"))
    assert named(rows) == [("ids/0/1.mp4", "jump"), ("ids/1/2.mp4", "run")]
    # Without names, they are names, sorted as such, whatever is in them.
    assert labeled_rows(touch("ids/10/3.mp4") / "ids").classes == ("0", "1", "10")
    rows = labeled_rows(touch("odd/1 3/1.mp4", "odd/up;down/2.mp4") / "odd")
    assert rows.kind == "single" and rows.classes == ("1 3", "up;down")


def test_parts_are_folders(touch, named):
    folder = touch("train/a/1.mp4", "train/b/2.mp4", "val/b/3.mp4", "test/unlabelled.mp4")
    assert named(labeled_rows(folder, part="train")) == [
        ("train/a/1.mp4", "a"),
        ("train/b/2.mp4", "b"),
    ]
    assert named(labeled_rows(folder, part="val")) == [("val/b/3.mp4", "b")]
    everything = labeled_rows(folder)
    assert everything.classes == ("a", "b") and len(everything) == 3
    # A folder without parts is its own validation part.
    assert len(labeled_rows(folder / "train", part="val")) == 2


def test_parts_may_be_called_otherwise(touch, named):
    folder = touch("Training/a/1.mp4", "Training/b/3.mp4", "Validation/a/2.mp4")
    train, val = train_val(folder)
    assert named(train) == [("Training/a/1.mp4", "a"), ("Training/b/3.mp4", "b")]
    assert named(val) == [("Validation/a/2.mp4", "a")]


def test_folders_that_cannot_be_looked_into(touch, named, monkeypatch):
    folder = touch("a/open/1.mp4", "a/closed/2.mp4", "b/3.mp4")
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    closed = "closed"
    with pytest.warns(UserWarning, match=r"a/closed cannot be looked into \(Permission denied\)"):
        assert len(labeled_rows(folder)) == 2
    closed = folder.name
    with pytest.raises(UsageError, match=r"cannot be read: Permission denied"):
        labeled_rows(folder)
