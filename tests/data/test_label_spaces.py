"""Which sources share a head, and which of their clips are in each other's."""

from __future__ import annotations

import pytest

from vidinit.data.label_spaces import label_spaces, overlapping, video_id, without_leaks
from vidinit.data.rows import Row, Rows
from vidinit.errors import DataError

K4, K6 = ["abseiling", "Playing Guitar", "yoga"], ["yoga", "playing_guitar", "adjusting glasses"]


def test_each_source_has_a_head_of_its_own_unless_it_is_said():
    spaces = label_spaces({"k4": K4, "k6": K6})
    assert spaces.classes == {"k4": K4, "k6": K6}
    assert spaces.head == {"k4": "k4", "k6": "k6"}
    assert spaces.outputs == {"k4": [0, 1, 2], "k6": [0, 1, 2]}
    assert spaces.is_whole("k6")


def test_classes_of_one_name_are_one_output():
    classes = {"k4": K4, "photos": ["yoga"], "k6": K6}
    spaces = label_spaces(classes, {"k4": "k", "k6": "k"})
    assert list(spaces.classes) == ["k", "photos"], "the first source's head is the first"
    assert spaces.classes["k"] == ["abseiling", "Playing Guitar", "yoga", "adjusting glasses"]
    assert spaces.outputs == {"k4": [0, 1, 2], "photos": [0], "k6": [2, 1, 3]}
    assert not spaces.is_whole("k4") and not spaces.is_whole("k6") and spaces.is_whole("photos")
    for source, names in classes.items():
        outputs = spaces.outputs[source]
        assert len(set(outputs)) == len(outputs) == len(names)


def test_sources_that_share_classes_are_found():
    classes = {"a": ["x", "Y"], "b": ["p"], "c": ["y", "q"], "d": ["Q "], "e": ["z"]}
    assert overlapping(classes) == {"a": "a+c+d", "c": "a+c+d", "d": "a+c+d"}
    assert overlapping({"a": ["x"], "b": ["y"]}) == {}
    joined_late = {"a": ["x"], "b": ["y"], "c": ["x", "y"]}
    assert overlapping(joined_late) == dict.fromkeys("abc", "a+b+c")


def test_a_label_that_means_two_things_is_refused():
    with pytest.raises(DataError, match="'Brush Hair' and 'brush_hair', which a merged head"):
        label_spaces({"a": ["Brush Hair", "brush_hair"], "b": ["x"]}, {"a": "ab", "b": "ab"})
    assert label_spaces({"a": ["Brush Hair", "brush_hair"]}).outputs["a"] == [0, 1]


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("k400/train/abseiling/0347ZoDXyP0_000095_000105.mp4", "0347ZoDXyP0"),
        ("-0IErS_cisg_000017_000027.webm", "-0IErS_cisg"),
        ("shard-0.tar::abseiling/0347ZoDXyP0_000095_000105.mp4@1536+88", "0347ZoDXyP0"),
        ("ucf/v_Archery_g01_c01.avi", None),
        ("left/0001.mp4", None),
        ("video_00004.mp4", None),
    ],
)
def test_ids_are_told_from_names_that_say_nothing(path, want):
    assert video_id(Row(path)) == want


def rows(*names: str) -> Rows:
    return Rows(tuple(Row(f"{name}.mp4", 0) for name in names), ("yoga",))


A, B, C, D = (f"{letter * 11}_000001_000011" for letter in "abcd")


def test_what_is_tested_anywhere_is_trained_on_nowhere():
    train = {"k4": rows(A, B, "0001"), "k6": rows("0001", C, D, f"{'a' * 11}_000050_000060")}
    left, dropped = without_leaks(train, {"k4": rows(f"{'c' * 11}_000000_000010"), "k6": None})
    assert [row.path for row in left["k4"].rows] == [f"{n}.mp4" for n in (A, B, "0001")]
    assert [row.path for row in left["k6"].rows] == ["0001.mp4", f"{D}.mp4"]
    assert dropped == {"k6": 2}, "the id that k4 tests on, and the one it has already"
