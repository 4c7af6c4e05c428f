from __future__ import annotations

import json
import os

import pytest

from vidinit.data.sources import labeled_rows, train_val, unlabeled_rows
from vidinit.errors import DataError

KINETICS = (
    "label,youtube_id,time_start,time_end,split,is_cc\n"
    '"air drumming",-3B32lodo2M,59,69,train,0\n'
    "abseiling,_dbcJuKJQNs,40,50,train,0\n"
    "abseiling,0wR5jVB-WPk,417,427,train,0\n"
    '"air drumming",xxxxxxxxxxx,1,11,train,0\n'
)
EPIC = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
    "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,2,door,1,"
    "['door'],[1]\n"
    "P01_01_1,P01,P01_01,00:00:02.629,00:01:04.37,00:01:06.17,262,370,turn on light,turn-on,0,"
    "light,0,['light'],[0]\n"
    "P02_07_0,P02,P02_07,00:00:02.629,00:00:01,00:00:02,262,370,close door,close,1,door,1,"
    "['door'],[1]\n"
)
TRAIN = [
    {
        "id": "78687",
        "label": "holding potato next to vicks vaporub bottle",
        "template": "Holding [something] next to [something]",
        "placeholders": ["potato", "vicks vaporub bottle"],
    },
    {"id": "42326", "label": "closing a box", "template": "Closing [something]"},
    {"id": "1", "label": "closing a jar", "template": "Closing [something]"},
]


def test_kinetics_file_names(touch, write, named):
    folder = touch(
        "train/air drumming/-3B32lodo2M_000059_000069.mp4",
        "train/abseiling/_dbcJuKJQNs.mkv",
        "other/0wR5jVB-WPk_000417_000427.mp4",
        "train/abseiling/0wR5jVB-WPk_000417_000427.webm",
    )
    listing = write("kinetics_train.csv", KINETICS)
    rows = labeled_rows(listing)
    assert named(rows) == [
        ("train/air drumming/-3B32lodo2M_000059_000069.mp4", "air drumming"),
        ("train/abseiling/_dbcJuKJQNs.mkv", "abseiling"),
        ("train/abseiling/0wR5jVB-WPk_000417_000427.webm", "abseiling"),
        # Not there: kept, for the index to name.
        ("train/air drumming/xxxxxxxxxxx_000001_000011.mp4", "air drumming"),
    ]
    assert rows.classes == ("abseiling", "air drumming")
    assert all(row.start is None and row.end is None for row in rows.rows)
    assert labeled_rows(listing, root=folder / "other").rows[2].path == str(
        folder / "other/0wR5jVB-WPk_000417_000427.mp4"
    )


def test_kinetics_folders_with_underscores_and_test_lists(touch, write, named):
    folder = touch("videos/air_drumming/-3B32lodo2M_000059_000069.mp4")
    listing = write("train.csv", KINETICS)
    assert named(labeled_rows(listing, root=folder / "videos"))[-1] == (
        "videos/air_drumming/xxxxxxxxxxx_000001_000011.mp4",
        "air drumming",
    )
    bare = write("test.csv", "youtube_id,time_start,time_end,split\n-3B32lodo2M,59,69,test\n")
    assert [row.path for row in unlabeled_rows(bare, root=folder / "videos").rows] == [
        str(folder / "videos/air_drumming/-3B32lodo2M_000059_000069.mp4")
    ]
    with pytest.raises(DataError, match=r"test\.csv: no column with a label"):
        labeled_rows(bare)


def test_kinetics_parts(touch, write):
    touch("a/-3B32lodo2M.mp4")
    listing = write(
        "all.csv", KINETICS.replace("xxxxxxxxxxx,1,11,train", "xxxxxxxxxxx,1,11,validate")
    )
    train, val = train_val(listing)
    assert (len(train), len(val)) == (3, 1)


def test_nothing_found_asks_for_the_root(write):
    with pytest.raises(
        DataError,
        match=r"none of the 4 clips that .*train\.csv lists is below .*; give .*data\.root",
    ):
        labeled_rows(write("train.csv", KINETICS))


def test_each_folder_is_listed_once(touch, write, monkeypatch):
    names = [f"c{i % 3}/{i:011d}_000000_000010.mp4" for i in range(60)]
    folder = touch(*(f"videos/{name}" for name in names))
    lines = [f"c{i % 3},{i:011d},0,10,train" for i in range(60)]
    listing = write("train.csv", "\n".join(["label,youtube_id,time_start,time_end,split", *lines]))
    looked = []

    def counting(function):
        def call(path, *args, **kwargs):
            if not isinstance(path, int) and str(path).startswith(str(folder)):
                looked.append(str(path))
            return function(path, *args, **kwargs)

        return call

    for name in ("scandir", "stat", "lstat", "listdir"):
        monkeypatch.setattr(os, name, counting(getattr(os, name)))
    rows = labeled_rows(listing, root=folder / "videos")
    assert [row.path for row in rows.rows] == [str(folder / "videos" / name) for name in names]
    assert not [path for path in looked if path.endswith(".mp4")]
    assert len(looked) < 40  # far fewer than one look a row


def test_something_something(touch, write, named):
    folder = touch(
        "20bn/78687.webm", "20bn/42326.webm", "frames/78687/000001.jpg", "frames/1/1.jpg"
    )
    labels = {"Holding something next to something": "0", "Closing something": "1", "Unused": "2"}
    write("labels.json", json.dumps(labels))
    listing = write("train.json", json.dumps(TRAIN))
    rows = labeled_rows(listing, root=folder / "20bn")
    assert rows.classes == tuple(labels)
    assert named(rows) == [
        ("20bn/78687.webm", "Holding something next to something"),
        ("20bn/42326.webm", "Closing something"),
        ("20bn/1.webm", "Closing something"),
    ]
    # Below the folder of the list; videos before frames, frames where there is no video.
    assert [path for path, _ in named(labeled_rows(listing))] == [
        "20bn/78687.webm",
        "20bn/42326.webm",
        "frames/1",
    ]
    bare = write("test.json", json.dumps([{"id": "78687"}, {"id": "42326"}]))
    assert [os.path.basename(row.path) for row in unlabeled_rows(bare).rows] == [
        "78687.webm",
        "42326.webm",
    ]
    with pytest.raises(DataError, match=r"test\.json: no column with a label among id"):
        labeled_rows(bare)


def test_something_something_class_orders(touch, write):
    touch("v/78687.mp4", "v/42326.mp4", "v/1.mp4")
    listing = write("something-something-v2-train.json", json.dumps(TRAIN))
    both = ("Closing something", "Holding something next to something")
    assert labeled_rows(listing).classes == both
    write("something-something-v2-labels.json", json.dumps({both[1]: "0", both[0]: "1"}))
    assert labeled_rows(listing).classes == both[::-1]
    names = write("names.txt", "\n".join(both))
    assert labeled_rows(listing, class_names=names).classes == both
    write("something-something-v2-labels.json", json.dumps({both[1]: "0", "Closing it": "1"}))
    with pytest.raises(DataError, match=r"train\.json, entry 2: unknown class 'Closing something'"):
        labeled_rows(listing)


def test_a_folder_called_as_an_id_is_not_always_frames(touch, write, named):
    """Videos may be spread over numbered folders, and 1 is an id."""
    touch("videos/1/78687.webm", "videos/1/42326.webm", "videos/1/1.webm")
    rows = labeled_rows(write("train.json", json.dumps(TRAIN)))
    assert [path for path, _ in named(rows)] == [
        "videos/1/78687.webm",
        "videos/1/42326.webm",
        "videos/1/1.webm",
    ]


def test_epic_kitchens(touch, write, named):
    touch("P01/videos/P01_01.MP4", "P01/rgb_frames/P02_07/frame_0000000001.jpg")
    listing = write("EPIC_100_train.csv", EPIC)
    rows = labeled_rows(listing)
    assert rows.kind == "pair" and (rows.classes, rows.nouns) == (("0", "1", "2"), ("0", "1"))
    write(
        "EPIC_100_verb_classes.csv",
        'id,key,instances,category\n0,turn-on,"[]",x\n1,close,"[]",x\n2,open,"[]",x\n',
    )
    write(
        "EPIC_100_noun_classes.csv",
        "id,key,instances,category\n0,light,\"['a', 'b']\",x\n1,door,\"[]\",x\n",
    )
    rows = labeled_rows(listing)
    assert (rows.classes, rows.nouns) == (("turn-on", "close", "open"), ("light", "door"))
    assert named(rows) == [
        ("P01/videos/P01_01.MP4", "open door"),
        ("P01/videos/P01_01.MP4", "turn-on light"),
        ("P02/videos/P02_07.MP4", "close door"),  # not there
    ]
    assert [(row.start, row.end) for row in rows.rows] == [(0.14, 3.37), (64.37, 66.17), (1, 2)]
    bare = unlabeled_rows(listing)
    assert [(row.label, row.start) for row in bare.rows] == [(None, 0.14), (None, 64.37), (None, 1)]
    with pytest.raises(DataError, match=r"train\.csv:2: unknown class '9'; ids run from 0 to 2"):
        labeled_rows(write("EPIC_100_train.csv", EPIC.replace("open,2,", "open,9,")))


def test_other_ids(touch, write, named):
    touch("clips/7.avi")
    rows = labeled_rows(write("train.csv", "video_id,label\n7,run\n8,jump\n"))
    assert named(rows) == [("clips/7.avi", "run"), ("clips/8.avi", "jump")]


def test_a_name_of_several_files_is_said(touch, write):
    """The first by path is taken; of a video and a picture it is the video, without a word."""
    for name in ("a/1.avi", "b/1.avi", "a/2.avi", "b/2.jpg", "b/3.avi"):
        touch(name)
    file = write("list.csv", "1;Doing this\n2;Doing that\n3;Doing this\n")
    with pytest.warns(UserWarning) as caught:
        rows = labeled_rows(file, kinds="any")
    assert [row.path.split(os.sep)[-2:] for row in rows.rows] == [
        ["a", "1.avi"],
        ["a", "2.avi"],
        ["b", "3.avi"],
    ]
    (told,) = [str(one.message) for one in caught if "may be" in str(one.message)]
    assert "'1' may be " in told and told.count("1.avi") == 2 and "the first is taken;" in told
