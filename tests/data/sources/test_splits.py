from __future__ import annotations

import pytest

from vidinit.data.sources import labeled_rows, train_val, unlabeled_rows
from vidinit.errors import DataError

UCF = {
    "classInd.txt": "1 ApplyEyeMakeup\r\n2 Archery\r\n3 YoYo\r\n",
    "trainlist01.txt": "YoYo/v_YoYo_g08_c01.avi 3\nArchery/v_Archery_g08_c01.avi 2\n",
    "testlist01.txt": "Archery/v_Archery_g01_c01.avi\n"
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\n",
    "trainlist02.txt": "Archery/v_Archery_g01_c01.avi 2\n",
    "testlist02.txt": "Archery/v_Archery_g08_c01.avi\n",
}
VIDEOS = (
    "UCF-101/YoYo/v_YoYo_g08_c01.avi",
    "UCF-101/Archery/v_Archery_g08_c01.avi",
    "UCF-101/Archery/v_Archery_g01_c01.avi",
    "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
)
HMDB = {
    "brush_hair_test_split1.txt": "#20_Long_Hair_brush_hair_u_0.avi 1 \na.avi 2 \nb.avi 0 \n",
    "wave_test_split1.txt": "My [odd] name; wave.avi 1 \nc.avi 2 \n",
    "brush_hair_test_split2.txt": "a.avi 1 \n",
    "wave_test_split2.txt": "c.avi 2 \n",
}


@pytest.fixture
def ucf(touch, write):
    for name, text in UCF.items():
        write(f"ucf/ucfTrainTestlist/{name}", text)
    return touch(*(f"ucf/{name}" for name in VIDEOS)) / "ucf"


@pytest.fixture
def hmdb(touch, write):
    for name, text in HMDB.items():
        write(f"hmdb/splits/{name}", text)
    names = ("brush_hair/#20_Long_Hair_brush_hair_u_0.avi", "brush_hair/a.avi", "brush_hair/b.avi")
    names += ("wave/My [odd] name; wave.avi", "wave/c.avi")
    return touch(*(f"hmdb/videos/{name}" for name in names)) / "hmdb"


def test_ucf101_from_its_lists_or_what_holds_them(ucf, named):
    train, val = train_val(ucf / "ucfTrainTestlist")
    assert train.classes == val.classes == ("ApplyEyeMakeup", "Archery", "YoYo")
    assert named(train) == [
        ("ucf/UCF-101/YoYo/v_YoYo_g08_c01.avi", "YoYo"),
        ("ucf/UCF-101/Archery/v_Archery_g08_c01.avi", "Archery"),
    ]
    assert named(val) == [
        ("ucf/UCF-101/Archery/v_Archery_g01_c01.avi", "Archery"),
        ("ucf/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "ApplyEyeMakeup"),
    ]
    assert train_val(ucf) == (train, val)
    assert labeled_rows(ucf, part="val") == val
    second = train_val(ucf, split=2)
    assert [len(part) for part in second] == [1, 1]
    assert second[0].rows[0] == val.rows[0]
    with pytest.raises(DataError, match=r"has no split 4; data\.split is one of 1, 2"):
        train_val(ucf, split=4)


def test_single_lists_of_ucf101(ucf, named):
    lists = ucf / "ucfTrainTestlist"
    train, val = train_val(lists / "trainlist01.txt", lists / "testlist01.txt")
    assert (train, val) == train_val(ucf)
    assert len(unlabeled_rows(lists / "testlist01.txt")) == 2
    assert len(unlabeled_rows(lists)) == 4
    # Without classInd.txt, the folders of a test list are its classes; other lists are any lists.
    (lists / "classInd.txt").unlink()
    assert labeled_rows(lists / "testlist01.txt").classes == ("ApplyEyeMakeup", "Archery")
    rows = labeled_rows(lists / "trainlist01.txt")
    assert [row.label for row in rows.rows] == [3, 2]
    assert rows.rows[0].path == str(lists / "YoYo/v_YoYo_g08_c01.avi")


def test_ucf101_elsewhere_and_as_frames(ucf, touch, named):
    folder = touch("frames/v_YoYo_g08_c01/img_00001.jpg", "frames/v_Archery_g08_c01/img_00001.jpg")
    rows = labeled_rows(ucf, part="train", root=folder / "frames")
    assert named(rows) == [
        ("frames/v_YoYo_g08_c01", "YoYo"),
        ("frames/v_Archery_g08_c01", "Archery"),
    ]
    (folder / "frames/v_YoYo_g08_c01/img_00001.jpg").unlink()
    rows = labeled_rows(ucf, part="train", root=folder / "frames")
    assert named(rows)[0] == ("frames/YoYo/v_YoYo_g08_c01.avi", "YoYo")  # not there


def test_ucf101_errors(ucf, write):
    listing = ucf / "ucfTrainTestlist/trainlist01.txt"
    listing.write_text("YoYo/v_YoYo_g08_c01.avi 3\nYoYo/v_YoYo_g08_c02.avi 4\n")
    with pytest.raises(DataError, match=r"trainlist01\.txt:2: unknown class '4'; ids run from 1"):
        train_val(ucf)
    listing.write_text("v_YoYo_g08_c01.avi 3\n")
    with pytest.raises(DataError, match=r"trainlist01\.txt:1: no class folder in 'v_YoYo"):
        train_val(ucf)
    listing.write_text("Yoyo/v_YoYo_g08_c01.avi\n")
    (ucf / "Yoyo").mkdir()
    with pytest.raises(DataError, match=r"none of the .* clips that .* lists is below"):
        labeled_rows(listing, root=ucf / "Yoyo")
    with pytest.raises(
        DataError, match=r"trainlist01\.txt:1: unknown class 'Yoyo'; did you mean 'YoYo'"
    ):
        labeled_rows(listing, root=ucf)
    bare = write("lists/testlist01.txt", "YoYo/v.avi\n")
    with pytest.raises(DataError, match=r"no folder 'YoYo' with videos in or beside .*data\.root"):
        labeled_rows(bare)


def test_hmdb51(hmdb, named):
    train, val = train_val(hmdb / "splits")
    assert train.classes == ("brush_hair", "wave")
    assert named(train) == [
        ("hmdb/videos/brush_hair/#20_Long_Hair_brush_hair_u_0.avi", "brush_hair"),
        ("hmdb/videos/wave/My [odd] name; wave.avi", "wave"),
    ]
    assert named(val) == [
        ("hmdb/videos/brush_hair/a.avi", "brush_hair"),
        ("hmdb/videos/wave/c.avi", "wave"),
    ]
    assert train_val(hmdb) == (train, val)
    train, val = train_val(hmdb, split=2, root=hmdb / "videos")
    assert named(train) == [("hmdb/videos/brush_hair/a.avi", "brush_hair")]
    assert named(val) == [("hmdb/videos/wave/c.avi", "wave")]
    with pytest.raises(DataError, match=r"has no split 3; data\.split is one of 1, 2"):
        train_val(hmdb, split=3)
    (hmdb / "splits/wave_test_split1.txt").write_text("c.avi 2\nd.avi 5\n")
    with pytest.raises(DataError, match=r"wave_test_split1\.txt:2: 'd\.avi 5'"):
        train_val(hmdb)
