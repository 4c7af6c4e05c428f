"""Readers give back what they take, without the help of the garbage collector."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest
from data.readers.making import OPEN, encode

from vidinit.data.readers import VideoReadError, open_row, open_video, probe
from vidinit.data.rows import Row

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize("opens", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_many_opens_leave_nothing_behind(
    tmp_path: Path, bad_files: dict[str, Path], opens: int
) -> None:
    good = [
        encode(tmp_path / "a.mp4"),
        encode(tmp_path / "b.mp4", **OPEN),
        encode(tmp_path / "c.ts"),
        encode(tmp_path / "d.webm", "libvpx-vp9", deadline="realtime"),
    ]
    bad = [bad_files[name] for name in ("text", "cut_faststart", "audio", "zeroed", "image")]
    rows = [Row(str(path), probe=probe(path)) for path in good]
    gc.collect()
    gc.disable()
    try:
        _open(rows, bad, 100)
        files, memory = _open_files(), _resident()
        failed = _open(rows, bad, opens)
        assert failed == opens // 4
        assert _open_files() == files
        assert _resident() - memory < 20
    finally:
        gc.enable()


def _open(rows: list[Row], bad: list[Path], opens: int) -> int:
    """Open files, every fourth a bad one and every second with its probe; how many failed."""
    failed = 0
    for at in range(opens):
        row = rows[at // 4 % len(rows)]
        try:
            if at % 4 == 3:
                open_video(bad[at // 4 % len(bad)]).get([0, 59])
            elif at % 2:
                open_row(row).get([30, 5])
            else:
                open_video(row.path).get([30, 5])
        except VideoReadError:
            failed += 1
    return failed


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
