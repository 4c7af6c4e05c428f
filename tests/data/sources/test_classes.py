from __future__ import annotations

import json

import pytest

from vidinit.data.sources.classes import read_class_names
from vidinit.errors import DataError, UsageError


@pytest.mark.parametrize(
    ("name", "text", "first"),
    [
        ("names.txt", "run\n\nriding a bike\n", 0),
        ("names.txt", "0 run\n1 riding a bike\n", 0),
        ("classInd.txt", "1 run\r\n2 riding a bike\r\n", 1),
        ("names.csv", "0,run\n1,riding a bike\n", 0),
        ("names.csv", "id,name\n1,riding a bike\n0,run\n", 0),
        ("moments_categories.txt", "run,0\nriding a bike,1\n", 0),
        ("names.csv", "riding a bike;2\nrun;1\n", 1),
        ("names.tsv", "run\t0\nriding a bike\t1\n", 0),
        (
            "gym99_categories.txt",
            "Clabel: 0; set: 1; Glabel: 1; run\nClabel: 1; set: 1; Glabel: 6; riding a bike\n",
            0,
        ),
        ("Charades_v1_classes.txt", "c000 run\nc001 riding a bike\n", 0),
        ("Diving48_vocab.json", json.dumps([["run"], ["riding", "a", "bike"]]), 0),
        ("names.csv", 'key,id\nrun,0\n"riding a bike",1\n', 0),
        ("names.csv", "name\nrun\nriding a bike\n", 0),
        ("names.json", json.dumps(["run", "riding a bike"]), 0),
        ("names.json", json.dumps({"riding a bike": "1", "run": "0"}), 0),
        ("names.json", json.dumps({"riding a bike": 2, "run": 1}), 1),
        ("names.json", json.dumps({"0": "run", "1": "riding a bike"}), 0),
    ],
)
def test_forms(write, name, text, first):
    found = read_class_names(str(write(name, text)))
    assert (found.names, found.first) == (("run", "riding a bike"), first)


def test_names_that_only_look_like_ids(write):
    found = read_class_names(str(write("names.txt", "3 point shot\nrun\n2\n")))
    assert found.names == ("3 point shot", "run", "2")
    found = read_class_names(str(write("names.txt", "level, 1\nlevel, 2\nrun\n")))
    assert found.names == ("level, 1", "level, 2", "run")
    assert read_class_names(str(write("one.txt", "label\n"))).names == ("label",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("n.txt", "run\njump\nrun\n", r"n\.txt:3: class 'run' is named twice"),
        ("n.txt", "0 run\n2 jump\n", r"n\.txt:2: id 2 of class 'jump' is out of order; ids count"),
        ("n.txt", "2 run\n3 jump\n", r"n\.txt:1: id 2 of class 'run' is out of order"),
        ("n.txt", "0 run\n0 jump\n", r"n\.txt:2: id 0 of class 'jump' is out of order"),
        ("n.csv", "id,name\n0,run\nx,jump\n", r"n\.csv:3: expected an id and a name"),
        ("n.csv", "id,name\n", r"n\.csv holds no class name"),
        ("n.txt", "\n", r"n\.txt holds no class name"),
        ("n.json", "[]", r"n\.json holds no class names; expected a json list of names"),
        ("n.json", '{"run": "fast"}', r"n\.json holds no class names"),
        ("n.json", "{", r"n\.json:1: no valid json"),
    ],
)
def test_errors(write, name, text, message):
    with pytest.raises(DataError, match=message):
        read_class_names(str(write(name, text)))


def test_class_names_are_text(tmp_path):
    (tmp_path / "n.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="no text file"):
        read_class_names(str(tmp_path / "n.txt"))
