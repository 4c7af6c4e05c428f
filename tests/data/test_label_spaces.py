"""Which sources share a head, and which of their clips are in each other's."""

from __future__ import annotations

import pytest
from data.kinetics_classes import kinetics

from vidinit.data.label_spaces import (
    RENAMED,
    label_spaces,
    overlapping,
    same_class,
    video_id,
    without_leaks,
)
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


def test_three_kinetics_have_710_classes():
    """400 + 600 + 700 names are 723 by their letters; 13 of them are renamed."""
    sets = kinetics()
    assert [len(set(names)) for names in sets.values()] == [400, 600, 700]
    assert len({same_class(name) for names in sets.values() for name in names}) == 723
    groups = overlapping(sets)
    assert groups == dict.fromkeys(sets, "k400+k600+k700")
    spaces = label_spaces(sets, groups)
    joint = spaces.classes["k400+k600+k700"]
    assert len(joint) == len(set(joint)) == 710
    assert joint[:400] == sets["k400"]  # the first source's names
    for source, names in sets.items():
        assert len(set(spaces.outputs[source])) == len(names)
    place = {s: dict(zip(sets[s], spaces.outputs[s], strict=True)) for s in sets}
    assert place["k400"]["hugging"] == place["k700"]["hugging (not baby)"]
    assert place["k600"]["hugging baby"] not in spaces.outputs["k400"]
    assert place["k400"]["picking fruit"] == place["k700"]["picking apples"]
    assert place["k600"]["picking fruit"] == place["k700"]["picking apples"]
    for first, second, count in (
        ("k400", "k600", 618),
        ("k600", "k700", 702),
        ("k400", "k700", 708),
    ):
        two = {first: sets[first], second: sets[second]}
        merged = label_spaces(two, overlapping(two)).classes[f"{first}+{second}"]
        assert len(merged) == count, (first, second)


def test_other_data_shares_a_renamed_class_by_the_name_that_kinetics_gives_it():
    """Neither a subset of Kinetics-400 nor other data loses a class for its having been renamed."""
    sets = {"k400": kinetics()["k400"], "mine": ["hugging", "Making_bed", "sipping cup"]}
    spaces = label_spaces(sets, overlapping(sets))
    joint = spaces.classes["k400+mine"]
    assert joint == [*sets["k400"], "sipping cup"]
    assert [joint[i] for i in spaces.outputs["mine"]] == ["hugging", "making bed", "sipping cup"]
    sets = {"mine": ["hugging", "sipping cup"], **kinetics()}
    spaces = label_spaces(sets, overlapping(sets))
    assert len(spaces.classes["mine+k400+k600+k700"]) == 710
    place = dict(zip(sets["k400"], spaces.outputs["k400"], strict=True))
    assert spaces.outputs["mine"] == [place["hugging"], place["drinking"]]
    only = {"k400": sets["k400"], "mine": ["hugging"]}
    assert overlapping(only) == dict.fromkeys(only, "k400+mine")


def test_words_of_kinetics_mean_what_they_say_in_other_data():
    """A few classes of one's own are none of an edition's, though they share two of its words."""
    mine, theirs = ["drinking", "sipping cup", "yoga"], ["yoga", "sipping cup"]
    spaces = label_spaces({"a": mine, "b": theirs}, {"a": "a+b", "b": "a+b"})
    assert spaces.classes["a+b"] == mine
    both = [*RENAMED, *RENAMED.values()]
    with pytest.raises(DataError, match="has the classes 'balloon blowing' and 'inflating balloo"):
        label_spaces({"a": both, "b": theirs}, {"a": "a+b", "b": "a+b"})
