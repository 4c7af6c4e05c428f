from __future__ import annotations

import io
import sys

import pytest

from vidinit.errors import DataError
from vidinit.pipelines.predict.api import find_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in (
        "b/2.mp4", "a/1.mp4", "a/notes.txt", "a/.hidden.mp4", "x.webm", "odd[1].mp4",
        "frames/img_1.jpg", "frames/img_2.jpg",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"-")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_are_searched_through(folder):
    found = ["a/1.mp4", "b/2.mp4", "frames", "odd[1].mp4", "x.webm"]
    assert find_files(["."]) == [f"./{name}" for name in found]
    assert find_files([folder / "a", "x.webm"]) == [str(folder / "a" / "1.mp4"), "x.webm"]
    assert find_files(["frames"]) == ["frames"]


def test_patterns_stand_for_what_matches(folder):
    assert find_files(["*/*.mp4"]) == ["a/1.mp4", "b/2.mp4"]
    assert find_files(["[ab]"]) == ["a/1.mp4", "b/2.mp4"]
    assert sorted(find_files(["**/[0-9].mp4", "a/**"])) == [
        "a/1.mp4", "a/1.mp4", "a/notes.txt", "b/2.mp4"
    ]  # fmt: skip
    assert find_files(["odd[1].mp4"]) == ["odd[1].mp4"]  # a file may be called like a pattern
    assert find_files(["none*.mp4"]) == ["none*.mp4"]


def test_stdin_names_files_and_folders_as_they_are(folder, monkeypatch):
    text = b"x.webm\r\n\n  \na\n*.mp4\n gone.mp4\nx.webm"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    found = ["x.webm", "a/1.mp4", "*.mp4", " gone.mp4", "x.webm"]
    assert find_files(["b", "-"]) == ["b/2.mp4", *found]


def test_no_file_is_an_error(folder):
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no video and no image in empty; name files"):
        find_files(["empty"])
    assert find_files(["empty", "x.webm"]) == ["x.webm"]
