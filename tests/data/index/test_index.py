"""Checks: what can be read, what cannot and why, and what is remembered of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from data.readers import making

from vidinit.data import index
from vidinit.data.index import (
    UnreadableError,
    cache,
    check,
    known_probes,
    probe_file,
    quarantine,
)
from vidinit.data.readers import decord
from vidinit.data.rows import Probe, Row, Rows
from vidinit.errors import DataError

Write = Callable[..., Path]
KINDS = ("empty", "text", "image", "cut", "cut_faststart", "zeroed", "audio", "missing")
FUNCTIONS = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that went to the pool so far."""
    given: list[str] = []
    real = index.run_in_pool

    def counting(function: str, items: Iterator[list[Any]], **options: Any) -> Any:
        def count() -> Iterator[list[Any]]:
            for item in items:
                given.append(item[0])
                yield item

        return real(function, count(), **options)

    monkeypatch.setattr(index, "run_in_pool", counting)
    return given


@pytest.fixture
def injected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files called hang, crash and fault do that to their process; see `pool_functions.probe`."""
    monkeypatch.syspath_prepend(FUNCTIONS)
    real = index.run_in_pool
    monkeypatch.setattr(
        index, "run_in_pool", lambda _, items, **o: real("pool_functions:probe", items, **o)
    )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, write_video: Write) -> Path:
    return write_video(tmp_path_factory.mktemp("tiny") / "tiny.mp4", 5)


def rows_of(*paths: Path | str) -> Rows:
    return Rows(tuple(Row(str(path), 0) for path in paths), ("a",))


def copies(tiny: Path, folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    return [Path(shutil.copy(tiny, folder / f"{name}.mp4")) for name in names]


def test_check_keeps_what_decodes(
    tmp_path: Path, write_video: Write, bad_files: dict[str, Path]
) -> None:
    good = [write_video(tmp_path / f"{n}.mp4", n) for n in (5, 9)]
    order = [bad_files["text"], good[0], bad_files["cut"], good[1], good[0]]
    rows = Rows(
        tuple(Row(str(path), i % 2, i, i + 0.1) for i, path in enumerate(order)), ("even", "odd")
    )
    steps: list[tuple[int, int]] = []
    health = check(rows, progress=lambda done, total: steps.append((done, total)))
    kept = [(row.path, row.label, row.start, row.probe) for row in health.good.rows]
    five, nine = (Probe(*probe_file([str(path), False, "auto"])) for path in good)
    assert (five.num_frames, five.fps, five.height, five.width) == (5, 25.0, 48, 96)
    assert kept == [
        (str(good[0]), 1, 1, five),
        (str(good[1]), 1, 3, nine),
        (str(good[0]), 0, 4, five),
    ]
    assert health.good.classes == ("even", "odd")
    assert [path for path, _ in health.bad] == [str(bad_files["text"]), str(bad_files["cut"])]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    as_dict = json.loads(json.dumps(health.as_dict()))
    assert list(as_dict)[:3] == ["files", "good", "bad"]
    assert (as_dict["files"], as_dict["good"]) == (4, 2)
    assert as_dict["bad"][0]["path"] == str(bad_files["text"])
    assert as_dict["bad"][0]["reason"].startswith("it is no video")


def test_check_fails_when_nothing_is_readable(bad_files: dict[str, Path]) -> None:
    rows = rows_of(*(bad_files[name] for name in KINDS))
    with pytest.raises(DataError, match=r"none of 8 files can be read: .*empty\.mp4: the file is"):
        check(rows, max_bad=1.0, partial="drop")


def test_check_limits_the_share_of_bad_files(tiny: Path, bad_files: dict[str, Path]) -> None:
    rows = rows_of(tiny, bad_files["empty"], bad_files["text"])
    with pytest.raises(
        UnreadableError, match=r"2 of 3 files .*empty\.mp4.* raise data\.max_bad .*--max-bad"
    ) as caught:
        check(rows)
    assert len(caught.value.health.bad) == 2 and caught.value.exit_code == 3
    assert len(check(rows, max_bad=0.7).good) == 1
    assert len(check(rows_of(tiny, tiny), max_bad=0.0).good) == 2


def test_a_second_check_probes_only_what_changed(
    tiny: Path, tmp_path: Path, probed: list[str]
) -> None:
    files = copies(tiny, tmp_path / "set", "a", "b", "c", "d")
    files[1].write_bytes(b"no video")
    rows = rows_of(*files)
    first = check(rows)
    assert len(probed) == 4
    assert check(rows) == first
    assert len(probed) == 4
    os.utime(files[0], ns=(1, 1))  # written again
    shutil.copy(tiny, files[1])  # repaired
    files[2].write_bytes(files[2].read_bytes()[:900])  # broken
    again = check(rows)
    assert sorted(probed[4:]) == sorted(map(str, files[:3]))
    assert [path for path, _ in again.bad] == [str(files[2])]
    assert check(rows, cache=False) == again
    assert len(probed) == 11
    assert check(rows) == again
    assert len(probed) == 11


def test_names_of_one_file_are_one_entry(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probed: list[str]
) -> None:
    (file,) = copies(tiny, tmp_path / "set", "a")
    monkeypatch.chdir(tmp_path)
    health = check(rows_of("set/a.mp4", file, "./set/../set/a.mp4"))
    assert health.files == 1 and len(health.good) == 3 and len(probed) == 1
    assert [row.path for row in health.good.rows] == [
        "set/a.mp4",
        str(file),
        "./set/../set/a.mp4",
    ]
    monkeypatch.chdir(tmp_path / "set")
    check(rows_of("a.mp4"))
    assert len(probed) == 1


def test_what_is_not_there_needs_no_process_and_is_not_kept(
    tiny: Path, tmp_path: Path, probed: list[str]
) -> None:
    folder = tmp_path / "set"
    (good,) = copies(tiny, folder, "good")
    (folder / "empty.mp4").touch()
    (folder / "link.mp4").symlink_to("nowhere.mp4")
    (folder / "frames").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    names = ["missing.mp4", "empty.mp4", "link.mp4", "frames", "pipe.mp4", "good.mp4/a.mp4"]
    rows = rows_of(good, *(folder / name for name in names), "nul\0.mp4")
    health = check(rows, max_bad=1)
    assert [reason for _, reason in health.bad] == [
        "no such file",
        "the file is empty",
        "it is a broken link",
        "the folder is empty",
        "it cannot be reached (neither a file nor a folder)",
        "no such file",
        "no such file",
    ]
    assert probed == [str(good)]
    for name in ("missing", "nowhere"):
        copies(tiny, folder, name)
    assert len(check(rows, max_bad=1).bad) == 5


def test_permissions_are_looked_at_each_time(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probed: list[str]
) -> None:
    a, b = copies(tiny, tmp_path / "set", "a", "b")
    with monkeypatch.context() as patch:  # for uid 0 every file is readable
        patch.setattr(os, "access", lambda path, mode: str(path) != str(a))
        assert check(rows_of(a, b)).bad == ((str(a), "no permission to read it"),)
    assert probed == [str(b)]
    assert len(check(rows_of(a, b)).good) == 2


def test_files_that_hang_and_crash_cost_one_deadline_once(
    tiny: Path, tmp_path: Path, injected: None
) -> None:
    files = copies(tiny, tmp_path / "set", "a", "hang", "b", "crash", "c")
    began = time.perf_counter()
    health = check(rows_of(*files), deadline=4, workers=2)
    first = time.perf_counter() - began
    assert health.bad == (
        (str(files[1]), "no answer within 4 s"),
        (str(files[3]), "the decoder crashed (SIGSEGV)"),
    )
    assert len(health.good) == 3 and 4 < first < 8
    began = time.perf_counter()
    assert check(rows_of(*files), deadline=4, workers=2) == health
    assert time.perf_counter() - began < 4, "they are known"


def test_a_fault_of_the_probe_is_no_bad_file(
    tiny: Path, tmp_path: Path, injected: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = copies(tiny, tmp_path / "set", "a", "fault")
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError: .*fault\.mp4") as caught:
        check(rows_of(*files))
    assert "pool_functions.py" in str(caught.value), "its traceback is there"
    monkeypatch.undo()
    assert len(check(rows_of(*files)).good) == 2, "it was not kept as bad"


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    return making.damaged_between(tmp_path)


def test_a_full_check_says_where_a_file_is_damaged(damaged: Path, probed: list[str]) -> None:
    rows = rows_of(damaged)
    assert not check(rows).as_dict()["partial"]
    found = check(rows, full=True)
    (row,) = found.good.rows
    assert row.probe is not None and not found.bad
    kept = row.probe.num_frames
    assert 20 <= kept < 28
    (told,) = found.as_dict()["partial"]
    assert told == {"path": str(damaged), "kept": kept, "of": 40, "reason": row.probe.fault}
    assert re.match(f"frame {kept} does not decode", row.probe.fault)
    assert list(found.notes()) == [f"{damaged}: {row.probe.kept}"]
    assert (found.as_dict()["frames"], len(probed)) == (kept, 2)
    # All of it was decoded, so that a later check knows, too.
    assert check(rows) == check(rows, full=True) == found
    dropped = check(rows_of(damaged, damaged.with_name("sound.mp4")), partial="drop", max_bad=1)
    assert dropped.bad == ((str(damaged), row.probe.fault),)
    assert known_probes(rows, "drop")[1] == {0: row.probe.fault}
    assert len(probed) == 3


def test_a_cut_file_is_found_without_asking(tmp_path: Path) -> None:
    whole = making.encode(tmp_path / "a.mp4", paint=making.noisy, muxer={"movflags": "faststart"})
    found = check(rows_of(making.cut(whole, tmp_path / "cut.mp4", 80)))
    (told,) = found.as_dict()["partial"]
    assert told["of"] == 40 and 20 < told["kept"] < 40
    assert re.fullmatch(r"it is cut off: \d+ of 40 frames", told["reason"])


@pytest.mark.skipif(decord.load() is None, reason="decord is not installed")
def test_decord_is_compared_where_it_is_asked_for(
    tiny: Path, tmp_path: Path, probed: list[str]
) -> None:
    rows = rows_of(tiny, making.encode(tmp_path / "a.avi"))
    assert check(rows).as_dict()["readers"] == {"pyav": 2}
    found = check(rows, reader="decord")
    assert found.as_dict()["readers"] == {"decord": 1, "pyav": 1}
    assert list(found.notes("decord")) == ["PyAV reads 1 of 2 files, for which decord is not exact"]
    assert len(probed) == 4
    assert check(rows, reader="decord") == found
    assert check(rows).as_dict()["readers"] == {"pyav": 2}, "which is what auto reads with"
    assert len(probed) == 4


def test_what_crashes_decord_is_left_to_pyav(tiny: Path, tmp_path: Path, injected: None) -> None:
    files = copies(tiny, tmp_path / "set", "a", "decord_crash")
    found = check(rows_of(*files), reader="decord")
    assert not found.bad
    assert [row.probe.num_frames for row in found.good.rows if row.probe] == [5, 5]
    assert found.good.rows[1].probe.reader == "pyav"  # type: ignore[union-attr]


def test_what_an_older_version_found_is_not_trusted(tiny: Path, probed: list[str]) -> None:
    assert cache.cache_file().name == "probes-2.sqlite"
    check(rows_of(tiny))
    os.rename(cache.cache_file(), cache.cache_file().with_name("probes-1.sqlite"))
    check(rows_of(tiny))
    assert len(probed) == 2


def test_quarantine_holds_until_the_file_changes(
    tiny: Path, tmp_path: Path, probed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = copies(tiny, tmp_path / "set", "a", "b")
    assert not check(rows_of(a, b)).bad
    monkeypatch.chdir(tmp_path)
    quarantine("set/a.mp4", "it hung in training")
    quarantine("set/missing.mp4", "it is gone")
    assert check(rows_of(a, b)).bad == ((str(a), "it hung in training"),)
    assert len(probed) == 2
    os.utime(a, ns=(1, 1))
    assert not check(rows_of(a, b)).bad
    quarantine(str(b), "it crashed")
    assert not check(rows_of(a, b), cache=False).bad, "and a check that begins anew forgets it"


def test_an_interrupted_check_goes_on_where_it_stopped(
    tiny: Path, tmp_path: Path, probed: list[str]
) -> None:
    files = copies(tiny, tmp_path / "set", *map(str, range(10)))

    def interrupt(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(rows_of(*files), progress=interrupt, workers=1)
    before = len(probed)
    assert before < 10
    assert len(check(rows_of(*files)).good) == 10
    assert len(probed) - before == 4


@pytest.mark.slow
def test_a_check_that_is_killed_loses_half_a_second(
    tiny: Path, tmp_path: Path, probed: list[str]
) -> None:
    files = copies(tiny, tmp_path / "set", *map(str, range(6)))
    code = (
        "import os, sys, time\n"
        "from vidinit.data.index import check\n"
        "from vidinit.data.rows import Row, Rows\n"
        "def progress(done, total):\n"
        "    time.sleep(0.2)\n"
        "    if done == 4: os._exit(9)\n"
        "check(Rows(tuple(map(Row, sys.argv[1:]))), progress=progress)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, files)])
    assert done.returncode == 9
    assert len(check(rows_of(*files)).good) == 6
    assert 2 <= len(probed) <= 5, "the first is written at once, the others each half a second"


def test_without_a_cache_it_still_works(tiny: Path, tmp_path: Path, probed: list[str]) -> None:
    (tmp_path / "cache").write_text("no folder")
    for count in (1, 2):
        with pytest.warns(UserWarning, match="is not kept"):
            assert len(check(rows_of(tiny)).good) == 1
        assert len(probed) == count


@pytest.mark.parametrize(
    ("count", "bad"), [(40, 6), pytest.param(1000, 50, marks=pytest.mark.slow)]
)
def test_it_finds_exactly_the_bad_ones_and_remembers(
    tmp_path: Path, write_video: Write, count: int, bad: int
) -> None:
    bases = [write_video(tmp_path / f"base{n}.mp4", n) for n in (8, 12, 20)]
    files = [Path(shutil.copy(bases[i % 3], tmp_path / f"clip {i:04d}.mp4")) for i in range(count)]
    broken = files[3 :: count // bad][:bad]
    for i, file in enumerate(broken):
        data = file.read_bytes()
        half = len(data) // 2
        file.write_bytes([data[:half], b"text" * 300, b"", data[: half // 4]][i % 4])
    began = time.perf_counter()
    health = check(rows_of(*files))
    first = time.perf_counter() - began
    assert len(broken) == bad
    assert [path for path, _ in health.bad] == [str(file) for file in broken]
    lengths = {row.path: row.probe.num_frames for row in health.good.rows if row.probe}
    sound = [(str(file), (8, 12, 20)[i % 3]) for i, file in enumerate(files) if file not in broken]
    assert lengths == dict(sound)
    began = time.perf_counter()
    assert check(rows_of(*files)) == health
    second = time.perf_counter() - began
    assert second < first / 10, (first, second)
