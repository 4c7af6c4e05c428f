"""What is kept of files between checks, and what happens when it cannot be kept."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from vidinit.data.index import cache
from vidinit.data.index.cache import ProbeCache, Stamp, cache_file, file_key, stamp_of
from vidinit.data.rows import Probe

PROBE = Probe(120, 29.97, 240, 320, 90, "pyav")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def remember(key: str, stamp: Stamp, result: Probe | str) -> None:
    with ProbeCache() as store:
        store.add(key, stamp, result)


def recall(key: str, stamp: Stamp) -> Probe | str | None:
    with ProbeCache() as store:
        return store.find({key: stamp}).get(key)


def test_what_was_found_is_found_again() -> None:
    remember("/a.mp4", Stamp(10, 5), PROBE)
    remember("/b.mp4", Stamp(11, 6), "it is no video")
    with ProbeCache() as store:
        wanted = {"/a.mp4": Stamp(10, 5), "/b.mp4": Stamp(11, 6), "/c.mp4": Stamp(1, 1)}
        assert store.find(wanted) == {"/a.mp4": PROBE, "/b.mp4": "it is no video"}


def test_another_stamp_is_another_file_and_the_last_finding_counts() -> None:
    remember("/a.mp4", Stamp(10, 5), PROBE)
    assert recall("/a.mp4", Stamp(11, 5)) is None
    assert recall("/a.mp4", Stamp(10, 6)) is None
    remember("/a.mp4", Stamp(10, 6), "it hangs")
    assert recall("/a.mp4", Stamp(10, 6)) == "it hangs"
    assert recall("/a.mp4", Stamp(10, 5)) is None


def test_other_decoders_know_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    remember("/a.mp4", Stamp(10, 5), PROBE)
    mine = cache.decoders()
    monkeypatch.setattr(cache, "decoders", lambda: mine + 1)
    assert recall("/a.mp4", Stamp(10, 5)) is None
    remember("/a.mp4", Stamp(10, 5), "decoder av1 is missing")
    monkeypatch.setattr(cache, "decoders", lambda: mine)
    assert recall("/a.mp4", Stamp(10, 5)) == PROBE


def test_more_files_than_one_query_takes_strange_names_and_far_times() -> None:
    keys = [f"/{i}.mp4" for i in range(1300)] + ["/ü'\n.mp4", os.fsdecode(b"/\xff\xfe.mp4")]
    stamps = {key: Stamp(i, -1 if i % 2 else 2**70) for i, key in enumerate(keys)}
    with ProbeCache() as store:
        for key, stamp in stamps.items():
            store.add(key, stamp, PROBE)
    with ProbeCache() as store:
        assert store.find(stamps) == dict.fromkeys(keys, PROBE)


def test_one_file_has_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = os.getcwd()
    names = ["a.mp4", "./a.mp4", "b/../a.mp4", f"{here}/a.mp4", f"{here}//a.mp4"]
    assert {file_key(name) for name in names} == {f"{here}/a.mp4"}
    assert file_key("c/x.tar::d/a.mp4@512+40") == f"{here}/c/x.tar::d/a.mp4@512+40"
    assert file_key("odd::name.mp4") == f"{here}/odd::name.mp4"


def test_stamps_of_files_folders_and_members(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"12345")
    os.utime(file, ns=(7, 7))
    assert stamp_of(str(file)) == Stamp(5, 7)
    (tmp_path / "link.mp4").symlink_to(file)
    assert stamp_of(str(tmp_path / "link.mp4")) == Stamp(5, 7)
    archive = tmp_path / "x.tar"
    archive.write_bytes(b"0" * 4096)
    os.utime(archive, ns=(8, 8))
    assert stamp_of(f"{archive}::m.mp4@512+40") == Stamp(40, 8)
    with pytest.raises(OSError):
        stamp_of(str(tmp_path / "none.mp4"))
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(OSError, match="neither a file nor a folder"):
        stamp_of(str(tmp_path / "pipe.mp4"))


def test_the_stamp_of_a_folder_of_frames_sees_each_change(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(3):
        (frames / f"{i}.jpg").write_bytes(b"x")
        os.utime(frames / f"{i}.jpg", ns=(10 + i, 10 + i))
    os.utime(frames, ns=(5, 5))
    assert stamp_of(str(frames)) == Stamp(3, 12)
    os.utime(frames / "1.jpg", ns=(99, 99))
    assert stamp_of(str(frames)) == Stamp(3, 99)
    (frames / "1.jpg").unlink()
    assert stamp_of(str(frames)).size == 2


def test_the_place_follows_the_standard(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_file().parent == home / "vidinit"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_file().parent == tmp_path / ".cache" / "vidinit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_file().parent == tmp_path / ".cache" / "vidinit"


def test_several_processes_write_at_once() -> None:
    code = (
        "import sys; from vidinit.data.index.cache import *; from vidinit.data.index import cache\n"
        "cache._INTERVAL = 0.0\n"  # a commit for each file
        "mine = {f'/{sys.argv[1]}/{i}.mp4': Stamp(i, i) for i in range(25)}\n"
        "with ProbeCache() as store:\n"
        "    for key, stamp in mine.items(): store.add(key, stamp, f'by {sys.argv[1]}')\n"
        "    assert store.find(mine) == dict.fromkeys(mine, f'by {sys.argv[1]}')\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code, str(i)]) for i in range(2)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    stamps = {f"/{w}/{i}.mp4": Stamp(i, i) for w in range(2) for i in range(25)}
    with ProbeCache() as store:
        assert len(store.find(stamps)) == 50


def damage_header(file: Path) -> None:
    file.write_bytes(b"this is no database" * 500)


def damage_pages(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def other_table(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE probes (something TEXT)")
    database.close()


@pytest.mark.parametrize("damage", [damage_header, damage_pages, cut, other_table])
def test_a_damaged_cache_is_said_once_and_done_without(damage: object) -> None:
    stamps = {f"/{i}.mp4": Stamp(i, i) for i in range(400)}
    with ProbeCache() as store:
        for key, stamp in stamps.items():
            store.add(key, stamp, PROBE)
    damage(cache_file())  # type: ignore[operator]
    with warnings.catch_warnings(record=True) as caught, ProbeCache() as store:
        warnings.simplefilter("always")
        found = store.find(stamps)
        store.add("/new.mp4", Stamp(1, 1), PROBE)
        found.update(store.find(stamps))
    assert len(found) < 400 and set(found.values()) <= {PROBE}
    (warning,) = caught
    assert str(cache_file()) in str(warning.message) and "cannot be used" in str(warning.message)


def test_a_place_that_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write_text("a file")
    with pytest.warns(UserWarning, match="is not kept"):
        remember("/a.mp4", Stamp(1, 1), PROBE)
    with pytest.warns(UserWarning, match="is not kept"):
        assert recall("/a.mp4", Stamp(1, 1)) is None
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.warns(UserWarning, match="no home"):
        remember("/a.mp4", Stamp(1, 1), PROBE)


def test_a_cache_that_stays_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_PATIENCE", 0.1)
    remember("/a.mp4", Stamp(1, 1), PROBE)
    other = sqlite3.connect(cache_file())
    other.execute("BEGIN EXCLUSIVE")
    with pytest.warns(UserWarning, match="locked"):
        remember("/b.mp4", Stamp(1, 1), PROBE)
    other.close()
    assert recall("/a.mp4", Stamp(1, 1)) == PROBE


def written(**columns: object) -> None:
    """Other values in the columns of all rows."""
    with sqlite3.connect(cache_file()) as database:
        for name, value in columns.items():
            database.execute(f"UPDATE probes SET {name} = ?", [value])
    database.close()


DAMAGED = [
    *("[1, 2", "[1]", "7", '{"a": 1}', "", "null", "[]", "[" * 20_000, b"[120, 30, 240, 320]", 7),
    *('["120", 29.97, 240, 320]', "[120, null, 240, 320]", "[120, 29.97, 240.5, 320]"),
    *("[true, 29.97, 240, 320]", "[120, 29.97, [240], 320]", "[120, 29.97, 240, 320, 90, 5]"),
    *("[0, 29.97, 240, 320]", "[120, -1, 240, 320]", "[120, NaN, 240, 320]"),
    *("[120, Infinity, 240, 320]", "[120, 29.97, 0, 320]", "[120, 29.97, 240, 320, 45]"),
    *('[120, 29.97, 240, 320, 90, "evil"]', '[120, 30, 240, 320, 90, "pyav", 1]'),
    '[120, 30, 240, 320, 90, "pyav", "", 0, "", 0]',
    '[120, 30, 240, 320, 90, "pyav", "", 0, "", false, false, false, "more"]',
]


def test_a_damaged_entry_is_unknown() -> None:
    remember("/a.mp4", Stamp(1, 1), PROBE)
    for text in DAMAGED:
        written(probe=text)
        assert recall("/a.mp4", Stamp(1, 1)) is None, text
    for reason in (b"bytes", "", None):  # numbers are text there
        written(probe=None, reason=reason)
        assert recall("/a.mp4", Stamp(1, 1)) is None, reason
    for stamp in (None, b"1 1", "1", "1 1 1"):
        written(reason="it is no video", stamp=stamp)
        assert recall("/a.mp4", Stamp(1, 1)) is None, stamp
    written(stamp="1 1")
    assert recall("/a.mp4", Stamp(1, 1)) == "it is no video"


def test_an_entry_with_fewer_values_has_the_rest_by_default() -> None:
    remember("/a.mp4", Stamp(1, 1), PROBE)
    written(probe="[120, 30, 240, 320]")
    assert recall("/a.mp4", Stamp(1, 1)) == Probe(120, 30, 240, 320)


def test_a_cache_that_may_be_read_only_is_read(home: Path) -> None:
    """Everything may be written by root, so the database itself refuses."""
    remember("/a.mp4", Stamp(1, 1), PROBE)
    with sqlite3.connect(cache_file()) as database:
        database.execute(
            "CREATE TRIGGER fixed BEFORE INSERT ON probes "
            "BEGIN SELECT RAISE(ABORT, 'attempt to write a readonly database'); END"
        )
    database.close()
    with pytest.warns(UserWarning, match="is not kept.*readonly"):
        remember("/b.mp4", Stamp(1, 1), PROBE)
    assert recall("/a.mp4", Stamp(1, 1)) == PROBE
