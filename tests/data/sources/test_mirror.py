from __future__ import annotations

import pytest

from vidinit.data.rows import Row, Rows
from vidinit.data.sources import flippable, mirrored
from vidinit.data.sources.classes import swap_sides
from vidinit.errors import UsageError

SSV2 = (  # all of its classes that have a side
    ("Pulling something from left to right", "Pulling something from right to left"),
    ("Pushing something from left to right", "Pushing something from right to left"),
    (
        "Turning the camera left while filming something",
        "Turning the camera right while filming something",
    ),
)


@pytest.mark.parametrize(
    "name",
    [
        *("Pushing something from left to right", "swipe_left", "TurnRight", "Left", "LEFT-hand"),
        *("move leftwards", "hand_right", "punch (right)", "rightHand"),
    ],
)
def test_left_and_right_forbid_mirroring(name):
    assert not flippable(["run", name])


def test_other_words_do_not():
    assert flippable(["bright light", "upright", "eating leftovers", "copyright", "Lefty", "drift"])
    assert flippable([])


@pytest.mark.parametrize(
    ("name", "other"),
    [
        *SSV2,
        ("swipe_left", "swipe_right"),
        ("TurnRight", "TurnLeft"),
        ("LEFT-hand", "RIGHT-hand"),
        ("move leftwards", "move rightwards"),
        ("bright lefty", "bright lefty"),
    ],
)
def test_left_and_right_are_exchanged(name, other):
    assert (swap_sides(name), swap_sides(other)) == (other, name)


def labels_of(rows: Rows) -> list:
    return [row.label for row in rows.rows]


def test_labels_of_mirrored_rows():
    classes = ("away", *(name for pair in SSV2 for name in pair))
    rows = Rows((*(Row(f"{i}.mp4", i) for i in range(7)), Row("none.mp4")), classes)
    other = mirrored(rows, "ssv2")
    assert labels_of(other) == [0, 2, 1, 4, 3, 6, 5, None]
    assert [row.path for row in other.rows] == [row.path for row in rows.rows]
    assert mirrored(other, "ssv2") == rows, "twice is not at all"
    assert other.rows[0] is rows.rows[0]
    assert mirrored(Rows((Row("a"),)), "videos") == Rows((Row("a"),)), "without labels"


def test_labels_of_other_kinds():
    rows = Row("a", (0, 1)), Row("b", (1, 2)), Row("c", ())
    several = Rows(rows, ("run", "left", "right"), "multi")
    assert labels_of(mirrored(several, "x")) == [(0, 2), (1, 2), ()]
    rows = Row("a", (0, 1)), Row("b", (1, 0)), Row("c")
    pairs = Rows(rows, ("left", "right"), "pair", ("right cup", "left cup"))
    assert labels_of(mirrored(pairs, "x")) == [(1, 0), (0, 1), None]


def test_a_class_without_a_partner_is_refused():
    rows = Rows((), ("go left", "right turn", "left turn"))
    with pytest.raises(UsageError, match=r"'go left' of mine has no partner 'go right'; with"):
        mirrored(rows, "mine")
    rows = Rows((), ("put",), "pair", ("left cup", "Right"))
    with pytest.raises(UsageError, match=r"no partner 'right cup', nor has any of 1 more; with"):
        mirrored(rows, "mine")
