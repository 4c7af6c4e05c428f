from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from vidinit.data.rows import Probe, Row, Rows, clip_keys
from vidinit.pipelines.shared.overlap import say_distilled, say_overlap, say_overlaps


def of(*rows: Row) -> Rows:
    return Rows(rows, ("a",))


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where relative paths begin: x/1.mp4 and x/2.mp4, a link to the first, one to their folder."""
    (tmp_path / "x").mkdir()
    for name in ("1.mp4", "2.mp4"):
        (tmp_path / "x" / name).touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "x" / "1.mp4")
    (tmp_path / "folder").symlink_to("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_has_one_name_however_it_is_written(videos: Path):
    names = [
        *("x/1.mp4", "./x//1.mp4", "x/../x/1.mp4", f"{videos}/x/1.mp4", "folder/1.mp4"),
        *("link.mp4", "folder/../link.mp4", f"../{videos.name}/x/1.mp4"),
    ]
    assert len(set(clip_keys([Row(name) for name in names]))) == 1
    others = ["x/2.mp4", "x", "folder/2.mp4"]
    assert len(set(clip_keys([Row(name) for name in [*names, *others]]))) == 3
    folders = [Row("x"), Row("folder"), Row("x/"), Row("x/.")]
    assert len(set(clip_keys(folders))) == 1
    members = ["x/1.tar::a@0+5", "folder/1.tar::a@0+5", "x/1.tar::a@512+5"]
    assert len(set(clip_keys([Row(name) for name in members]))) == 2


def test_segments_are_the_same_seconds(videos: Path):
    probe = Probe(50, 10.0, 48, 48)  # five seconds
    whole = Row("x/1.mp4", probe=probe)
    same = [whole, replace(whole, start=0.0), replace(whole, end=5.0), replace(whole, end=9.0)]
    assert len(set(clip_keys(same))) == 1
    parts = [replace(whole, start=1.0), replace(whole, end=4.9), replace(whole, start=1.0, end=2.0)]
    assert len(set(clip_keys([*same, *parts]))) == 4
    assert len(set(clip_keys([Row("x/1.mp4"), Row("x/1.mp4", end=9.0)]))) == 2, "length unknown"


def test_the_number_and_the_way_out_are_said(videos: Path, capsys):
    train = of(Row("x/1.mp4", 0), Row("x/2.mp4", 0))
    val = of(Row("link.mp4", 0), Row("x/3.mp4", 0), Row(os.path.abspath("x/2.mp4"), 0))
    count, (note,) = say_overlap(train, val, "mine", named=True)
    assert count == 2
    assert note.startswith("mine: 2 of 3 validation clips are trained on, too, so their scores")
    assert note.endswith(
        "name others with --val, or none: data.val_fraction of each class is held out then"
    )
    assert capsys.readouterr().err == f"note: {note}\n"
    _, (note,) = say_overlap(train, train, "mine", named=False)
    assert note.startswith("mine: all 2 validation clips") and "leave them out of one" in note
    assert say_overlap(train, of(Row("x/3.mp4", 0)), "mine", named=True) == (0, [])
    assert say_overlap(train, None, "mine", named=True) == (0, [])


def test_sources_that_train_on_what_others_validate_on(videos: Path):
    one, two = Row("x/1.mp4", 0), Row("x/2.mp4", 0)
    train = {"a": of(one), "b": of(two, Row("x/4.mp4", 0))}
    val = {"a": of(one, two), "b": None}
    counts, notes = say_overlaps(train, val, {"a": True, "b": False})
    assert counts == [2, 0]
    assert [note.partition(", so")[0] for note in notes] == [
        "a: 1 of 2 validation clips are trained on, too",
        "a: 1 of 2 validation clips are trained on, too, as clips of b",
    ]
    assert "give it others as val=" in notes[0] and "leave them out of one of the two" in notes[1]


def test_clips_that_were_distilled_on_are_said(tmp_path, capsys):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(b"x")
    val = of(Row(str(tmp_path / "a.mp4"), 0), Row(str(tmp_path / "c.mp4"), 0))
    lineage = [{"step": "convert"}, {"step": "distill", "videos": str(tmp_path)}]
    (note,) = say_distilled(lineage, val)
    assert note.startswith("2 of 2 validation videos were distilled on, without their labels")
    assert f"note: {note}" in capsys.readouterr().err
    listed = tmp_path / "l.csv"
    listed.write_text("path,label,split\na.mp4,x,train\nb.mp4,x,train\nc.mp4,x,val\n")
    lineage[1]["videos"] = [str(listed)]
    assert say_distilled(lineage, val)[0].startswith("1 of 2"), "its training part alone"
    assert say_distilled([{"step": "distill", "videos": str(tmp_path / "gone")}], val) == []
    assert say_distilled(lineage, None) == []


def test_copies_and_groups_in_both_parts_are_said(tmp_path, capsys):
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one"), ("d", b"six")):
        (tmp_path / name).write_bytes(content)
    a, b, c, d = (str(tmp_path / name) for name in "abcd")
    train = Rows((Row(a, 0, group="cam1"), Row(b, 0, group="cam2")), ("x",))
    val = train.of([Row(c, 0, group="cam2"), Row(d, 0, group="cam3"), Row(b, 0, group="cam2")])
    count, notes = say_overlap(train, val, "data", named=True)
    assert count == 2 and len(notes) == 3
    assert notes[0].startswith("data: 1 of 3 validation clips are trained on, too")
    assert notes[1].startswith(
        f"data: 1 validation clips are byte for byte training clips under another name, as {c} and "
        f"{a}; leave them out of one of the two"
    )
    assert notes[2].startswith(
        "data: 1 groups stand in training and in validation, as 'cam2': 2 validation clips show"
    )
    assert [f"note: {note}" for note in notes] == capsys.readouterr().err.splitlines()
    apart = val.of([Row(d, 0, group="cam3")])
    assert say_overlap(train, apart, "data", named=True) == (0, [])
