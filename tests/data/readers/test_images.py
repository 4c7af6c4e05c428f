from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.readers.making import codes_of, picture
from PIL import Image

from vidinit.data.readers import ImageReader, VideoReadError, open_row, open_video, probe
from vidinit.data.rows import Probe, Row


def folder_of(path: Path, names: list[str]) -> Path:
    path.mkdir()
    for code, name in enumerate(names):
        Image.fromarray(picture(code)).save(path / name)
    return path


def test_still_images_are_videos_of_one_frame(tmp_path: Path) -> None:
    pixels = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    Image.fromarray(pixels).save(tmp_path / "still.png")
    video = open_video(tmp_path / "still.png")
    assert isinstance(video, ImageReader)
    assert (video.num_frames, video.fps, video.size) == (1, 0.0, (20, 30))
    assert np.array_equal(video.get([0, 0]), np.stack([pixels, pixels]))
    assert video.times().tolist() == [0.0]


def test_images_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    Image.new("L", (30, 20)).save(tmp_path / "photo.jpg", exif=exif)
    assert open_video(tmp_path / "photo.jpg").get([0]).shape == (1, 30, 20, 3)


def test_a_bad_image_is_the_same_error(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    with pytest.raises(VideoReadError, match="it is not a readable image"):
        open_video(tmp_path / "bad.jpg")


@pytest.mark.parametrize(
    "names",
    [
        [f"{at}.png" for at in range(12)],
        [f"img_{at:05d}.jpg" for at in range(1, 13)],
        [f"frame{at}.bmp" for at in (1, 2, 7, 8, 9, 10, 70, 100, 101, 1000, 1001, 2000)],
        ["a9.png", "a010.png", "a11.png", "b1.png"],
        ["cam2_7.png", "cam2_30.png", "cam10_1.png"],
    ],
)
def test_frame_folders_are_in_the_order_of_their_numbers(tmp_path: Path, names: list[str]) -> None:
    folder = folder_of(tmp_path / "frames.mp4", names)
    (folder / ".hidden.png").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("nothing")
    (folder / "more.png").mkdir()
    found = probe(folder)
    assert found == Probe(len(names), 0.0, 48, 96, 0, "frames")
    video = open_row(Row(str(folder), probe=found))
    order = [len(names) - 1, 0, 1, 1]
    assert codes_of(video.get(order)) == order
    assert codes_of(open_video(folder).get(range(len(names)))) == list(range(len(names)))
    assert (video.fps, video.times().tolist()) == (0.0, [0.0] * len(names))


def test_a_bad_frame_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "frames", [f"{at}.png" for at in range(5)])
    (folder / "3.png").write_bytes(b"nothing")
    assert open_video(folder).get([0, 4]).shape == (2, 48, 96, 3)
    with pytest.raises(VideoReadError, match=r"frames: 3\.png is not a readable image"):
        open_video(folder).get([2, 3])
    Image.new("RGB", (96, 50)).save(folder / "3.png")
    with pytest.raises(VideoReadError, match="its frame size changes"):
        open_video(folder).get([2, 3])


def test_pictures_have_no_times_to_cut_by(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "frames", ["1.png", "2.png"])
    with pytest.raises(VideoReadError, match="pictures have no times"):
        open_row(Row(str(folder), start=0.0, end=1.0))


@pytest.mark.parametrize("kind", ["image", "frames"])
def test_pictures_are_scaled(tmp_path: Path, kind: str) -> None:
    folder = folder_of(tmp_path / "frames", ["0.png", "1.png"])
    path = folder / "1.png" if kind == "image" else folder
    video = open_video(path, short_side=24, reader="decord")
    last = video.num_frames - 1
    assert video.size == (24, 48)
    assert codes_of(video.get([last])) == [1]
    assert open_row(Row(str(path), probe=probe(path)), short_side=24).size == (24, 48)
