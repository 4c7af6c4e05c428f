"""Copies: the frames of the original, in a form that readers cannot get wrong."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from data.readers import making
from PIL import Image

from vidinit.data.copies.encode import Encoding, constant_rate, encode, encode_item
from vidinit.data.readers import DecordReader, VideoReadError, open_video, probe

X265 = {"x265-params": "log-level=none:keyint=12:pools=1:frame-threads=1:open-gop=1"}
# name: codec, pixel format, width and height, then those of the copy with a short side of 64
FORMS: dict[str, tuple[str, str, tuple[int, int], tuple[int, int]]] = {
    "b.mp4": ("libx264", "yuv420p", (96, 48), (96, 48)),
    "stream.ts": ("libx264", "yuv420p", (96, 48), (96, 48)),
    "odd.mkv": ("libx264", "yuv444p", (139, 61), (138, 60)),
    "ten.mp4": ("libx264", "yuv420p10le", (160, 80), (128, 64)),
    "hevc.mp4": ("libx265", "yuv420p10le", (96, 48), (96, 48)),
    "av1.mp4": ("libsvtav1", "yuv420p", (160, 90), (114, 64)),
    "vp9.webm": ("libvpx-vp9", "yuv420p", (100, 178), (64, 114)),
    "b.avi": ("libx264", "yuv420p", (96, 48), (96, 48)),
    "old.wmv": ("wmv2", "yuv420p", (96, 48), (96, 48)),
    "old.avi": ("mpeg4", "yuv420p", (96, 48), (96, 48)),
    "loop.gif": ("gif", "rgb8", (96, 48), (96, 48)),
}
OPTIONS: dict[str, dict[str, str]] = {"libx265": X265, "libsvtav1": {"preset": "12"}}


def read(path: Path) -> tuple[list[int], tuple[int, int]]:
    """What decord makes of a copy in random order: the codes in order, and width and height."""
    video = DecordReader(path)
    order = np.random.default_rng(0).permutation(video.num_frames)
    codes = making.codes_of(np.concatenate([video.decode([index]) for index in order.tolist()]))
    return [codes[at] for at in np.argsort(order)], video.size[::-1]


def packets(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("name", FORMS)
def test_a_copy_has_the_same_frames(tmp_path: Path, name: str) -> None:
    codec, pixels, size, copied_size = FORMS[name]
    source = making.encode(tmp_path / name, codec, pixels, size, **OPTIONS.get(codec, {}))
    assert encode(str(source), tmp_path / "copy.mp4", Encoding(short_side=64)) == 40
    assert read(tmp_path / "copy.mp4") == (making.FRAMES, copied_size)
    assert probe(tmp_path / "copy.mp4", reader="decord").reader == "decord"


def test_a_copy_is_made_for_simple_readers(tmp_path: Path) -> None:
    source = making.encode(tmp_path / "source.mkv", audio=True, offset=2, aspect=Fraction(4, 3))
    encode(str(source), tmp_path / "copy.mp4", Encoding(gop=5))
    found = packets(tmp_path / "copy.mp4")
    assert [at for at, packet in enumerate(found) if packet.is_keyframe] == list(range(0, 40, 5))
    assert [packet.pts for packet in found] == [packet.dts for packet in found]
    assert found[0].pts == 0
    assert {b.pts - a.pts for a, b in itertools.pairwise(found)} == {found[0].duration}
    data = (tmp_path / "copy.mp4").read_bytes()
    assert b"elst" not in data and data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "copy.mp4")) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.average_rate, stream.sample_aspect_ratio or 1) == (25, 1)
        # Pixels were 4:3: the picture keeps its shape, and no direction is enlarged.
        assert (stream.width, stream.height) == (96, 36)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_copy_is_upright(tmp_path: Path, degrees: int) -> None:
    wide = making.encode(tmp_path / "wide.mp4", size=(128, 64), codes=[1, 77, 200])
    source = making.turned(wide, tmp_path / "turned.mp4", degrees)
    encode(str(source), tmp_path / "copy.mp4", Encoding())
    frames = open_video(tmp_path / "copy.mp4").get([0, 1, 2])
    before = open_video(source, reader="pyav").get([0, 1, 2])
    assert probe(tmp_path / "copy.mp4").rotation == 0
    assert frames.shape == before.shape
    assert np.abs(frames.astype(int) - before).mean() < 2
    assert making.codes_of(np.rot90(frames, degrees // 90, axes=(1, 2))) == [1, 77, 200]


def test_folders_of_images_become_videos(tmp_path: Path) -> None:
    for number in range(15):
        picture = Image.fromarray(making.picture(number * 3))
        picture.save(tmp_path / f"frame_{number}.png")  # 2 comes before 10
    encode(str(tmp_path), tmp_path / "copy.mp4", Encoding(fps=12))
    assert read(tmp_path / "copy.mp4")[0] == list(range(0, 45, 3))
    assert probe(tmp_path / "copy.mp4").fps == 12


@pytest.mark.parametrize("pixels, full, matrix", [("yuvj420p", 2, 1), ("yuv420p", 1, 6)])
def test_colors_keep_their_tags(tmp_path: Path, pixels: str, full: int, matrix: int) -> None:
    ramp = np.linspace(0, 255, 96, dtype=np.uint8)
    image = np.broadcast_to(np.stack([ramp, ramp[::-1], ramp // 2], -1), (48, 96, 3))
    with av.open(str(tmp_path / "source.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = 96, 48, pixels
        stream.codec_context.color_range, stream.codec_context.colorspace = full, matrix
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        space = {1: "ITU709", 6: "SMPTE170M"}[matrix]
        frame = frame.reformat(format=pixels, dst_colorspace=space, dst_color_range=full)
        container.mux([*stream.encode(frame), *stream.encode()])
    encode(str(tmp_path / "source.mp4"), tmp_path / "copy.mp4", Encoding())
    with av.open(str(tmp_path / "copy.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_range, context.colorspace) == (full, matrix)
    shown = DecordReader(tmp_path / "copy.mp4").decode([0])[0]
    assert np.abs(shown.astype(int) - image).mean() < 3


def test_pictures_shrink_to_the_short_side_and_never_grow(tmp_path: Path) -> None:
    source = str(making.encode(tmp_path / "source.mp4", size=(322, 242), codes=[5]))
    for short_side, size in ((121, (160, 120)), (242, (322, 242)), (500, (322, 242))):
        encode(source, tmp_path / "copy.mp4", Encoding(short_side=short_side))
        assert read(tmp_path / "copy.mp4") == ([5], size)


def test_the_same_call_makes_the_same_bytes(tmp_path: Path) -> None:
    source = str(making.encode(tmp_path / "source.mp4"))
    for name, crf in (("a", 20), ("b", 20), ("c", 35)):
        encode(source, tmp_path / name, Encoding(crf=crf))
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b and len(c) < len(a)


def test_uneven_times_become_even(tmp_path: Path) -> None:
    times = [40 * at + 400 * (at > 9) for at in range(20)]  # a pause of ten frames
    source = str(making.encode(tmp_path / "source.mkv", times=times, codes=range(20)))
    assert encode(source, tmp_path / "copy.mp4", Encoding()) == 30
    shown = [*range(10), *[9] * 5, *[10] * 6, *range(11, 20)]
    assert read(tmp_path / "copy.mp4")[0] == shown
    assert probe(tmp_path / "copy.mp4").fps == 25
    encode(source, tmp_path / "copy.mp4", Encoding(fps=12.5))
    assert read(tmp_path / "copy.mp4")[0] == shown[::2]
    encode(source, tmp_path / "copy.mp4", Encoding(fps=50))
    assert probe(tmp_path / "copy.mp4").num_frames == 60


NTSC = np.arange(300) * 1001 / 30000


@pytest.mark.parametrize(
    "times, fps, rate",
    [
        (NTSC, 29.97002997, Fraction(30000, 1001)),
        (NTSC.round(3), 29.97002997, Fraction(30000, 1001)),  # containers that count milliseconds
        (NTSC + np.random.default_rng(0).uniform(-0.4, 0.4, 300) / 30, 29.97002997, None),
        (np.arange(300) / 25, 30.0, Fraction(25)),  # the container is wrong
        (np.arange(300) / 25, 0.0, Fraction(25)),
        (np.zeros(1), 15.0, Fraction(15)),
        (np.zeros(9), 0.0, Fraction(25)),
    ],
)
def test_steady_times_keep_every_frame(
    times: np.ndarray, fps: float, rate: Fraction | None
) -> None:
    found, picks = constant_rate(times - times[0], fps)
    assert picks.tolist() == list(range(len(times)))
    assert rate is None or found == rate


@pytest.mark.parametrize("wanted", [None, 10.0, 77.0])
def test_other_times_show_the_nearest_frame(wanted: float | None) -> None:
    steps = np.random.default_rng(1).choice([0.033, 0.034, 0.05, 0.2], 200, p=[0.4, 0.4, 0.1, 0.1])
    times = np.concatenate([[0.0], np.cumsum(steps)])
    rate, picks = constant_rate(times, 20.0, wanted)
    ticks = np.arange(len(picks)) / float(rate)
    distance = np.abs(times[None] - ticks[:, None])
    assert np.allclose(distance[np.arange(len(picks)), picks], distance.min(1))
    assert abs(ticks[-1] - times[-1]) < max(1 / 29, 1 / float(rate))
    if wanted is None:
        assert 29 < rate < 30.5  # what it usually is, not the 20 of the average
        assert len(set(picks.tolist())) > 195
    else:
        assert rate == wanted


def test_frames_are_not_repeated_without_end() -> None:
    times = np.cumsum([0.001 if at % 9 else 2.0 for at in range(90)])
    rate, picks = constant_rate(times - times[0], 0.0)
    assert len(picks) == 90
    assert float(rate) == pytest.approx(89 / (times[-1] - times[0]), rel=1e-3)


def item(source: Path, target: Path, partial: Path, *, keep: bool = False) -> dict[str, Any]:
    return {
        "keep": keep,
        "source": str(source),
        "target": str(target),
        "partial": str(partial),
        "encoding": {"crf": 20},
    }


def test_an_item_ends_whole_in_its_place(tmp_path: Path) -> None:
    source = making.encode(tmp_path / "source.mp4", codes=[3, 4])
    target, partial = tmp_path / "a" / "b" / "copy.mp4", tmp_path / "hidden" / "1.mp4"
    assert encode_item(item(source, target, partial)) == {"bytes": target.stat().st_size}
    assert read(target)[0] == [3, 4]
    assert not list(partial.parent.iterdir())


def damaged(folder: Path) -> Sequence[tuple[Path, str]]:
    sound = making.encode(folder / "sound.mp4", muxer={"movflags": "faststart"})
    data = sound.read_bytes()
    at = data.index(b"mdat") + len(data) // 3
    zeros = making.patched(sound, folder / "zeros.mp4", (at, bytes(400)))
    (folder / "cut.mp4").write_bytes(data[: len(data) * 3 // 4])
    (folder / "text.mp4").write_text("no video\n" * 99)
    return (
        (zeros, r"frame \d+ does not decode"),
        (folder / "cut.mp4", r"cut off: \d+ of 40 frames"),
        (folder / "text.mp4", "it is no video"),
    )


def test_a_damaged_file_leaves_nothing_behind(tmp_path: Path) -> None:
    for source, reason in damaged(tmp_path):
        target, partial = tmp_path / "out" / "copy.mp4", tmp_path / "hidden" / "1.mp4"
        with pytest.raises(VideoReadError, match=reason):
            encode_item(item(source, target, partial))
        assert not list(partial.parent.iterdir()) and not list(target.parent.iterdir())


@pytest.mark.parametrize("name", ["zeros.mp4", "cut.mp4"])
def test_the_beginning_of_a_damaged_file_is_copied(tmp_path: Path, name: str) -> None:
    damaged(tmp_path)
    source, target = tmp_path / name, tmp_path / "copy.mp4"
    made = encode_item(item(source, target, tmp_path / "1.mp4", keep=True))
    found = probe(source, full=True)  # what a check says of it
    assert 5 < found.num_frames < 40
    assert made == {
        "bytes": target.stat().st_size,
        "kept": found.num_frames,
        "of": 40,
        "reason": found.fault,
    }
    assert read(target)[0] == making.FRAMES[: found.num_frames]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_disk_is_not_the_file_s_fault(tmp_path: Path) -> None:
    source = making.encode(tmp_path / "source.mp4")
    target, partial = tmp_path / "copy.mp4", tmp_path / "partial.mp4"
    partial.symlink_to("/dev/full")
    stopped = encode_item(item(source, target, partial))
    assert stopped == {"stopped": "No space left on device"}
    assert not target.exists() and not partial.is_symlink()


def test_a_target_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    source = making.encode(tmp_path / "source.mp4", codes=[1])
    target = tmp_path / f"{'long' * 70}.mp4"
    with pytest.raises(VideoReadError, match="its copy cannot be written"):
        encode_item(item(source, target, tmp_path / "partial.mp4"))
    assert not (tmp_path / "partial.mp4").exists()
