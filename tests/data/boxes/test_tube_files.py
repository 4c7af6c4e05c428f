"""Tubes in pickles and in Matlab's files: each in its own way of counting."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from data.boxes.conftest import plain

from vidinit.data.boxes import read_boxes
from vidinit.data.boxes.tube_files import UCF24, split_numbers
from vidinit.errors import DataError, UsageError

# Three frames of the same tube in all forms: frames 4, 5 and 6 from 0, 200 + 100 > 255.
CORNERS = [[200, 10, 300, 30], [201, 10, 301, 30], [202, 10, 302, 30]]
SIZES = np.array([[200, 10, 100, 20], [201, 10, 100, 20], [202, 10, 100, 20]], dtype=np.uint8)
VIDEO = "Biking/v_Biking_g01_c01"
EXPECTED = [("v_Biking_g01_c01", 4 + i, CORNERS[i], ("Biking",)) for i in range(3)]


def save(tmp_path, value, protocol=2, name="annotations.pkl"):
    file = tmp_path / name
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    return file


def act(**more):
    """JHMDB-GT.pkl and UCF101v2-GT.pkl: frames from 1."""
    tube = np.array([[5 + i, *CORNERS[i]] for i in range(3)], dtype=np.float32)
    other = np.array([[1, 0, 0, 10, 10]], dtype=np.float32)
    return {
        "labels": list(UCF24),
        "gttubes": {VIDEO: {2: [tube]}, "Diving/v_Diving_g01_c02": {5: [other, other + 1]}},
        "nframes": {VIDEO: 100, "Diving/v_Diving_g01_c02": 90},
        "train_videos": [["Diving/v_Diving_g01_c02"], []],
        "test_videos": [[VIDEO], [VIDEO]],
        "resolution": {VIDEO: (240, 320), "Diving/v_Diving_g01_c02": (240, 320)},
        **more,
    }


def pyannot(first=4, end=7, boxes=SIZES, label=2, numf=100):
    """As Python 2 and numpy wrote it: texts of numpy, and numbers of 8 and 16 bits."""
    tube = {"sf": np.uint8(first), "ef": np.uint8(end), "label": label, "boxes": boxes}
    return {np.str_(VIDEO): {"numf": np.uint8(numf), "label": label, "annotations": [tube]}}


def test_frames_of_act_count_from_1(tmp_path):
    with pytest.warns(UserWarning, match=r"in the form of ACT: frames from 1.*, split 1"):
        train, test = read_boxes(save(tmp_path, act()), find=False)
    assert (train.name, test.name) == ("train", "test")
    assert plain(test) == EXPECTED
    assert [when for _, when, *_ in plain(train)] == [0, 1]
    assert test.boxes.classes == UCF24 and train.boxes.track.tolist() == [2, 3]


def test_videos_in_no_part_of_the_split_are_said(tmp_path):
    file = save(tmp_path, act())
    with pytest.warns(UserWarning, match="2 tubes of videos in no part of split 2"):
        (test,) = read_boxes(file, find=False, split=2)
    assert test.name == "test" and plain(test) == EXPECTED
    with pytest.raises(UsageError, match=r"has no split 3; data.split runs from 1 to 2"):
        read_boxes(file, find=False, split=3)


def test_a_frame_0_of_act_is_refused(tmp_path):
    value = act(gttubes={VIDEO: {2: [np.array([[0, 0, 0, 9, 9]])]}})
    with pytest.raises(DataError, match=r"Biking.*frame -1, counted from 0, is none; .* from 1"):
        read_boxes(save(tmp_path, value), find=False)


def test_8_bits_do_not_wrap_around(tmp_path, one):
    """200 + 100 in 8 bits is 44, left of the box's own beginning."""
    assert int((SIZES[:, 0] + SIZES[:, 2])[0]) == 44
    part, said = one(save(tmp_path, pyannot()))
    assert plain(part) == EXPECTED and part.boxes.classes == UCF24
    assert "frames from 0, the end not part of a tube" in said
    # sf of 8 bits: 200 + 100 frames.
    many = np.repeat(SIZES[:1], 55, axis=0)
    part, _ = one(save(tmp_path, pyannot(200, 255, many, numf=255)))
    assert [when for _, when, *_ in plain(part)] == list(range(200, 255))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", ">u2"])
def test_boxes_of_any_kind_of_number(tmp_path, one, dtype):
    assert plain(one(save(tmp_path, pyannot(boxes=SIZES.astype(dtype))))[0]) == EXPECTED


def test_the_end_is_not_part_of_a_tube(tmp_path):
    with pytest.raises(DataError, match=r"Biking.*\(4, 6\).*from sf to ef, 3 boxes are expected"):
        read_boxes(save(tmp_path, pyannot(end=6)), find=False)


def test_tubes_behind_the_end_of_their_video_are_said(tmp_path, one):
    assert "1 tubes go on behind the end" in one(save(tmp_path, pyannot(numf=6)))[1]
    assert "behind the end" not in one(save(tmp_path, pyannot(numf=7)))[1]


def test_classes_and_training_videos_beside_it(tmp_path):
    names = [*UCF24[:2], "Cycling"]
    other = {"Cycling/v_2": pyannot()[np.str_(VIDEO)]}
    value = {"db": pyannot() | other, "classes": names, "trainvideos": [VIDEO, "not/there"]}
    with pytest.warns(UserWarning, match="1 of its training videos have no boxes, as not/there"):
        train, test = read_boxes(save(tmp_path, value), find=False)
    assert (train.name, test.name) == ("train", "test")
    assert plain(train) == [(*row[:3], ("Cycling",)) for row in EXPECTED]


@pytest.mark.parametrize(("value", "message"), [
    (pyannot(label=24), r"Biking.*'?24'? is not understood; labels are numbers from 0 to 23"),
    (pyannot(boxes=SIZES[:, :3]), r"Biking.*boxes are \(3, 3\); expected an array \(n, 4\)"),
    (pyannot(boxes=[1, 2]), r"Biking.*boxes are list"),
    (pyannot(boxes=np.full((3, 4), np.nan)), r"a coordinate is not a number"),
    (act(labels=5), r"labels: 5 is not understood; expected a list of names"),
    (act(train_videos=[5], test_videos=[[]]), r"train_videos: 5 is not understood"),
    ({"db": pyannot(), "classes": 5}, r"classes: 5 is not understood"),
    ({"db": 5}, r"db: 5 is not understood"),
    (act(labels=None), r"no 'labels' and 'gttubes'"),
    (act(gttubes={VIDEO: {30: []}}), r"30 is not understood; labels are numbers from 0 to 23"),
    (act(gttubes={VIDEO: {2: 5}}), r"5 is not understood; expected a list of tubes"),
    ({"a": {"annotations": 5}}, r"'a'.*5 is not understood; expected a list of tubes"),
    ({"a": {"annotations": [5]}}, r"'a'.*5 is not understood; a tube is"),
    ({"a": {"annotations": [{}]}}, r"boxes are NoneType"),
    ({"a": 1}, r"holds no boxes in a known form \(a\)"),
    ([1, 2], r"holds no boxes in a known form \(list\)"),
    ({}, r"holds no boxes in a known form"),
])  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, value, message):
    with pytest.raises(DataError, match=message):
        read_boxes(save(tmp_path, value), find=False)


def test_videos_and_folders_of_frames_are_found(tmp_path, one):
    """Flow beside the frames, and the same name below two classes."""
    for place in ("rgb-images", "brox-images"):
        for folder in ("Biking", "Diving"):
            frames = tmp_path / "data" / place / folder / "v_1"
            frames.mkdir(parents=True)
            (frames / "00001.jpg").touch()
    value = pyannot()
    value = {"Biking/v_1": value[np.str_(VIDEO)], "Diving/v_1": value[np.str_(VIDEO)]}
    part, said = one(save(tmp_path, value), root=tmp_path / "data", find=True)
    rgb = tmp_path / "data" / "rgb-images"
    assert [row.path for row in part.rows.rows] == [
        str(rgb / "Biking/v_1"),
        str(rgb / "Diving/v_1"),
    ]
    assert "may be" not in said
    with pytest.raises(DataError, match=r"none of the 1 clips that .* is below"):
        one(save(tmp_path, pyannot()), root=tmp_path / "data", find=True)


# Matlab: the same tube, counted from 1 with both ends.


def mat(tmp_path, last=7, label=3, boxes=SIZES, several=1):
    scipy_io = pytest.importorskip("scipy.io")
    kinds = [(key, object) for key in ("ef", "sf", "class", "boxes")]
    tube = (np.int32(last), np.int32(5), np.int32(label), boxes.astype(np.float64))
    tubes = np.array([[tube] * several], dtype=kinds)
    videos = np.array(
        [[(np.int32(100), VIDEO, tubes), (np.int32(90), "Diving/v_2", np.zeros((0, 0)))]],
        dtype=[("num_imgs", object), ("name", object), ("tubes", object)],
    )
    file = tmp_path / "finalAnnots.mat"
    scipy_io.savemat(file, {"annot": videos})
    return file


@pytest.mark.parametrize("several", [1, 2])
def test_frames_of_matlab_count_from_1_and_both_ends_are_part(tmp_path, one, several):
    """One tube is squeezed to no list of tubes."""
    part, said = one(mat(tmp_path, several=several))
    assert plain(part) == [row for row in EXPECTED for _ in range(several)]
    assert "frames from 1, both ends part of a tube" in said
    assert len(part.rows) == 1  # a video without tubes has no key frame


def test_one_box_is_squeezed_too(tmp_path, one):
    part, _ = one(mat(tmp_path, last=5, boxes=SIZES[:1]))
    assert plain(part) == EXPECTED[:1]


def test_what_is_wrong_in_a_mat_file(tmp_path):
    with pytest.raises(DataError, match=r"\(5, 8\).*from sf to ef, 3 boxes are expected"):
        read_boxes(mat(tmp_path, last=8), find=False)
    with pytest.raises(DataError, match=r"25 is not understood; classes count from 1 to 24"):
        read_boxes(mat(tmp_path, label=25), find=False)
    file = tmp_path / "other.mat"
    file.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"x" * 100)
    with pytest.raises(DataError, match=r"no file of Matlab that is read \(version 7.3\); save it"):
        read_boxes(file, find=False)
    pytest.importorskip("scipy.io").savemat(file, {"other": np.zeros(3)})
    with pytest.raises(DataError, match="no struct 'annot'"):
        read_boxes(file, find=False)


def test_how_many_splits_a_file_has(tmp_path):
    assert split_numbers(str(save(tmp_path, act()))) == [1, 2]
    assert split_numbers(str(save(tmp_path, {"other": 1}))) == []
    assert split_numbers(str(tmp_path / "none.pkl")) == split_numbers(str(tmp_path)) == []
