from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.readers.making import codes_of, encode, turned

from vidinit.data.readers import DecordReader, PyAVReader, decord, open_row, open_video, probe
from vidinit.data.rows import Row
from vidinit.errors import UsageError

pytestmark = pytest.mark.skipif(decord.load() is None, reason="decord is not installed")
Write = Callable[..., Path]
ORDER = [29, 0, 17, 3, 3, 28, 11]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_readers_agree_to_the_pixel(tmp_path: Path, write_video: Write, suffix: str) -> None:
    path = write_video(tmp_path / f"clip{suffix}", 30)
    assert np.array_equal(DecordReader(path).get(ORDER), PyAVReader(path).get(ORDER))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied_by_both_readers(tmp_path: Path, degrees: int) -> None:
    plain = encode(tmp_path / "plain.mp4", codes=range(5), size=(128, 64))
    path = turned(plain, tmp_path / "turned.mp4", degrees)
    expected = np.rot90(PyAVReader(plain).get([3]), -degrees // 90, axes=(1, 2))
    for reader in (PyAVReader(path), DecordReader(path)):
        assert np.array_equal(reader.get([3]), expected)
        assert reader.size == expected.shape[1:3]
    assert isinstance(open_video(path), DecordReader)
    assert probe(path).rotation == degrees


@pytest.mark.parametrize("degrees", [0, 90])
def test_readers_scale_alike(tmp_path: Path, degrees: int) -> None:
    path = encode(tmp_path / "clip.mp4", codes=range(20), size=(258, 130))
    if degrees:
        path = turned(path, tmp_path / "turned.mp4", degrees)
    row = Row(str(path), probe=probe(path))
    videos = [open_row(row, reader=name, short_side=64) for name in ("decord", "pyav")]
    videos.append(open_video(path, short_side=64))
    assert isinstance(videos[0], DecordReader)
    assert isinstance(videos[2], DecordReader)
    expected = (128, 64) if degrees else (64, 128)
    frames = [video.get([19, 4]).astype(int) for video in videos]
    for video, got in zip(videos, frames, strict=True):
        assert video.size == expected
        assert got.shape == (2, *expected, 3)
        assert np.abs(got - frames[0]).mean() < 1
    assert codes_of(np.rot90(frames[0], degrees // 90, axes=(1, 2))) == [19, 4]


def test_times_are_those_of_pyav(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", codes=range(6), times=[0, 40, 41, 300, 333, 1000])
    assert DecordReader(path).times() == pytest.approx(PyAVReader(path).times(), abs=1e-5)


@pytest.mark.parametrize("size", [None, (24, 48)])
def test_pyav_reads_what_decord_gives_up_on(
    tmp_path: Path, write_video: Write, size: tuple[int, int] | None
) -> None:
    class Tired:
        def get_batch(self, indices: list[int]) -> None:
            raise decord.load().DECORDError("Unable to handle EOF")  # type: ignore[union-attr]

    reader = DecordReader(write_video(tmp_path / "clip.mp4", 10), size=size)
    reader._reader = Tired()
    frames = reader.get([9, 2])
    assert codes_of(frames) == [9, 2]
    assert frames.shape[1:3] == (size or (48, 96))


def test_it_is_an_error_of_use_where_decord_is_missing(
    tmp_path: Path, write_video: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "clip.mp4", 5)
    monkeypatch.setattr(decord, "load", lambda: None)
    for ask in (lambda: DecordReader(path), lambda: open_video(path, reader="decord")):
        with pytest.raises(UsageError, match="decord is not installed"):
            ask()
