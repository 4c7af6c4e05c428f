"""Names of copies, and the lists of them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from vidinit.data.copies.originals import find, write_list
from vidinit.data.rows import Row, Rows
from vidinit.data.sources import labeled_rows, unlabeled_rows
from vidinit.errors import DataError, UsageError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(source: Path, root: Path | None = None) -> list[str]:
    return list(find(str(source), None if root is None else str(root)).names.values())


def relisted(source: Path, tmp_path: Path, root: Path | None = None) -> Path:
    """The list of the copies of ``source``."""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    originals = find(str(source), None if root is None else str(root))
    listed = write_list(originals, out, tmp_path / "place")
    assert listed is not None and listed.parent == out
    assert not list((tmp_path / "place").iterdir())
    return listed


def below(folder: Path, rows: Rows) -> list[Row]:
    """The rows with paths relative to a folder."""
    return [
        Row(str(Path(row.path).relative_to(folder)), row.label, row.start, row.end)
        for row in rows.rows
    ]


def test_a_folder_keeps_its_layout_and_changes_suffixes(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.MP4", "b/10.webm", "a b/x.y.avi", "loose.mkv", "b/notes.txt", ".h/1.mp4")
    touch(tmp_path, "b/deep/3.mov", "b/clip/1.jpg", "b/clip/2.jpg")
    assert names(tmp_path) == [
        *("a b/x.y.mp4", "b/10.mp4", "b/2.mp4", "b/clip.mp4", "b/deep/3.mp4"),
        "loose.mp4",
    ]


def test_files_of_one_stem_keep_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.avi", "a/1.mp4", "a/2.avi", "b/1.avi")
    expected = ["a/1.avi.mp4", "a/1.mp4.mp4", "a/2.mp4", "b/1.mp4"]
    assert names(tmp_path) == expected
    # The same names, whatever part of them is listed.
    (tmp_path / "one.txt").write_text("a/1.mp4 x\nb/1.avi y\n")
    assert names(tmp_path / "one.txt") == [expected[1], expected[3]]


def test_two_files_never_become_one(tmp_path: Path) -> None:
    touch(tmp_path, "1.avi", "1.mkv", "1.mkv.mov")
    with pytest.raises(DataError, match=r"1\.mkv and .*1\.mkv\.mov would both become 1\.mkv\.mp4"):
        find(str(tmp_path))


def test_listed_files_lie_as_below_the_root(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    touch(tmp_path, "lists/train.txt", "videos/a/1.avi", "elsewhere/2.avi")
    lines = f"a/1.avi x\n{elsewhere}/2.avi y\na/../a/1.avi z\n"
    (tmp_path / "lists" / "train.txt").write_text(lines)
    found = names(tmp_path / "lists" / "train.txt", tmp_path / "videos")
    mirrored = f"{str(elsewhere).lstrip('/')}/2.mp4"
    assert sorted(found) == sorted(["a/1.mp4", "a/1.mp4", mirrored])


def test_a_single_file_and_a_bare_list(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.avi", "a/2.avi")
    assert find(str(tmp_path / "a" / "1.avi")).names == {str(tmp_path / "a/1.avi"): "1.mp4"}
    assert write_list(find(str(tmp_path / "a" / "1.avi")), tmp_path, tmp_path / "p") is None
    assert write_list(find(str(tmp_path)), tmp_path, tmp_path / "p") is None
    (tmp_path / "all.txt").write_text("a/2.avi\na/1.avi\n")
    with pytest.warns(UserWarning, match="the labels are left out: .*no label"):
        listed = relisted(tmp_path / "all.txt", tmp_path)
    assert listed.read_text() == "path\na/2.mp4\na/1.mp4\n"
    assert len(unlabeled_rows(listed)) == 2
    with pytest.raises(UsageError, match="does not exist"):
        find(str(tmp_path / "none"))


LISTS = {
    "names.txt": "v/1.avi jump, high\nv/2.avi run\nv/1.avi run\n",
    "ids.csv": "v/1.avi,3\nv/2.avi,0\n",
    "times.csv": "path,label,start,end\nv/1.avi,b,1.5,3\nv/1.avi,a,,0.1\nv/2.avi,a,7,\n",
    "several.csv": "path,labels\nv/1.avi,run|jump\nv/2.avi,run\n",
    "could_be.csv": "path,labels\nv/1.avi,run|\nv/2.avi,jump|\n",
    "pairs.csv": "path,verb,noun\nv/1.avi,take,cup\nv/2.avi,put,cup\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_says_the_same_of_the_copies(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "v/1.avi", "v/2.avi")
    (tmp_path / name).write_text(LISTS[name])
    listed = relisted(tmp_path / name, tmp_path)
    before, after = labeled_rows(tmp_path / name), labeled_rows(listed)
    assert (after.classes, after.kind, after.nouns) == (before.classes, before.kind, before.nouns)
    copies = [
        Row(row.path.replace(".avi", ".mp4"), row.label, row.start, row.end)
        for row in below(tmp_path, before)
    ]
    assert below(listed.parent, after) == copies


def test_parts_and_the_order_of_classes_are_kept(tmp_path: Path) -> None:
    touch(tmp_path, "1.webm", "2.webm", "3.webm")
    entries = [
        {"id": str(i), "template": f"Moving [it] {way}"} for i, way in ((1, "up"), (2, "a;b"))
    ]
    (tmp_path / "s.json").write_text(json.dumps(entries))
    (tmp_path / "labels.json").write_text(json.dumps({"Moving it up": "0", "Moving it a;b": "1"}))
    listed = relisted(tmp_path / "s.json", tmp_path)
    rows = labeled_rows(listed, class_names=listed.with_name("s.classes.json"))
    assert rows.classes == ("Moving it up", "Moving it a;b")
    assert below(listed.parent, rows) == [Row("1.mp4", 0), Row("2.mp4", 1)]
    text = "path,label,split\n1.webm,a,train\n2.webm,a,test\n3.webm,b,train\n"
    (tmp_path / "split.csv").write_text(text)
    listed = relisted(tmp_path / "split.csv", tmp_path)
    for part, expected in (("train", ["1.mp4", "3.mp4"]), ("val", ["2.mp4"])):
        rows = labeled_rows(listed, part=part)
        assert [row.path for row in below(listed.parent, rows)] == expected


def test_members_of_archives_get_a_folder_each(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for shard in (0, 1):
        with tarfile.open(shards / f"s-{shard}.tar", "w") as tar:
            for name, content in (("x/1.avi", b"v"), ("x/1.cls", b"%d" % shard)):
                info = tarfile.TarInfo(f"../{name}" if shard else name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    for source, name in ((shards, "shards.csv"), (f"{shards}/s-{{0..1}}.tar", "s-0..1.csv")):
        listed = relisted(Path(source), tmp_path)
        assert listed.name == name
        assert listed.read_text() == "path,label\ns-0/x/1.mp4,0\ns-1/x/1.mp4,1\n"


def test_groups_are_kept_beside_the_split(tmp_path: Path) -> None:
    touch(tmp_path, "1.avi", "2.avi", "3.avi")
    text = "path,label,group,split\n1.avi,a,cam1,train\n2.avi,b,cam2,val\n3.avi,b,,train\n"
    (tmp_path / "all.csv").write_text(text)
    listed = relisted(tmp_path / "all.csv", tmp_path)
    copied = "path,label,group,split\n1.mp4,a,cam1,train\n3.mp4,b,,train\n2.mp4,b,cam2,val\n"
    assert listed.read_text() == copied
    assert [row.group for row in labeled_rows(listed).rows] == ["cam1", None, "cam2"]
