from __future__ import annotations

import pytest

from vidinit.data.sources import labeled_rows, train_val, unlabeled_rows
from vidinit.errors import DataError

NTU = (
    "S001C001P001R001A001",
    "S001C002P003R001A002",
    "S002C003P002R002A060",
    "S018C001P103R001A061",
)
SMARTHOME = (
    *("Cook.Cleandishes_p02_r00_v02_c03", "Walk_p03_r01_v04_c01", "Walk_p10_r01_v04_c05"),
    *("Drink.Fromcup_p04_r01_v04_c02", "Drink.Fromcup_p04_r02_v04_c01"),
)


@pytest.fixture
def ntu(touch):
    names = (f"nturgb+d_rgb_s{name[1:4]}/{name}_rgb.avi" for name in NTU)
    return touch(*(f"ntu/{name}" for name in names), "ntu/nturgb+d_rgb_s001/.hidden.avi") / "ntu"


def labels_of(rows) -> list[tuple[str, str]]:
    assert rows.classes is not None
    return [(row.path.split("/")[-1][:20], rows.classes[row.label]) for row in rows.rows]


def test_ntu_rgb_d(ntu):
    with pytest.warns(UserWarning, match=r"ntu: NTU RGB\+D, .* split 1 \(cross-subject\)$"):
        train, val = train_val(ntu)
    assert train.classes == val.classes == ("A001", "A002", "A060", "A061")
    assert labels_of(train) == [(NTU[0], "A001"), (NTU[2], "A060"), (NTU[3], "A061")]
    assert labels_of(val) == [(NTU[1], "A002")]
    by_camera = train_val(ntu, split=2)
    assert [len(part) for part in by_camera] == [2, 2]
    assert labels_of(by_camera[0]) == [(NTU[1], "A002"), (NTU[2], "A060")]
    by_setup = train_val(ntu, split=3)
    assert labels_of(by_setup[0]) == [(NTU[2], "A060"), (NTU[3], "A061")]
    with pytest.raises(DataError, match=r"no split 4; data\.split is 1 \(cross-subject\), 2"):
        train_val(ntu, split=4)
    assert len(unlabeled_rows(ntu)) == 4


def test_toyota_smarthome(touch):
    folder = touch(*(f"mp4/{name}.mp4" for name in SMARTHOME)) / "mp4"
    train, val = train_val(folder)
    assert train.classes == ("Cook.Cleandishes", "Drink.Fromcup", "Walk")
    assert [len(train), len(val)] == [3, 2]
    with pytest.warns(UserWarning, match=r"\(cross-view 1\); 1 clips are in none of its parts"):
        train, val = train_val(folder, split=2)
    assert [row.path.split("/")[-1] for row in (*train.rows, *val.rows)] == [
        f"{SMARTHOME[i]}.mp4" for i in (4, 1, 2)
    ]


def test_folders_of_a_class_are_what_they_are(touch, named):
    folder = touch("set/drink/S001C001P001R001A001.avi", "set/eat/S001C001P001R001A002.avi") / "set"
    assert labeled_rows(folder).classes == ("drink", "eat")
    folder = touch("other/x/S001C001P001R001A001.avi", "other/x/a.avi", "other/y/b.avi") / "other"
    assert labeled_rows(folder).classes == ("x", "y")
