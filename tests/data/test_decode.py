from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidinit.data import decode
from vidinit.data.decode import (
    DecordReader,
    ImageReader,
    PyAVReader,
    VideoReadError,
    open_video,
)

Write = Callable[..., Path]
Codes = Callable[[np.ndarray], list[int]]
ORDER = [29, 0, 17, 3, 3, 28, 11]


@pytest.mark.parametrize(
    ("suffix", "codec", "reader"),
    [
        (".mp4", "", DecordReader),
        (".mkv", "", DecordReader),
        (".webm", "", DecordReader),
        (".avi", "", DecordReader),
        (".ts", "", PyAVReader),
        (".mpg", "", PyAVReader),
        (".gif", "", PyAVReader),
        (".mp4", "libsvtav1", PyAVReader),
    ],
)
def test_open_video_is_frame_exact(
    tmp_path: Path, write_video: Write, codes: Codes, suffix: str, codec: str, reader: type
) -> None:
    pytest.importorskip("decord")
    video = open_video(write_video(tmp_path / f"clip{suffix}", 30, codec=codec))
    assert isinstance(video, reader)
    assert (video.num_frames, video.size) == (30, (48, 96))
    assert video.fps == pytest.approx(25)
    frames = video.get(ORDER)
    assert frames.dtype == np.uint8
    assert frames.shape == (len(ORDER), 48, 96, 3)
    assert codes(frames) == ORDER


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_pyav_reader_is_frame_exact(
    tmp_path: Path, write_video: Write, codes: Codes, suffix: str
) -> None:
    video = PyAVReader(write_video(tmp_path / f"clip{suffix}", 30))
    assert video.num_frames == 30
    assert codes(video.get(np.array(ORDER))) == ORDER


def test_readers_agree_to_the_pixel(tmp_path: Path, write_video: Write) -> None:
    pytest.importorskip("decord")
    path = write_video(tmp_path / "clip.mp4", 30)
    assert np.array_equal(DecordReader(path).get(ORDER), PyAVReader(path).get(ORDER))


@pytest.mark.parametrize("degrees", [90, 270])
def test_rotation_is_applied_by_both_readers(
    tmp_path: Path, write_video: Write, rotated: Callable[..., Path], degrees: int
) -> None:
    pytest.importorskip("decord")
    plain = write_video(tmp_path / "plain.mp4", 5)
    turned = rotated(plain, tmp_path / "turned.mp4", degrees)
    expected = np.rot90(PyAVReader(plain).get([3]), -degrees // 90, axes=(1, 2))
    for reader in (PyAVReader(turned), DecordReader(turned)):
        assert reader.size == (96, 48)
        assert np.array_equal(reader.get([3]), expected)


def test_pyav_stands_in_where_decord_is_missing(
    tmp_path: Path, write_video: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "clip.mp4", 5)
    monkeypatch.setattr(decode, "_decord", lambda: None)
    assert isinstance(open_video(path), PyAVReader)
    with pytest.raises(VideoReadError, match="decord is not installed"):
        DecordReader(path)


def test_pyav_reads_what_decord_gives_up_on(
    tmp_path: Path, write_video: Write, codes: Codes
) -> None:
    decord = pytest.importorskip("decord")

    class Tired:
        def get_batch(self, indices: list[int]) -> None:
            raise decord.DECORDError("Unable to handle EOF")

    reader = DecordReader(write_video(tmp_path / "clip.mp4", 10))
    reader._reader = Tired()
    assert codes(reader.get([9, 2])) == [9, 2]


def test_still_images_are_videos_of_one_frame(tmp_path: Path) -> None:
    pixels = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    Image.fromarray(pixels).save(tmp_path / "still.png")
    video = open_video(tmp_path / "still.png")
    assert isinstance(video, ImageReader)
    assert (video.num_frames, video.fps, video.size) == (1, 0.0, (20, 30))
    assert np.array_equal(video.get([0, 0]), np.stack([pixels, pixels]))


def test_images_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    Image.new("L", (30, 20)).save(tmp_path / "photo.jpg", exif=exif)
    assert open_video(tmp_path / "photo.jpg").get([0]).shape == (1, 30, 20, 3)


@pytest.mark.parametrize("reader", [DecordReader, PyAVReader])
@pytest.mark.parametrize("index", [-1, 10])
def test_an_index_out_of_range_is_an_error(
    tmp_path: Path, write_video: Write, reader: type, index: int
) -> None:
    if reader is DecordReader:
        pytest.importorskip("decord")
    video = reader(write_video(tmp_path / "clip.mp4", 10))
    with pytest.raises(VideoReadError, match=f"it has 10 frames, no frame {index}"):
        video.get([0, index])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "the file is empty"),
        ("text", "it is no video, or a damaged one"),
        ("image", "it is a still image under a video's name"),
        ("cut", "it is no video, or a damaged one"),
        ("cut_faststart", r"it is cut off: \d+ of 60 frames"),
        ("audio", "it has no video stream"),
        ("missing", "no such file"),
    ],
)
def test_bad_files_fail_to_open_quietly(
    bad_files: dict[str, Path], name: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VideoReadError, match=reason) as caught:
        open_video(bad_files[name])
    assert caught.value.path == bad_files[name]
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("with_decord", [True, False])
def test_a_damaged_frame_fails_to_decode(
    bad_files: dict[str, Path], with_decord: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_decord:
        monkeypatch.setattr(decode, "_decord", lambda: None)
    with pytest.raises(VideoReadError, match=r"frame \d+ does not decode|it ends after"):
        open_video(bad_files["zeroed"]).get([0, 59])


def test_a_header_without_frames_is_an_error(tmp_path: Path, write_video: Write) -> None:
    fragmented = write_video(tmp_path / "clip.mp4", 10, movflags="frag_keyframe+empty_moov")
    data = fragmented.read_bytes()
    header = tmp_path / "header.mp4"
    header.write_bytes(data[: data.index(b"moof") - 4])
    for opened in (PyAVReader, open_video):
        with pytest.raises(VideoReadError, match="it has no frame"):
            opened(header)


def test_a_frame_size_that_changes_is_an_error(tmp_path: Path, write_video: Write) -> None:
    parts = [write_video(tmp_path / f"{width}.ts", 10, width=width) for width in (96, 64)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert open_video(joined).get([1, 4]).shape == (2, 48, 96, 3)
    with pytest.raises(VideoReadError, match="its frame size changes"):
        open_video(joined).get([1, 15])


def test_a_bad_image_is_the_same_error(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    with pytest.raises(VideoReadError, match="it is not a readable image"):
        open_video(tmp_path / "bad.jpg")
