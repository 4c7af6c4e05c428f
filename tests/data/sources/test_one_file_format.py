"""A data format is one function and one line: what that brings, all the way to a command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from data.sources.toylist import toylist
from support import MODEL, SMALL
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.data.sources import formats, labeled_rows, train_val, unlabeled_rows
from vidinit.errors import DataError


@pytest.fixture(autouse=True)
def _added(monkeypatch):
    """The one line."""
    monkeypatch.setitem(formats.FORMATS, "file", (toylist, *formats.FORMATS["file"]))


@pytest.fixture
def toy(motion_set, tmp_path) -> Path:
    """A list of the clips of a folder with ``train/left``, ``train/right`` and more."""
    lines = []
    for folder in sorted(path for path in motion_set.glob("train/*") if path.is_dir()):
        lines += [f"[{folder.name}]", *map(str, sorted(folder.iterdir())), ""]
    file = tmp_path / "clips.toylist"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_its_rows_are_those_of_the_same_folder(toy, motion_set):
    rows = labeled_rows(toy)
    assert rows == labeled_rows(motion_set, part="train") and len(rows) > 4
    bare = unlabeled_rows(toy)
    assert [row.path for row in bare.rows] == [row.path for row in rows.rows]
    assert bare.classes is None
    train, val = train_val(toy, val_fraction=0.5)
    assert train.classes == val.classes == rows.classes and len(train) + len(val) == len(rows)


def test_what_all_lists_share_holds_for_it(write, named, tmp_path):
    file = write("lists/some.toylist", "[jump]\na.mp4\n# one more\n[run]\nb.mp4\n")
    rows = labeled_rows(file, root=tmp_path)
    assert named(rows) == [("a.mp4", "jump"), ("b.mp4", "run")]
    with pytest.raises(DataError, match=r"some\.toylist:5: unknown class 'run'"):
        labeled_rows(file, root=tmp_path, classes=["jump", "walk"])
    with pytest.raises(DataError, match=r"wrong\.toylist:1: no class stands above 'a\.mp4'"):
        labeled_rows(write("wrong.toylist", "a.mp4\n"))
    with pytest.raises(DataError, match=r"empty\.toylist lists no clip"):
        labeled_rows(write("empty.toylist", "\n"))


def test_a_form_of_folders_is_read_in_train_and_val_too(write, named, monkeypatch, tmp_path):
    def toy_folder(folder, options):
        file = os.path.join(folder, "clips.toylist")
        return toylist(file, options) if os.path.isfile(file) else None

    forms = formats.FORMATS["folder"]
    below = forms.index(formats.train_and_val) + 1
    monkeypatch.setitem(formats.FORMATS, "folder", (*forms[:below], toy_folder, *forms[below:]))
    write("train/clips.toylist", "[run]\na.mp4\n[jump]\nb.mp4\n")
    write("val/clips.toylist", "[jump]\nc.mp4\n")
    train, val = train_val(tmp_path)
    assert named(train) == [("train/a.mp4", "run"), ("train/b.mp4", "jump")]
    assert named(val) == [("val/c.mp4", "jump")] and val.classes == train.classes


def test_commands_take_it_by_its_path(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = vidinit.check_data(toy, workers=1)
    assert found["good"] == found["files"] == found["rows"] > 4
    assert set(found["classes"]) == set(labeled_rows(toy).classes)
    done = CliRunner().invoke(app, ["finetune", MODEL, "--data", str(toy), "--dry-run", *SMALL])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "dry run: nothing was written"
