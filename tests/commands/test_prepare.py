"""`vidinit data prepare` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import moving_bar, write_video
from typer.testing import CliRunner
from vidinit.commands import app


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.avi", "b/2.mp4"):
        write_video(tmp_path / "videos" / name, moving_bar(2, 0))
    return tmp_path / "videos"


def call(line: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["data", "prepare", *line.split()])
    return result.exit_code, result.stdout, result.stderr


def test_exit_codes_tell_what_became_of_it(source: Path) -> None:
    code, out, errors = call("videos copies --short-side 32")
    assert (code, errors) == (0, "")
    assert "2 files: 2 done, 0 done before, 0 failed" in out and "copies: copies" in out
    assert sorted(str(path) for path in Path("copies").rglob("*.mp4")) == [
        "copies/a/1.mp4",
        "copies/b/2.mp4",
    ]
    (source / "b" / "bad.mp4").write_text("no video\n" * 99)
    code, out, errors = call("videos copies --short-side 32")
    assert (code, errors) == (1, "")
    assert "left out: videos/b/bad.mp4: it is no video" in out
    assert "3 files: 0 done, 2 done before, 1 failed" in out
    (source / "a" / "1.avi").unlink()
    (source / "b" / "2.mp4").unlink()
    code, out, errors = call("videos others")
    assert code == 3 and "left out: videos/b/bad.mp4" in out
    assert errors.startswith("error: none of 1 files can be read: videos/b/bad.mp4: it is no video")


def test_json_counts_files_and_bytes(source: Path) -> None:
    code, out, _ = call("videos copies --json --shard 2/2 --fps 6 --workers 1")
    assert code == 0
    assert json.loads(out) == {
        "files": 1,
        "done": 1,
        "skipped": 0,
        "failed": [],
        "partial": [],
        "bytes_in": (source / "b" / "2.mp4").stat().st_size,
        "bytes_out": Path("copies/b/2.mp4").stat().st_size,
        "out": "copies",
        "list": None,
    }
    (source / "list.txt").write_text("b/2.mp4 x\n")
    code, out, _ = call("videos/list.txt listed --json")
    assert (code, json.loads(out)["list"]) == (0, "listed/list.csv")


@pytest.mark.parametrize(
    "line, code, part",
    [
        ("videos videos/copies", 2, "lie in one another"),
        ("nowhere copies", 2, "nowhere does not exist"),
        ("videos copies --shard 3/2", 2, "shard is '3/2'"),
        ("videos copies --fps fast", 2, "fps is 'fast'"),
        ("videos copies --crf 52", 2, "crf is 52; it must be from 1 to 51"),
        ("videos", 2, "DST"),
        ("empty copies", 3, "no video"),
    ],
)
def test_what_cannot_be_done_is_one_line(source: Path, line: str, code: int, part: str) -> None:
    Path("empty").mkdir()
    found, out, errors = call(line)
    assert (found, out) == (code, "")
    assert errors.startswith("error: ") and part in errors and errors.count("\n") == 1
    assert not Path("copies").exists() and not Path("videos/copies").exists()
