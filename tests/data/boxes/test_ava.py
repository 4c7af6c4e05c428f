"""AVA's lists: multi-label boxes in seconds, with a label map, exclusions and proposals."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from data.boxes.conftest import plain

from vidinit.data.boxes import read_boxes
from vidinit.errors import DataError

# The form of ava_val_v2.2.csv: four digits of a second, three decimals, an action, a person.
LIST = """-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1
-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,9,1
-5KQ66BBWC4,0902,0.226,0.032,0.366,0.497,12,0
-5KQ66BBWC4,0903,0.077,0.151,0.283,0.811,9,1
1j20qq1JyX4,1798,0.000,0.100,0.500,1.000,80,4
"""
# Both spellings that label maps have; 9 and 12, whose ids have a gap, and not 80.
MAP = """item {
  name: "lie/sleep"
  id: 8
}
item {
  name: "run/jog"
  id: 10
}
label {
  name: "read"
  label_id: 9
  label_type: PERSON_MOVEMENT
}
item { name: 'walk' id: 12 }
"""
FIRST, SECOND, MOVED = (
    [0.077, 0.151, 0.283, 0.811],
    [0.226, 0.032, 0.366, 0.497],
    [0.0, 0.1, 0.5, 1.0],
)


def near(boxes):
    return [(v, t, pytest.approx(b, abs=1e-6), names) for v, t, b, names in boxes]


def test_the_same_coordinates_are_one_person(write, one):
    part, said = one(write("ava_val_v2.2.csv", LIST))
    assert plain(part) == near([
        ("-5KQ66BBWC4", 902.0, FIRST, ("9", "80")),
        ("-5KQ66BBWC4", 902.0, SECOND, ("12",)),
        ("-5KQ66BBWC4", 903.0, FIRST, ("9",)),
        ("1j20qq1JyX4", 1798.0, MOVED, ("80",)),
    ])  # fmt: skip
    assert part.boxes.classes == ("9", "12", "80")  # by number, not by text
    assert part.boxes.fractions and part.boxes.frame is None and part.boxes.score is None
    assert (
        "AVA list: boxes and actions of persons, in seconds of the film, classes named by" in said
    )


def test_the_label_map_names_classes_whose_ids_have_gaps(write, one):
    write("ava_action_list_v2.2_for_activitynet_2019.pbtxt", MAP)
    write("ava_action_list_v2.2.pbtxt", MAP + 'item { name: "watch" id: 80 }\n')
    part, said = one(write("ava_val_v2.2.csv", LIST))
    assert part.boxes.classes == ("lie/sleep", "read", "run/jog", "walk")
    assert [names for *_, names in plain(part)] == [("read",), ("walk",), ("read",), ()]
    assert "2 lines of actions that the label map does not name" in said
    assert "classes 4 of the label map" in said


def test_excluded_key_frames_are_left_out_and_said(write, one):
    write("ava_val_excluded_timestamps_v2.2.csv", "-5KQ66BBWC4,0902\nother,1000\n")
    write("ava_val_excluded_timestamps_v2.1.csv", "1j20qq1JyX4,1798\n")
    write("ava_train_excluded_timestamps_v2.2.csv", "-5KQ66BBWC4,0903\n")
    part, said = one(write("ava_val_v2.2.csv", LIST))
    assert [(v, t) for v, t, *_ in plain(part)] == [("-5KQ66BBWC4", 903.0), ("1j20qq1JyX4", 1798.0)]
    assert "3 lines of key frames left out that ava_val_excluded_timestamps_v2.2.csv excl" in said


def test_an_excluded_list_is_no_list_of_boxes_and_a_wrong_one_is_said(write, one):
    write("ava_val_excluded_timestamps_v2.2.csv", "-5KQ66BBWC4\n")
    with pytest.raises(DataError, match=r"v2.2.csv:1: '-5KQ66BBWC4' is no excluded key frame"):
        one(write("ava_val_v2.2.csv", LIST))


def test_proposals_have_scores_and_may_have_no_action(write, one):
    text = "vid,0902,0.1,0.2,0.3,0.4,,0.995\nvid,0902,0.5,0.2,0.75,0.5,9,1\nvid,903,0,0,1,1,,0.5\n"
    part, said = one(write("person_box.csv", text))
    assert plain(part) == near([
        ("vid", 902.0, [0.1, 0.2, 0.3, 0.4], ()),
        ("vid", 902.0, [0.5, 0.2, 0.75, 0.5], ("9",)),
        ("vid", 903.0, [0, 0, 1, 1], ()),
    ])  # fmt: skip
    assert part.boxes.score.tolist() == pytest.approx([0.995, 1.0, 0.5])
    assert part.boxes.track is None and "proposals with a score" in said


def test_proposals_in_a_pickle(tmp_path, one):
    boxes = np.array([[0.1, 0.2, 0.3, 0.4, 0.9], [0, 0, 1, 1, 0.25]])
    file = tmp_path / "dense_proposals.pkl"
    file.write_bytes(pickle.dumps({"vid,0902": boxes, "vid,0903": boxes[:1]}, protocol=2))
    part, said = one(file)
    assert plain(part)[1] == ("vid", 902.0, [0, 0, 1, 1], ())
    assert part.boxes.score.tolist() == pytest.approx([0.9, 0.25, 0.9])
    assert part.boxes.starts.tolist() == [0, 2, 3] and "proposals of AVA" in said
    file.write_bytes(pickle.dumps({"vid,0902": boxes * 100}))
    with pytest.raises(DataError, match=r"'vid,0902'.*corners are fractions"):
        one(file)


@pytest.mark.parametrize(("line", "message"), [
    ("vid,0902,0.1,0.2,0.3,1.4,9,1", r"v.csv:6: 'vid.*' is no line of AVA"),
    ("vid,soon,0.1,0.2,0.3,0.4,9,1", r"v.csv:6: .* is no line of AVA"),
    ("vid,0902,0.1,0.2,0.3,0.4,run,1", r"v.csv:6: .* is no line of AVA"),
    ("vid,0902,0.1,0.2,0.3", r"v.csv:6: .* is no line of AVA"),
    ("vid,0902,0.5,0.2,0.3,0.4,9,1", r"v.csv:6: the box ends before it begins"),
])  # fmt: skip
def test_lines_that_are_wrong(write, line, message):
    with pytest.raises(DataError, match=message):
        read_boxes(write("v.csv", LIST + line + "\n"), find=False)


@pytest.mark.parametrize(("text", "message"), [
    ("", "names no class"),
    ('item { id: 3 }', "an item without a name and an id"),
    ('item { name: "a" id: 3 }\nitem { name: "b" id: 3 }', "'b' with id 3 is named twice"),
    ('item { name: "a" id: 3 }\nitem { name: "a" id: 4 }', "'a' with id 4 is named twice"),
])  # fmt: skip
def test_label_maps_that_are_wrong(write, text, message):
    write("map.pbtxt", text)
    with pytest.raises(DataError, match=message):
        read_boxes(write("v.csv", LIST), find=False)


def test_several_label_maps(write):
    for name in ("a.pbtxt", "b.pbtxt"):
        write(name, MAP)
    with pytest.raises(DataError, match=r"several label maps: a.pbtxt, b.pbtxt"):
        read_boxes(write("v.csv", LIST), find=False)
