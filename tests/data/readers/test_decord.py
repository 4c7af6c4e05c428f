from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from data.readers.making import X264, codes_of, damaged_between, encode, turned

from vidinit.data.readers import (
    DecordReader,
    PyAVReader,
    VideoReadError,
    decord,
    open_row,
    open_video,
    opening,
    probe,
    referee,
)
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
    assert isinstance(open_video(path, reader="decord"), DecordReader)
    assert probe(path, reader="decord").reader == "decord"
    assert probe(path).rotation == degrees


@pytest.mark.parametrize("degrees", [0, 90])
def test_readers_scale_alike(tmp_path: Path, degrees: int) -> None:
    path = encode(tmp_path / "clip.mp4", codes=range(20), size=(258, 130))
    if degrees:
        path = turned(path, tmp_path / "turned.mp4", degrees)
    row = Row(str(path), probe=probe(path, reader="decord"))
    videos = [open_row(row, reader=name, short_side=64) for name in ("decord", "pyav")]
    videos.append(open_video(path, reader="decord", short_side=64))
    assert isinstance(videos[0], DecordReader)
    assert isinstance(videos[2], DecordReader)
    expected = (128, 64) if degrees else (64, 128)
    frames = [video.get([19, 4]).astype(int) for video in videos]
    for video, got in zip(videos, frames, strict=True):
        assert video.size == expected
        assert got.shape == (2, *expected, 3)
        assert np.abs(got - frames[0]).mean() < 1
    assert codes_of(np.rot90(frames[0], degrees // 90, axes=(1, 2))) == [19, 4]


def _filmed(path: Path, count: int) -> Path:
    """A camera that stands still: one small square moves over a picture of noise."""
    scene = np.random.default_rng(0).integers(60, 196, (96, 160, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.options = {**X264, "g": "250"}
        for at in range(count):
            picture = scene.copy()
            picture[4:8, at % 150 : at % 150 + 4] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("off", [1, 7])
def test_a_camera_that_stands_still_hides_no_wrong_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: int
) -> None:
    path = _filmed(tmp_path / "still.mp4", 40)
    frames = PyAVReader(path).get(range(40)).astype(int)
    assert np.abs(frames[off:] - frames[:-off]).mean() < 1, "a mean difference that is small"
    assert probe(path, reader="decord").reader == "decord"

    class Early(DecordReader):
        def decode(self, order: list[int]) -> np.ndarray:
            return super().decode([max(index - off, 0) for index in order])

    monkeypatch.setattr(referee, "DecordReader", Early)
    assert probe(path, reader="decord").reader == "pyav"


def test_decord_which_does_not_tell_of_damage_reads_no_damaged_file(tmp_path: Path) -> None:
    path = damaged_between(tmp_path)
    assert not probe(path).fault, "the first, middle and last frame do not show it"
    found = probe(path, reader="decord")
    assert found.reader == "pyav" and found.kept == probe(path, full=True).kept != ""


def test_a_reader_that_shows_other_frames_is_found_out(
    tmp_path: Path, write_video: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "clip.mp4", 30)

    class Late(DecordReader):
        def decode(self, order: list[int]) -> np.ndarray:
            return super().decode([min(index + 1, 29) for index in order])

    class Long(DecordReader):
        def __init__(self, path: str, **options: Any) -> None:
            super().__init__(path, **options)
            self.num_frames += 1

    for wrong in (Late, Long):
        monkeypatch.setattr(referee, "DecordReader", wrong)
        assert probe(path, reader="decord").reader == "pyav"
    monkeypatch.setattr(opening, "DecordReader", Long)
    assert isinstance(open_video(path, reader="decord"), PyAVReader)


def test_a_busy_machine_does_not_change_the_choice(
    tmp_path: Path, write_video: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """decord gives up now and then where it waits for its decoder; it is asked again."""
    path = write_video(tmp_path / "clip.mp4", 30)

    class Impatient(DecordReader):
        asked = 0

        def decode(self, order: list[int]) -> np.ndarray:
            Impatient.asked += 1
            if Impatient.asked % 3:
                raise VideoReadError(self.path, "decord does not decode it")
            return super().decode(order)

    monkeypatch.setattr(referee, "DecordReader", Impatient)
    assert probe(path, reader="decord").reader == "decord"


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "mpeg4"), ("a.avi", "libx264"), ("a.wmv", "wmv2"), ("a.ts", "libx264")],
)
def test_what_a_rule_excludes_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str
) -> None:
    path = encode(tmp_path / name, codec, codes=range(10))
    for module in (opening, referee):
        monkeypatch.setattr(module, "DecordReader", None)
    row = Row(str(path), probe=probe(path, reader="decord"))
    assert row.probe is not None
    assert (row.probe.reader, row.probe.compared) == ("pyav", True)
    for video in (open_row(row, reader="decord"), open_video(path, reader="decord")):
        assert codes_of(video.get([7, 2])) == [7, 2]


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
