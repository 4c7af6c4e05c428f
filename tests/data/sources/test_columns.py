from __future__ import annotations

import json

import pytest

from vidinit.data.sources import labeled_rows, train_val, unlabeled_rows
from vidinit.errors import DataError


@pytest.mark.parametrize(
    "header", ["path,label", "Label,Video", "class,filename", "clip,category", "labels,file"]
)
def test_columns_go_by_name(write, named, header):
    cells = (
        ("x y.mp4", "riding, a bike") if header[0] in "pc" and header != "class,filename" else ()
    )
    first, second = cells or ("riding, a bike", "x y.mp4")
    rows = labeled_rows(write("train.csv", f'{header},more\n"{first}","{second}",7\n'))
    assert named(rows) == [("x y.mp4", "riding, a bike")]


def test_columns_that_are_not_read_are_named(write, named):
    listing = write("a.csv", "path,class,label,length\na.mp4,7,run,3\n")
    with pytest.warns(UserWarning, match=r"a\.csv: columns not read: class, length$"):
        assert named(labeled_rows(listing)) == [("a.mp4", "run")]
    listing = write("b.csv", "path,verb,noun,action\na.mp4,open,door,open door\n")
    with pytest.warns(UserWarning, match=r"b\.csv: columns not read: verb, noun$"):
        assert named(labeled_rows(listing)) == [("a.mp4", "open door")]
    with pytest.raises(DataError, match=r"c\.csv:2: start_frame '-1' is no number of a frame"):
        labeled_rows(write("c.csv", "path,label,start_frame\na.mp4,run,-1\n"))


def test_ids_may_have_a_folder_and_a_suffix(touch, write, named):
    touch("v/a.mp4", "v/b.mp4")
    rows = labeled_rows(write("a.csv", "video_id,label\na.mp4,run\nclips/b,jump\n"))
    assert named(rows) == [("v/a.mp4", "run"), ("v/b.mp4", "jump")]


def test_other_separators(write, named):
    for separator in ("\t", ";"):
        text = "\n".join(
            separator.join(line) for line in (("path", "label"), ("a b.mp4", "run, fast"))
        )
        assert named(labeled_rows(write("train.tsv", text))) == [("a b.mp4", "run, fast")]
    rows = labeled_rows(write("train.txt", 'label path\nrun "a b.mp4"\n'))
    assert named(rows) == [("a b.mp4", "run")]
    # Separated by spaces, with more than path and label.
    rows = labeled_rows(write("train.txt", 'path label start end\n"a b.mp4" run 1 2.5\n'))
    assert named(rows) == [("a b.mp4", "run")]
    assert (rows.rows[0].start, rows.rows[0].end) == (1.0, 2.5)


def test_comments_may_stand_before_the_header(write, named):
    rows = labeled_rows(write("train.csv", "# made by hand\n\npath,label\n#1.mp4,run\n\n"))
    assert named(rows) == [("#1.mp4", "run")]


def test_segments_of_long_videos(write):
    rows = labeled_rows(
        write(
            "train.csv",
            "video,start,end,label\nv.mp4,0,10.5,run\nv.mp4,00:01:02.500,01:00:00,jump\n"
            "v.mp4,1:30,,run\nv.mp4,,7,run\n",
        )
    )
    assert [(row.start, row.end) for row in rows.rows] == [
        (0.0, 10.5),
        (62.5, 3600.0),
        (90.0, None),
        (None, 7.0),
    ]
    bare = unlabeled_rows(write("bare.csv", "path,start_time,end_time\nv.mp4,1,2\n"))
    assert [(row.label, row.start, row.end) for row in bare.rows] == [(None, 1.0, 2.0)]


def test_several_labels_in_a_column(write, named):
    rows = labeled_rows(write("a.csv", "path,labels\na.mp4,run|jump\nb.mp4,run\n"))
    assert rows.kind == "multi" and rows.classes == ("jump", "run")
    assert named(rows) == [("a.mp4", "jump+run"), ("b.mp4", "run")]
    rows = labeled_rows(write("b.csv", 'path,labels\na.mp4,"0,2"\nb.mp4,1 2\n'))
    assert [row.label for row in rows.rows] == [(0, 2), (1, 2)]


def test_verb_and_noun(write, named):
    rows = labeled_rows(write("a.csv", "path,verb,noun\na.mp4,open,door\nb.mp4,close,a jar\n"))
    assert rows.kind == "pair"
    assert (rows.classes, rows.nouns) == (("close", "open"), ("a jar", "door"))
    assert [row.label for row in rows.rows] == [(1, 1), (0, 0)]
    assert named(rows) == [("a.mp4", "open door"), ("b.mp4", "close a jar")]
    again = labeled_rows(
        write("b.csv", "path,verb,noun\nb.mp4,1,0\n"), classes=rows.classes, nouns=rows.nouns
    )
    assert named(again) == [("b.mp4", "open a jar")]
    with pytest.raises(DataError, match=r"names\.txt names one list of them; leave data\.class_na"):
        labeled_rows(
            write("a.csv", "path,verb,noun\na.mp4,open,door\n"),
            class_names=write("names.txt", "open\n"),
        )


def test_split_column(write, named):
    listing = write(
        "all.csv",
        "path,label,split\na.mp4,run,train\nb.mp4,jump,Train\nc.mp4,run,validation\nd.mp4,run,test\n",
    )
    train, val = train_val(listing)
    assert named(train) == [("a.mp4", "run"), ("b.mp4", "jump")]
    assert named(val) == [("c.mp4", "run")] and val.classes == train.classes == ("jump", "run")
    assert named(labeled_rows(listing, part="val")) == [("c.mp4", "run")]
    assert len(labeled_rows(listing)) == 4
    # A test part is validated on if it is asked for, never silently.
    listing = write(
        "tested.csv", "path,label,split\na.mp4,run,train\nb.mp4,jump,test\nc.mp4,jump,train\n"
    )
    assert named(train_val(listing, listing)[1]) == [("b.mp4", "jump")]
    with pytest.warns(UserWarning, match=r"the test part of .*tested\.csv is left alone"):
        train, val = train_val(write("tested.csv", listing.read_text() + "e.mp4,run,train\n"))
    assert "b.mp4" not in [path for path, _ in named(train) + named(val)]
    # A list of one part only is simply the data.
    listing = write("val.csv", "path,label,split\na.mp4,run,val\nb.mp4,jump,val\n")
    assert len(labeled_rows(listing, part="train")) == 2
    listing = write("no.csv", "path,label,split\na.mp4,run,val\nb.mp4,jump,test\n")
    with pytest.raises(DataError, match=r"no\.csv has no part 'train'; it has test and val"):
        train_val(listing)


def test_json_records(write, named):
    records = [{"path": "a.mp4", "label": 1, "start": 0.5}, {"label": 0, "path": "b.mp4"}]
    rows = labeled_rows(write("train.json", json.dumps(records)))
    assert named(rows) == [("a.mp4", "1"), ("b.mp4", "0")]
    assert [row.start for row in rows.rows] == [0.5, None]
    records = [{"path": "a.mp4", "label": ["run", "jump"]}]
    assert named(labeled_rows(write("multi.json", json.dumps(records)))) == [("a.mp4", "jump+run")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,lable\na.mp4,run\n",
            r"no column with a label among path, lable; did you mean 'label'",
        ),
        ("name,label\na.mp4,run\n", r"no column with a path among name, label; did you mean"),
        ("path,verb\na.mp4,open\n", r"no column with a noun among path, verb"),
        ("path,label\na.mp4\n", r"t\.csv:2: 1 columns, the header has 2"),
        ("path,label\na.mp4,run, fast\n", r"t\.csv:2: 3 columns, the header has 2; put what has a"),
        ("path,label\n\na.mp4,\n", r"t\.csv:3: no label"),
        ("path,label\n,run\n", r"t\.csv:2: no path"),
        ("path,label,start,end\na.mp4,run,5,5\n", r"t\.csv:2: start 5 is not before end 5"),
        ("path,label,start,end\na.mp4,run,0:10,9\n", r"t\.csv:2: start 0:10 is not before end 9"),
        ("path,label,end\na.mp4,run,0\n", r"t\.csv:2: start 0 is not before end 0"),
        ("path,label,start,end\na.mp4,run,-1,5\n", r"t\.csv:2: start '-1' is no time; seconds, or"),
        ("path,label,start,end\na.mp4,run,1,nan\n", r"t\.csv:2: end 'nan' is no time"),
        (
            "path,label,split\na.mp4,run,trian\n",
            r"t\.csv:2: unknown split 'trian'; did you mean 'train'",
        ),
        ("path,label\na.mp4,jum\n", r"t\.csv:2: unknown class 'jum'; did you mean 'jump'"),
        ('path,label\n"a\nb.mp4",run\nc.mp4,walk\n', r"t\.csv:4: unknown class 'walk'"),
        ("path,label\n", r"t\.csv lists no clip"),
    ],
)
def test_errors_name_column_or_line(write, text, message):
    with pytest.raises(DataError, match=message):
        labeled_rows(write("t.csv", text), classes=("run", "jump"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"a": "run"}',
            r"t\.json is no list of clips: its keys are a; expected a json list of obj",
        ),
        ('["a.mp4", "b.mp4"]', r"t\.json is no list of clips"),
        ('[{"path": "a.mp4",\n "label": }]', r"t\.json:2: no valid json"),
        ('[{"path": "a.mp4"}]', r"t\.json: no column with a label among path"),
        ('[{"path": "a.mp4", "label": "run"}, {"path": "b.mp4"}]', r"t\.json, entry 2: no label"),
        ("[]", r"t\.json: no column with a path among none"),
    ],
)
def test_json_of_another_shape(write, text, message):
    with pytest.raises(DataError, match=message):
        labeled_rows(write("t.json", text))
