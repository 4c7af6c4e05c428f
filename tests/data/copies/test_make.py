"""Copying a data set: what is done is whole, what is not is done by the next call."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data.readers import making

import vidinit
from vidinit.data.copies import make as module
from vidinit.data.copies.encode import Encoding, constant_rate
from vidinit.data.copies.make import UnpreparedError, prepare
from vidinit.data.copies.originals import find
from vidinit.data.readers import VideoReadError, open_video, probe
from vidinit.data.sources import labeled_rows
from vidinit.errors import DataError, UsageError, VidinitError

Tree = dict[str, tuple[bytes, int]]


def tree(folder: Path) -> Tree:
    """Content and time of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in files
    }


def copies(folder: Path) -> list[str]:
    """What is there under a final name."""
    found = (path.relative_to(folder) for path in folder.rglob("*.mp4"))
    return sorted(str(path) for path in found if path.parts[0] != ".prepare")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good files in two classes, the first frame of each saying which; and two bad ones."""
    folder = tmp_path_factory.mktemp("pristine")
    for number, name in enumerate(("a/1.avi", "a/2.mp4", "b/3.webm", "b/c/4.mkv")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        codec = {"a/1.avi": "mpeg4", "b/3.webm": "libvpx-vp9"}.get(name, "libx264")
        making.encode(folder / name, codec, codes=[number, *range(10, 20)])
    (folder / "a" / "bad.mp4").write_bytes(b"no video" * 99)
    (folder / "b" / "empty.mp4").touch()
    (folder / "b" / "notes.txt").write_text("not a video, and none was asked for")
    return folder


@pytest.fixture
def source(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "source")


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process may be started."""

    def run_in_pool(*_: Any, **__: Any) -> None:
        raise AssertionError("a pool was started")

    monkeypatch.setattr(module, "run_in_pool", run_in_pool)


NAMES = ["a/1.mp4", "a/2.mp4", "b/3.mp4", "b/c/4.mp4"]


def test_a_folder_is_copied_once_and_left_as_it_was(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, out, seen = tree(source), tmp_path / "out", []
    result = prepare(source, out, workers=2, progress=lambda *counts: seen.append(counts))
    assert copies(out) == NAMES
    for number, name in enumerate(NAMES):
        frames = open_video(out / name).get(range(11))
        assert making.codes_of(frames) == [number, *range(10, 20)]
    failed = {Path(item["path"]).name: item["reason"] for item in result["failed"]}
    assert list(failed) == ["bad.mp4", "empty.mp4"]
    assert "no video" in failed["bad.mp4"] and failed["empty.mp4"] == "the file is empty"
    counts = {key: result[key] for key in ("files", "done", "skipped", "out", "list")}
    assert counts == {"files": 6, "done": 4, "skipped": 0, "out": str(out), "list": None}
    good = (name for name in before if name[2:] in ("1.avi", "2.mp4", "3.webm", "c/4.mkv"))
    assert result["bytes_in"] == sum(len(before[name][0]) for name in good)
    assert result["bytes_out"] == sum((out / name).stat().st_size for name in NAMES)
    assert seen[0] == (1, 6) and seen[-1] == (6, 6)
    assert [entry.name for entry in (out / ".prepare").iterdir()] == ["settings.json"]

    # A second call looks at the bad file again, and at no other.
    done = tree(out)
    again = prepare(source, out)
    assert (again["done"], again["skipped"], again["failed"]) == (0, 4, result["failed"])
    assert (again["bytes_in"], again["bytes_out"]) == (result["bytes_in"], result["bytes_out"])
    assert tree(out) == done and tree(source) == before


def test_only_what_changed_is_done_again(source: Path, tmp_path: Path, idle: None) -> None:
    shutil.rmtree(source / "b")
    (source / "a" / "bad.mp4").unlink()
    out = tmp_path / "out"
    with pytest.raises(AssertionError, match="a pool was started"):
        prepare(source, out)
    for name in ("1.mp4", "2.mp4"):
        (out / "a" / name).parent.mkdir(exist_ok=True)
        (out / "a" / name).write_bytes(b"done")
    assert prepare(source, out)["skipped"] == 2  # and nothing is started
    newer = (out / "a" / "2.mp4").stat().st_mtime_ns + 10**9
    os.utime(source / "a" / "2.mp4", ns=(newer, newer))
    with pytest.raises(AssertionError, match="a pool was started"):
        prepare(source, out)


def test_shards_are_disjoint_and_complete(source: Path, tmp_path: Path) -> None:
    parts = [prepare(source, tmp_path / f"{i}", shard=(i, 3)) for i in (1, 2)]
    parts.append(prepare(source, tmp_path / "all", shard=(3, 3)))
    found = [copies(tmp_path / name) for name in ("1", "2", "all")]
    assert sorted(itertools.chain(*found)) == NAMES
    assert [part["files"] for part in parts] == [2, 2, 2]
    assert sum(len(part["failed"]) for part in parts) == 2
    # The last one goes on as the whole.
    assert prepare(source, tmp_path / "all")["done"] == 4 - len(found[2])
    for name, files in zip(("1", "2"), found, strict=False):
        for file in files:
            alone, together = (open_video(tmp_path / x / file) for x in (name, "all"))
            assert alone.num_frames == together.num_frames == 11
            shown = [making.codes_of(video.get(range(11))) for video in (alone, together)]
            assert shown[0] == shown[1] and shown[0][1:] == list(range(10, 20))
    assert prepare(source, tmp_path / "all", shard=(7, 7))["files"] == 0


@pytest.fixture
def traps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files called hang, crash and full do what they are called."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import prepare_functions

    monkeypatch.setattr(module, "encode_item", prepare_functions.trap)


def test_a_file_that_hangs_or_crashes_costs_itself(
    source: Path, tmp_path: Path, traps: None
) -> None:
    for name in ("hang", "crash"):
        shutil.copy(source / "a" / "2.mp4", source / "a" / f"{name}.mp4")
    result = prepare(source / "a", tmp_path / "out", workers=2, deadline=1.0)
    failed = {Path(item["path"]).name: item["reason"] for item in result["failed"]}
    assert failed["hang.mp4"] == "no answer within 1 s"
    assert failed["crash.mp4"] == "the decoder crashed (SIGSEGV)"
    assert result["done"] == 2 and copies(tmp_path / "out") == ["1.mp4", "2.mp4"]
    assert [path.name for path in (tmp_path / "out" / ".prepare").iterdir()] == ["settings.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_disk_ends_the_call(source: Path, tmp_path: Path, traps: None) -> None:
    shutil.copy(source / "a" / "2.mp4", source / "a" / "full.mp4")
    with pytest.raises(VidinitError, match=r"full\.mp4 cannot be written: No space") as caught:
        prepare(source / "a", tmp_path / "out")
    assert caught.value.exit_code == 1
    assert copies(tmp_path / "out") == ["1.mp4", "2.mp4"]
    assert [path.name for path in (tmp_path / "out" / ".prepare").iterdir()] == ["settings.json"]


def many(folder: Path, count: int) -> Path:
    """Copies of a file that takes a moment to encode."""
    folder.mkdir()
    first = making.encode(folder / "0.mp4", size=(640, 480), codes=range(60))
    for number in range(1, count):
        shutil.copy(first, folder / f"{number}.mp4")
    return folder


def started(source: Path, out: Path) -> subprocess.Popen[str]:
    """`vidinit data prepare` in a process, once some of the files are done and others are not."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vidinit", "data", "prepare", source, out, "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: out.exists() and len(copies(out)) > 1)
    assert process.poll() is None, process.communicate()
    return process


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_call_that_is_killed_is_repeated(tmp_path: Path) -> None:
    source, out = many(tmp_path / "source", 12), tmp_path / "out"
    process = started(source, out)
    process.kill()
    process.communicate()
    assert any(entry.is_dir() for entry in (out / ".prepare").iterdir()), "it left something"
    done = copies(out)
    assert 1 < len(done) < 12
    assert all(probe(out / name).num_frames == 60 for name in done)
    before = {name: (out / name).stat().st_ino for name in done}
    result = prepare(source, out, workers=2)
    assert (result["files"], result["done"] + result["skipped"]) == (12, 12)
    assert result["skipped"] >= len(done)
    assert {name: (out / name).stat().st_ino for name in done} == before
    assert len(copies(out)) == 12
    assert [entry.name for entry in (out / ".prepare").iterdir()] == ["settings.json"]


def test_an_interrupt_keeps_what_is_done(tmp_path: Path) -> None:
    source, out = many(tmp_path / "source", 12), tmp_path / "out"
    process = started(source, out)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].startswith("error: interrupted; what is done is kept")
    assert 1 < len(copies(out)) < 12
    assert [entry.name for entry in (out / ".prepare").iterdir()] == ["settings.json"]


def test_what_others_left_unfinished_goes_when_they_are_gone(
    source: Path, tmp_path: Path, idle: None
) -> None:
    out = tmp_path / "out"
    mine = module._identity().rpartition("-")[0]
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    places = {
        f"{mine}-{ended.pid}": False,  # killed
        f"{mine}-{os.getppid()}": True,  # at work
        "elsewhere-1-5": True,  # perhaps at work
        "elsewhere-1-6": False,  # long ago
    }
    for name in places:
        (out / ".prepare" / name).mkdir(parents=True)
    os.utime(out / ".prepare" / "elsewhere-1-6", (0, time.time() - 2 * 24 * 3600))
    assert socket.gethostname() in mine
    shutil.rmtree(source / "a")
    shutil.rmtree(source / "b" / "c")
    (source / "b" / "3.webm").unlink()
    with pytest.raises(UnpreparedError, match="the file is empty"):
        prepare(source, out)
    left = {entry.name for entry in (out / ".prepare").iterdir() if entry.is_dir()}
    assert left == {name for name, stays in places.items() if stays}


def test_nothing_is_written_where_originals_lie(source: Path, tmp_path: Path, idle: None) -> None:
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").symlink_to(source / "a")
    (tmp_path / "file").touch()
    (source / "list.txt").write_text("a/1.avi x\nb/3.webm y\n")
    (tmp_path / "list.txt").write_text("source/a/1.avi x\nsource/b/3.webm y\n")
    before = tree(tmp_path)
    for start, out, message in (
        (source, source, "lie in one another"),
        (source, source / "copies", "lie in one another"),
        (source, tmp_path, "lie in one another"),
        (source, tmp_path / "link" / "new", "lie in one another"),
        (tmp_path / "link", source / "new", "lie in one another"),
        (source, tmp_path / "sub", "among the originals in .*sub/a"),
        (source / "list.txt", source, "among the originals"),
        (tmp_path / "list.txt", tmp_path, "among the originals in .*source/a"),
        (source / "a" / "1.avi", source / "a", "among the originals"),
        (source, tmp_path / "full", "is not empty"),
        (source, tmp_path / "file", "is a file"),
        (source / "none", tmp_path / "out", "does not exist"),
    ):
        with pytest.raises(UsageError, match=message):
            prepare(start, out)
    with pytest.raises(DataError, match="no video"):
        prepare(tmp_path / "full", tmp_path / "out")
    assert tree(tmp_path) == before


def test_settings_are_not_mixed(source: Path, tmp_path: Path, idle: None) -> None:
    out = tmp_path / "out"
    for encoding in (Encoding(gop=6), Encoding(gop=6)):
        with pytest.raises(AssertionError, match="a pool was started"):
            prepare(source, out, encoding)
    with pytest.raises(UsageError, match=r"other settings \(short_side 256, gop 6, crf 20"):
        prepare(source, out)
    assert json.loads((out / ".prepare" / "settings.json").read_text())["gop"] == 6


def test_deadlines_grow_with_files(source: Path, tmp_path: Path, monkeypatch: Any) -> None:
    deadlines = {}

    def run_in_pool(_: str, items: list[Any], *, workers: int, deadline: float) -> Any:
        deadlines.update({Path(item["source"]).stem: deadline for item in items})
        yield from ()

    monkeypatch.setattr(module, "run_in_pool", run_in_pool)
    for name, size in (("1.avi", 1 << 26), ("2.mp4", (1 << 26) + 1), ("3.mp4", 1 << 30)):
        with open(source / "a" / name, "r+b" if name != "3.mp4" else "wb") as file:
            file.truncate(size)
    prepare(source / "a", tmp_path / "out", deadline=10)
    assert deadlines == {"1": 10, "bad": 10, "2": 20, "3": 160}


def test_a_list_is_copied_with_its_labels(source: Path, tmp_path: Path) -> None:
    listed = source.parent / "train.csv"
    listed.write_text("path,label,end\na/1.avi,run,0.2\nb/3.webm,jump,\na/1.avi,jump,\n")
    result = vidinit.prepare_data(listed, tmp_path / "out", root=source, fps="12.5")
    assert (result["files"], result["done"]) == (2, 2)
    rows = labeled_rows(result["list"])
    assert [Path(row.path).relative_to(tmp_path / "out") for row in rows.rows] == [
        Path(name) for name in ("a/1.mp4", "b/3.mp4", "a/1.mp4")
    ]
    assert [(row.label, row.end) for row in rows.rows] == [(1, 0.2), (0, None), (0, None)]
    assert probe(rows.rows[0].path).fps == 12.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"shard": "0/2"},
        {"shard": "3/2"},
        {"shard": "1"},
        {"fps": "fast"},
        {"fps": 0},
        {"fps": float("nan")},
        {"crf": 0},
        {"gop": 0},
        {"short_side": 8},
        {"workers": 0},
        {"deadline": -1.0},
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(wrong))} is .*must be"):
        vidinit.prepare_data(tmp_path, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_hard_files_are_copied_exactly_or_left_out(tmp_path: Path) -> None:
    from data.readers import hard_files

    (tmp_path / "hard").mkdir()
    cases = hard_files.build(tmp_path / "hard")
    out = tmp_path / "out"
    result = prepare(tmp_path / "hard", out, workers=2)
    failed = {item["path"]: item["reason"] for item in result["failed"]}
    names = find(str(tmp_path / "hard")).names
    copied = 0
    for name, case in cases.items():
        path = str(case.path)
        if path not in names:
            continue  # no video by its name
        if not case.path.is_file():
            assert path in failed, name  # a broken link, or a pipe that would never end
            continue
        try:
            video = open_video(path, reader="pyav")
            _, picks = constant_rate(video.times(), video.fps)
            codes = making.codes_of(video.get(picks))
        except VideoReadError:
            assert path in failed, name
            continue
        copy = open_video(out / names[path])
        assert making.codes_of(copy.get(range(copy.num_frames))) == codes, name
        assert copy.size == tuple(side // 2 * 2 for side in video.size) or "aspect" in name
        copied += 1
    assert copied >= 40
