from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from vidinit.data.decode import VideoReadError
from vidinit.data.index import Probe, check, probe
from vidinit.data.sources import Row, Rows
from vidinit.errors import DataError

Write = Callable[..., Path]
KINDS = ("empty", "text", "image", "cut", "cut_faststart", "zeroed", "audio", "missing")


def test_probe_describes_videos_and_images(tmp_path: Path, write_video: Write) -> None:
    assert probe(write_video(tmp_path / "clip.mp4", 30)) == Probe(30, 25.0, 48, 96)
    assert probe(write_video(tmp_path / "one.mp4", 1)) == Probe(1, 25.0, 48, 96)
    Image.new("RGB", (30, 20)).save(tmp_path / "still.jpg")
    assert probe(tmp_path / "still.jpg") == Probe(1, 0.0, 20, 30)


@pytest.mark.parametrize("name", KINDS)
def test_probe_rejects_every_kind_of_damage(bad_files: dict[str, Path], name: str) -> None:
    with pytest.raises(VideoReadError):
        probe(bad_files[name])


def test_check_keeps_what_decodes(
    tmp_path: Path, write_video: Write, bad_files: dict[str, Path]
) -> None:
    good = [write_video(tmp_path / f"{n}.mp4", n) for n in (5, 9)]
    order = [bad_files["text"], good[0], bad_files["cut"], good[1], good[0]]
    rows = Rows(tuple(Row(path, i % 2) for i, path in enumerate(order)), ("even", "odd"))
    steps: list[tuple[int, int]] = []
    health = check(rows, progress=lambda done, total: steps.append((done, total)))
    assert health.good == Rows(
        (Row(good[0], 1, 5), Row(good[1], 1, 9), Row(good[0], 0, 5)), ("even", "odd")
    )
    assert [path for path, _ in health.bad] == [bad_files["text"], bad_files["cut"]]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    as_dict = json.loads(json.dumps(health.as_dict()))
    assert (as_dict["files"], as_dict["good"]) == (4, 2)
    assert as_dict["bad"][0]["path"] == str(bad_files["text"])
    assert as_dict["bad"][0]["reason"].startswith("it is no video")


def test_check_fails_when_nothing_is_readable(bad_files: dict[str, Path]) -> None:
    rows = Rows(tuple(Row(bad_files[name], 0) for name in KINDS), ("a",))
    with pytest.raises(DataError, match=r"none of 8 files can be read: .*empty\.mp4: the file is"):
        check(rows, max_bad=1.0)


def test_check_limits_the_share_of_bad_files(
    tmp_path: Path, write_video: Write, bad_files: dict[str, Path]
) -> None:
    good = write_video(tmp_path / "good.mp4", 3)
    rows = Rows((Row(good, 0), Row(bad_files["empty"], 0), Row(bad_files["text"], 0)), ("a",))
    with pytest.raises(DataError, match=r"2 of 3 files .*empty\.mp4.* raise data\.max_bad"):
        check(rows)
    assert len(check(rows, max_bad=0.7).good) == 1
