"""The annotation files that public data sets and code bases come with, by their real headers.

Each is read to the rows that its data set means, or refused with the place of what is not
understood. Files that lists name are only there; none is opened.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from vidinit.data.rows import Rows
from vidinit.data.sources import labeled_rows, unlabeled_rows
from vidinit.errors import DataError, UsageError


@dataclass(frozen=True)
class Form:
    """A list, and what it has to become.

    Attributes:
        name: of its file.
        text: what is in it.
        rows: (path, label) or (path, label, start, end) of its rows; labels of several are joined
            by +, those of a pair by a space.
        note: what is said of it; empty for nothing.
        files: what else is there.
        beside: other texts beside the list, by name.
        classes: all classes in order, where they are more than those of the rows, sorted.
    """

    name: str
    text: str
    rows: tuple[tuple, ...]
    note: str = ""
    files: tuple[str, ...] = ()
    beside: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None


def frames(*folders: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{i:05d}.jpg" for folder in folders for i in (1, 2))


CHARADES = (
    "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
    '46GP8,HR43,Kitchen,6,7,Yes,"A person cooks, then washes.",food;stove,"A person cooks.",'
    "c092 11.90 21.20;c147 0.00 12.60,24.83\n"
    "N11GT,0KZ7,Stairs,5,7,Yes,A person runs.,stairs,A person runs.,c092 0.00 5.00,30.10\n"
    "ZZZZZ,UVWX,Garage,4,4,Yes,Nothing.,car,Nothing.,,10.00\n"
)
HACS = (
    "classname,youtube_id,subset,start,end,label\n"
    "Archery,a2X2hz1G6i8,training,15.5,17.5,1\n"
    "Archery,NUdji_CqvcY,training,77.5,79.5,-1\n"
    "Zumba,0O_qMHxBfXg,training,24.5,26.5,1\n"
)
DIVING = [
    {"vid_name": "kELXBK1TLSI_00001", "start_frame": 0, "end_frame": 175, "label": 1},
    {"vid_name": "NCxQ5Zbz1wQ_00055", "start_frame": 0, "end_frame": 90, "label": 0},
]
HVU = [
    {"filename": "a.mp4", "label": {"action": [180], "concept": [250, 131], "scene": []}},
    {"filename": "b.mp4", "label": {"action": [180], "scene": [206]}},
]
ACTIVITYNET = {
    "version": "VERSION 1.3",
    "taxonomy": [{"nodeName": "Root", "nodeId": 0, "parentId": None, "parentName": None}],
    "database": {
        "sJxn0rXpn3Y": {
            "duration": 82.73,
            "subset": "training",
            "resolution": "1280x720",
            "url": "https://www.youtube.com/watch?v=sJxn0rXpn3Y",
            "annotations": [
                {"segment": [0.01, 64.53], "label": "Powerbocking"},
                {"segment": [70.0, 82.0], "label": "Zumba"},
            ],
        },
        "hDPLy21Yyuk": {"duration": 61.0, "subset": "testing", "annotations": []},
    },
}
COIN = {
    "database": {
        "-8NaVGEccgc": {
            "recipe_type": 131,
            "duration": 62.7,
            "video_url": "https://www.youtube.com/embed/-8NaVGEccgc",
            "start": 12.7,
            "end": 45.2,
            "subset": "training",
            "class": "ReplaceBatteryOnKeyToCar",
            "annotation": [{"id": "485", "segment": [18.0, 25.0], "label": "open the cover"}],
        }
    }
}
KINETICS_JSON = {
    "---QUuC4vJs": {
        "annotations": {"label": "testifying", "segment": [84.0, 94.0]},
        "duration": 10.0,
        "subset": "validate",
        "url": "https://www.youtube.com/watch?v=---QUuC4vJs",
    }
}
RESNETS_3D = {
    "labels": ["Archery", "YoYo"],
    "database": {
        "v_YoYo_g08_c01": {"subset": "training", "annotations": {"label": "YoYo"}},
        "v_YoYo_g01_c01": {"subset": "validation", "annotations": {"label": "YoYo"}},
    },
}
FRAME_LIST = (
    "original_vido_id video_id frame_id path labels\n"
    '001YG 0 0 001YG/001YG-000001.jpg ""\n'
    '001YG 0 1 001YG/001YG-000002.jpg "3,1"\n'
    '004QE 1 0 004QE/004QE-000001.jpg "1"\n'
)

READ = (
    Form(
        "jester-v1-train.csv",
        "34870;Drumming Fingers\n56557;Sliding Two Fingers Right\n",
        (
            ("20bn-jester-v1/34870", "Drumming Fingers"),
            ("20bn-jester-v1/56557", "Sliding Two Fingers Right"),
        ),
        "Jester list: id;label, frame folders by id",
        frames("20bn-jester-v1/34870", "20bn-jester-v1/56557"),
        {"jester-v1-labels.csv": "Sliding Two Fingers Right\nDrumming Fingers\nNo gesture\n"},
        ("Sliding Two Fingers Right", "Drumming Fingers", "No gesture"),
    ),
    Form(
        "something-something-v1-train.csv",
        "24413;Putting something on a surface\n"
        "42326;Putting something that can't roll onto a slanted surface, so it slides down\n",
        (
            ("v/24413.webm", "Putting something on a surface"),
            (
                "v/42326.webm",
                "Putting something that can't roll onto a slanted surface, so it slides down",
            ),
        ),
        "Something-Something V1 list: id;label, videos by id",
        ("v/24413.webm", "v/42326.webm"),
    ),
    Form(
        "trainingSet.csv",
        "flipping/yt-05bvzAYnmJs_98.mp4,flipping,4,0\nadult+male+singing/a.mp4,adult+male+singing,3,1\n",
        (
            ("training/flipping/yt-05bvzAYnmJs_98.mp4", "flipping"),
            ("training/adult+male+singing/a.mp4", "adult+male+singing"),
        ),
        "Moments in Time list: path, label, votes, votes; videos below .*training",
        ("training/flipping/yt-05bvzAYnmJs_98.mp4",),
        {"moments_categories.txt": "flipping,0\nclapping,1\nadult+male+singing,2\n"},
        ("flipping", "clapping", "adult+male+singing"),
    ),
    Form(
        "moments_three.csv",
        "flipping/a.mp4,flipping,4\ndriving/b.mp4,driving,3\n",
        (("flipping/a.mp4", "flipping"), ("driving/b.mp4", "driving")),
        "Moments in Time list: path, label, votes$",
    ),
    Form(
        "Charades_v1_train.csv",
        CHARADES,
        (
            ("Charades_v1_480/46GP8.mp4", "Washing a mirror+Cooking something"),
            ("Charades_v1_480/N11GT.mp4", "Washing a mirror"),
            ("Charades_v1_480/ZZZZZ.mp4", ""),
        ),
        "Charades list: whole videos with all of their actions, the times not used; 1 without an",
        tuple(f"Charades_v1_480/{name}.mp4" for name in ("46GP8", "N11GT", "ZZZZZ")),
        {
            "Charades_v1_classes.txt": "c000 Holding some clothes\nc092 Washing a mirror\n"
            "c147 Cooking something\n"
        },
        ("Holding some clothes", "Washing a mirror", "Cooking something"),
    ),
    Form(
        "charades_frames.csv",
        FRAME_LIST,
        (("001YG", "1+3"), ("004QE", "1")),
        "PySlowFast's list of frames: folders of frames, each with all labels of its frames",
        classes=("0", "1", "2", "3"),
    ),
    Form(
        "Diving48_V2_train.json",
        json.dumps(DIVING),
        (
            ("rgb/kELXBK1TLSI_00001.mp4", "Back 25som 05Twis PIKE"),
            ("rgb/NCxQ5Zbz1wQ_00055.mp4", "Back 15som 05Twis FREE"),
        ),
        "Diving48 list: videos by vid_name",
        ("rgb/kELXBK1TLSI_00001.mp4", "rgb/NCxQ5Zbz1wQ_00055.mp4"),
        {
            "Diving48_vocab.json": json.dumps(
                [["Back", "15som", "05Twis", "FREE"], ["Back", "25som", "05Twis", "PIKE"]]
            )
        },
        ("Back 15som 05Twis FREE", "Back 25som 05Twis PIKE"),
    ),
    Form(
        "hvu_train_video.json",
        json.dumps(HVU),
        (("a.mp4", "action 180+concept 131+concept 250"), ("b.mp4", "action 180+scene 206")),
        "HVU list: several labels a clip, named 'category tag'",
    ),
    Form(
        "HVU_Train_V1.0.csv",
        "Tags,youtube_id,time_start,time_end\nsnow|skiing,xxxxxxxxxxx,1,11\nsnow,yyyyyyyyyyy,5,15\n",
        (("v/xxxxxxxxxxx_000001_000011.mp4", "skiing+snow"), ("v/yyyyyyyyyyy.mp4", "snow")),
        "Kinetics list: files of the segments alone, by youtube_id",
        ("v/xxxxxxxxxxx_000001_000011.mp4", "v/yyyyyyyyyyy.mp4"),
    ),
    Form(
        "activity_net.v1-3.min.json",
        json.dumps(ACTIVITYNET),
        (
            ("videos/v_sJxn0rXpn3Y.mp4", "Powerbocking", 0.01, 64.53),
            ("videos/v_sJxn0rXpn3Y.mp4", "Zumba", 70.0, 82.0),
        ),
        "ActivityNet's form: a clip for each segment, videos by id; 1 videos without a label left",
        ("videos/v_sJxn0rXpn3Y.mp4",),
    ),
    Form(
        "HACS_clips_v1.1.1.csv",
        HACS,
        (
            ("v_a2X2hz1G6i8.mp4", "Archery", 15.5, 17.5),
            ("0O_qMHxBfXg.mkv", "Zumba", 24.5, 26.5),
        ),
        r"HACS list: segments .*; 1 clips that do not show their class \(-1\) left out",
        ("v_a2X2hz1G6i8.mp4", "0O_qMHxBfXg.mkv"),
    ),
    Form(
        "COIN.json",
        json.dumps(COIN),
        (("videos/-8NaVGEccgc.mp4", "ReplaceBatteryOnKeyToCar"),),
        "COIN list: the class of each video, its steps not read",
        ("videos/-8NaVGEccgc.mp4",),
    ),
    Form(
        "kinetics700_val.json",
        json.dumps(KINETICS_JSON),
        (("testifying/---QUuC4vJs_000084_000094.mp4", "testifying"),),
        "a label for each video, videos by id",
        ("testifying/---QUuC4vJs_000084_000094.mp4",),
    ),
    Form(
        "ucf101_01.json",
        json.dumps(RESNETS_3D),
        (("YoYo/v_YoYo_g08_c01.avi", "YoYo"), ("YoYo/v_YoYo_g01_c01.avi", "YoYo")),
        "a label for each video",
        ("YoYo/v_YoYo_g08_c01.avi", "YoYo/v_YoYo_g01_c01.avi"),
        classes=("Archery", "YoYo"),
    ),
    Form(
        "vjepa.csv",
        "a b.mp4::1\nc.mp4::0\n",
        (("a b.mp4", "1"), ("c.mp4", "0")),
        "read as lines of 'path::label'",
    ),
    Form(
        "minimoments.csv",
        "train/flipping/a.mp4;flipping\ntrain/b.mp4;driving\n",
        (("train/flipping/a.mp4", "flipping"), ("train/b.mp4", "driving")),
        "read as lines of 'path;label'",
    ),
    Form(
        "windows.csv",
        "train\\run\\a b.mp4,0\ntrain\\jump\\c.mp4,1\n",
        (("train/run/a b.mp4", "0"), ("train/jump/c.mp4", "1")),
        r"paths with \\ are read with /",
    ),
    Form(
        "timesformer.csv",
        "abseiling/3E7Jib8Yq5M_000118_000128 0\narchery/B2PZ_3HJYQY_000002_000012 1\n",
        (
            ("abseiling/3E7Jib8Yq5M_000118_000128.mp4", "0"),
            ("archery/B2PZ_3HJYQY_000002_000012.mkv", "1"),
        ),
        "2 of 2 names without a suffix are found as files",
        (
            "abseiling/3E7Jib8Yq5M_000118_000128.mp4",
            "archery/B2PZ_3HJYQY_000002_000012.mkv",
        ),
    ),
    Form(
        "gym99_train_element_v1.0.txt",
        "A0xAXXysHUo_E_002184_002237_A_0001_0034 0\n3ZHDHYQ6kmI_E_002018_002110_A_0023_0025 1\n",
        (
            ("sub/A0xAXXysHUo_E_002184_002237_A_0001_0034.mp4", "0"),
            ("sub/3ZHDHYQ6kmI_E_002018_002110_A_0023_0025.mp4", "1"),
        ),
        "2 of 2 names without a suffix",
        (
            "sub/A0xAXXysHUo_E_002184_002237_A_0001_0034.mp4",
            "sub/3ZHDHYQ6kmI_E_002018_002110_A_0023_0025.mp4",
        ),
    ),
    Form(
        "videomae.csv",
        "/data/k400/a.mp4 0\n/data/k400/b c.mp4 2\n",
        (("/data/k400/a.mp4", "0"), ("/data/k400/b c.mp4", "2")),
        classes=("0", "1", "2"),
    ),
    Form(
        "sthv1_train_list_rawframes.txt",
        "100218 42 134\n48032 60 35\n",
        (("100218", "134"), ("48032", "35")),
        "read as lines of 'folder frames label', the number of frames not used",
        classes=tuple(map(str, range(135))),
    ),
    Form(
        "counted.txt",
        "video.mp4 40 0\nother.mp4 52 1\n",
        (("video.mp4", "0"), ("other.mp4", "1")),
        "read as lines of 'path frames label', the number of frames not used",
    ),
    Form(
        "standard.csv",
        "video_path,caption,label,start_frame,end_frame,num_skip_frames\n"
        "a.mp4,A dive,dive,0,40,-1\na.mp4,A jump,jump,40,-1,-1\n",
        (("a.mp4", "dive", 0, 40), ("a.mp4", "jump", 40, None)),
        "segments are counted in frames from 0, the end frame is not part of them; columns not "
        "read: caption, num_skip_frames",
    ),
    Form(
        "midlevel.chunks_90.split_0.train.csv",
        "participant_id,file_id,annotation_id,frame_start,frame_end,activity,chunk_id\n"
        "1,vp1/run1b_2018-05-29-14-02-47.kinect_color,0,100,148,closing_door_outside,0\n",
        (("k/vp1/run1b_2018-05-29-14-02-47.kinect_color.mp4", "closing_door_outside", 100, 148),),
        "segments are counted in frames",
        ("k/vp1/run1b_2018-05-29-14-02-47.kinect_color.mp4",),
    ),
    Form(
        "decimal.csv",
        "path,label\na.mp4,0.0\nb.mp4,2.0\nc.mp4,1.0\n",
        (("a.mp4", "0"), ("b.mp4", "2"), ("c.mp4", "1")),
        "labels as '3.0' are taken for ids, as '3'",
    ),
    Form(
        "from_one.txt",
        "a.mp4 1\nb.mp4 3\nc.mp4 2\n",
        (("a.mp4", "1"), ("b.mp4", "3"), ("c.mp4", "2")),
        "ids count from 1 to 3, so the first class is '1'",
        classes=("1", "2", "3"),
    ),
    Form(
        "map.json",
        '{"a.mp4": "run", "b.mp4": ["run", "jump"]}',
        (("a.mp4", "run"), ("b.mp4", "jump+run")),
        "an object from path to label",
    ),
)

REFUSED: tuple[tuple[str, str, str], ...] = (
    (
        "ava_train_v2.2.csv",
        "-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1\n",
        r":1: a list of AVA, one box and action of a person a line; "
        r"pass --task detect to train on boxes",
    ),
    (
        "ava_predicted_boxes.csv",
        "1j20qq1JyX4,0902,0.036,0.098,0.55,0.979,,0.995518\n",
        r":1: a list of AVA",
    ),
    (
        "boxes.csv",
        "path,frame,x1,y1,x2,y2,label\na.mp4,1,10,10,50,50,run\n",
        r":1: column 'x1' says that these are boxes; pass --task detect to train on boxes",
    ),
    (
        "coco.json",
        '{"images": [], "annotations": [], "categories": []}',
        r"boxes in COCO's form \(images, annotations, categories\); "
        r"pass --task detect to train on boxes",
    ),
    (
        "video_datainfo.json",
        '{"info": {}, "videos": [{"video_id": "video0"}], "sentences": []}',
        r"is no list of clips: its keys are info, videos, sentences",
    ),
    (
        "three.csv",
        "a.mp4,run,7\n",
        r":1, column 3: '7' is not understood; a line is 'path label': put a label with a sep",
    ),
    (
        "vggsound.csv",
        '---g-f_I2yQ,1,"people marching",test\n',
        r":1, column 3: 'people marching' is not understood",
    ),
    (
        "Temporal_Anomaly_Annotation.txt",
        "Abuse028_x264.mp4  Abuse  165  240  -1  -1\n",
        r":1, column 3: '165' is not understood",
    ),
    (
        "unsure.txt",
        "a.mp4 3 1\nb.mp4 90 2\n",
        r":1, columns 2 and 3: '3' may be a number of frames and '1' the label, or both are "
        r"labels; write 'path label', or '3;1' for two labels",
    ),
    (
        "P03_cam01_P03_cereals.txt",
        "1-30 SIL\n31-150 take_bowl\n",
        r":1: frames and an action, but no path in '1-30 SIL'; .* of Breakfast: list them as a csv",
    ),
    (
        "begin.csv",
        "path,label,clip_begin,clip_stop\na.mp4,run,1,2\n",
        r":1, column 3: 'clip_begin' is not understood; call it start if it holds seconds, sta",
    ),
    (
        "length.csv",
        "path,label,start,duration\na.mp4,run,1,2\n",
        r":1, column 4: 'duration' is not understood; call it end if",
    ),
    (
        "frames.csv",
        "path,label,start_frame,end_frame\na.mp4,run,1.5,9\n",
        r":2: start_frame '1\.5' is no number of a frame",
    ),
    (
        "frames_back.csv",
        "path,label,start_frame,end_frame\na.mp4,run,9,9\n",
        r":2: start_frame 9 is not before end_frame 9",
    ),
    (
        "Charades_v1_test.csv",
        CHARADES.replace("c092 0.00 5.00", "c092 zero five"),
        r":3, column 'actions': 'c092 zero five'; expected 'c092 11\.90",
    ),
    (
        "with_offset.txt",
        "some/directory-1 10 163 1\nsome/directory-2 2 122 2\n",
        r":1: three numbers follow every folder; expected 'folder num_frames label'; parts of",
    ),
    (
        "egtea_train_split1.txt",
        "OP01-R01-PastaSalad-1002316-1004005-F024051-F024101 1 2 1\n",
        r":1: three numbers follow every folder",
    ),
    (
        "CricketBowling_val.txt",
        "video_validation_0000266 72.80 76.40\nvideo_validation_0000266 80.10 81.00\n",
        r":1: label '76\.40' is a number, but no class id",
    ),
    ("unlabeled.csv", "a.mp4 -1\nb.mp4 -1\n", r":1: label '-1' is a number, but no class id"),
    ("pretrain.csv", "a.mp4 0 -1\nb.mp4 0 -1\n", r":1: '0 -1' is no label; as in VideoMAE's lists"),
    (
        "pretrain_frames.csv",
        "dir/a 0 163\ndir/b 0 22\n",
        r":1: every folder has 0 frames, or 1; .* VideoMAE's lists for pretraining",
    ),
    ("jester-v1-validation.csv", "34870;Drumming Fingers\n7\n", r":2: '7' in a list of 'id;label'"),
    ("hvu.json", '[{"path": "a.mp4", "label": {"a": [{"b": 1}]}}]', r"entry 1: 'label' holds obj"),
)


@pytest.mark.parametrize("form", READ, ids=lambda form: form.name)
def test_rows_of_real_lists(
    form: Form, write: Callable, touch: Callable, named: Callable[[Rows], list]
) -> None:
    touch(*form.files)
    for name, text in form.beside.items():
        write(name, text)
    listing = write(form.name, form.text)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        rows = labeled_rows(listing)
    assert [
        (path, label, *((row.start, row.end) if len(wanted) > 2 else ()))
        for (path, label), row, wanted in zip(
            _relative(rows, named), rows.rows, form.rows, strict=True
        )
    ] == list(form.rows)
    assert all(
        (row.start, row.end) == (None, None)
        for row, wanted in zip(rows.rows, form.rows, strict=True)
        if len(wanted) == 2
    )
    assert all(
        row.in_frames == ("frames" in form.note and len(wanted) > 2)
        for row, wanted in zip(rows.rows, form.rows, strict=True)
    )
    labels = {label for _, label, *_ in form.rows}
    names = {one for label in labels for one in label.split("+")} - {""}
    assert rows.classes == (form.classes or tuple(sorted(names)))
    notes = [str(warning.message) for warning in said]
    assert len(notes) == bool(form.note) and all(re.search(form.note, note) for note in notes)
    bare = unlabeled_rows(listing)
    assert {row.path for row in bare.rows} >= {row.path for row in rows.rows}


def _relative(rows: Rows, named: Callable[[Rows], list]) -> list[tuple[str, str]]:
    """`named`, absolute paths staying as they are."""
    return [
        (row.path if row.path.startswith("/data/") else path, label)
        for row, (path, label) in zip(rows.rows, named(rows), strict=True)
    ]


@pytest.mark.parametrize(("name", "text", "message"), REFUSED, ids=[one[0] for one in REFUSED])
def test_what_is_not_understood_is_refused_at_its_place(
    write: Callable, touch: Callable, name: str, text: str, message: str
) -> None:
    touch("34870/1.jpg")
    listing = write(name, text)
    with pytest.raises(DataError, match=message) as refused:
        labeled_rows(listing)
    assert str(refused.value).startswith(str(listing))


def test_there_are_enough_of_them() -> None:
    assert len(READ) >= 25


def test_validation_lists_in_the_order_of_training(write: Callable) -> None:
    """Ids that count from 1 in training are the same classes in a part that has not all."""
    train = labeled_rows(write("train.txt", "a.mp4 1\nb.mp4 2\nc.mp4 3\n"))
    val = labeled_rows(write("val.txt", "d.mp4 2\ne.mp4 3\n"), classes=train.classes)
    assert [row.label for row in val.rows] == [1, 2] and val.classes == ("1", "2", "3")
    with pytest.raises(DataError, match=r"val\.txt:1: unknown class '0'; ids run from 1 to 3 in"):
        labeled_rows(write("val.txt", "d.mp4 0\n"), classes=train.classes)
    # One that names all of them, and a list that counts from 1 to their number.
    names = write("names.txt", "jump\nrun\nwalk\n")
    with pytest.warns(UserWarning, match=r"ids count from 1 to 3, so 1 is 'jump', the first class"):
        rows = labeled_rows(write("train.txt", "a.mp4 1\nb.mp4 3\n"), class_names=names)
    assert [row.label for row in rows.rows] == [0, 2]
    # Nothing says so here.
    rows = labeled_rows(write("train.txt", "a.mp4 1\nb.mp4 3\n"))
    assert rows.classes == ("0", "1", "2", "3")


def test_binary_annotations_are_named(tmp_path) -> None:
    file = tmp_path / "ntu60_2d.pkl"
    file.write_bytes(b"\x80\x04\x95\x00\x00\xff")
    with pytest.raises(UsageError, match=r"is no text file; annotations in \.pkl are not read: wr"):
        labeled_rows(file)


def test_two_files_in_a_line(write: Callable, touch: Callable) -> None:
    """IsoGD: color, depth, label."""
    touch("train/001/M_00001.avi", "train/001/K_00001.avi")
    listing = write("train.txt", "train/001/M_00001.avi train/001/K_00001.avi 154\n")
    with pytest.raises(
        DataError, match=r":1: two files in a line, 'train/001/M_00001\.avi' the fi"
    ):
        labeled_rows(listing)


def test_names_with_words_behind_an_id(write: Callable, touch: Callable, named) -> None:
    touch("v/7.mp4", "8.mp4")
    assert named(labeled_rows(write("a.txt", "v/7 riding a bike\n8 run\n"))) == [
        ("v/7.mp4", "riding a bike"),
        ("8.mp4", "run"),
    ]


def test_other_lists_say_nothing(write: Callable, touch: Callable) -> None:
    touch("run/a.mp4", "jump/b.mp4")
    folder = os.path.dirname(write("list.txt", "run/a.mp4 run\njump/b.mp4 riding a bike\n"))
    write("list.csv", "path,label,split\na.mp4,run,train\nb.mp4,jump,val\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(labeled_rows(folder)) == 2
        assert len(labeled_rows(os.path.join(folder, "list.txt"))) == 2
        assert len(labeled_rows(os.path.join(folder, "list.csv"))) == 2


def test_names_alone_are_found_in_folders_of_a_class(write: Callable, touch: Callable) -> None:
    """Few-shot lists as ViFi-CLIP's: a name and an id, for videos in one folder."""
    touch("org/wave/a_wave_u.avi", "org/brush_hair/b.avi")
    file = write("train1_few_shot_2.txt", "a_wave_u.avi 1\nb.avi 0\ngone.avi 0\n")
    root = os.path.join(os.path.dirname(file), "org")
    with pytest.warns(UserWarning, match=r"2 of 3 names are found as files in folders below"):
        rows = labeled_rows(file, root=root)
    paths = ["wave/a_wave_u.avi", "brush_hair/b.avi", "gone.avi"]
    assert [row.path for row in rows.rows] == [os.path.join(root, path) for path in paths]
    assert [row.label for row in rows.rows] == [1, 0, 0]


def test_names_alone_that_are_right_are_left_alone(write: Callable, touch: Callable) -> None:
    touch("flat/a.avi", "flat/deeper/b.avi", "flat/deeper/a.avi")
    file = write("list.txt", "a.avi 0\nb.avi 1\n")
    root = os.path.join(os.path.dirname(file), "flat")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = labeled_rows(file, root=root)
    assert [row.path for row in rows.rows] == [os.path.join(root, n) for n in ("a.avi", "b.avi")]
