"""The zoo of hard files, and what should become of each of them."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from data.readers.making import (
    FRAMES,
    OPEN,
    X264,
    codes_of,
    edited,
    encode,
    hiding,
    packets,
    patched,
    silence,
    skipping,
    timeless,
    turned,
    without_beginning,
)
from PIL import Image

from vidinit.data.readers import DecordReader, PyAVReader, VideoReadError, open_row, probe
from vidinit.data.rows import Row


@dataclass(frozen=True)
class Case:
    """A file and what is expected of it.

    Attributes:
        codes: what its frames say, in order; empty: what PyAV shows of it, some of ``FRAMES``.
        reason: a pattern in the reason why it cannot be read.
        fault: a pattern in the reason why only its beginning can be read, of which ``codes`` are
            all there might be.
        least: frames that such a beginning has at least.
        access: how its frames should be found, where the file leaves no choice.
        fps: its rate, where that is what makes it hard.
        reader: what should be found to be exact for it, where the file leaves no choice.
        decord: what decord does alone: it is ``right`` about all frames or ``wrong`` about some
            (or about how many there are), or it ``hangs``. Empty: it depends.
        rotation: degrees clockwise.
    """

    path: Path
    codes: Sequence[int] = tuple(FRAMES)
    reason: str = ""
    reader: str = ""
    decord: str = ""
    rotation: int = 0
    fault: str = ""
    least: int = 0
    access: str = ""
    fps: float | None = None


def fast(path: Path, codes: Sequence[int] = FRAMES, rotation: int = 0) -> Case:
    """A file for decord."""
    return Case(path, codes, reader="decord", decord="right", rotation=rotation)


def trap(path: Path, codes: Sequence[int] = FRAMES) -> Case:
    """A file that decord gets wrong."""
    return Case(path, codes, reader="pyav", decord="wrong")


def build(folder: Path) -> dict[str, Case]:
    """Write all files and say what should become of each."""
    return {
        **_containers(folder),
        **_codecs(folder),
        **_changed(folder),
        **_damaged(folder),
        **_strange(folder),
    }


def _containers(folder: Path) -> dict[str, Case]:
    def file(name: str, *args: Any, **options: Any) -> Path:
        return encode(folder / name, *args, **options)

    irregular = np.cumsum([33 if at % 3 else 90 for at in FRAMES]).tolist()
    spaced = folder / "a folder" / "vidéo 動画 #1.mp4"
    spaced.parent.mkdir()
    return {
        "one group": fast(file("g250.mp4", **{**X264, "g": "250"})),
        "no b-frames": fast(file("nob.mp4", **{**X264, "bf": "0"})),
        "faststart": fast(file("fast.mp4", muxer={"movflags": "faststart"})),
        "start offset": fast(file("offset.mp4", offset=2)),
        "start offset mkv": fast(file("offset.mkv", offset=2)),
        "pixel aspect": fast(file("aspect.mp4", aspect=Fraction(4, 3))),
        "audio first": fast(file("audio.mp4", audio=True)),
        "fragmented": fast(file("frag.mp4", muxer={"movflags": "frag_keyframe+empty_moov"})),
        "mkv": fast(file("plain.mkv")),
        "flv": fast(file("plain.flv")),
        "mov": fast(file("plain.mov")),
        "vfr mp4": fast(file("vfr.mp4", times=irregular)),
        "vfr mkv": fast(file("vfr.mkv", times=irregular)),
        "mpeg-ts": trap(file("plain.ts")),
        "mpeg-ts mpeg2": trap(file("mpeg2.ts", "mpeg2video", bf="2")),
        "mpeg-ps": trap(file("plain.mpg", "mpeg2video", bf="2")),
        "portrait": fast(file("portrait.mp4", size=(98, 160))),
        "unicode and spaces": fast(encode(spaced)),
        "one frame": fast(file("one.mp4", codes=[77]), [77]),
        "two frames": fast(file("two.webm", "libvpx-vp9", codes=[7, 8]), [7, 8]),
        "odd 4:4:4": fast(file("odd.mp4", pixels="yuv444p", size=(319, 239))),
        "322x242": fast(file("even.mp4", size=(322, 242))),
        "too small for decord": trap(file("small.mp4", size=(48, 48))),
    }


def _codecs(folder: Path) -> dict[str, Case]:
    def file(name: str, *args: Any, **options: Any) -> Path:
        return encode(folder / name, *args, **options)

    x265 = "log-level=none:keyint=12:min-keyint=12:scenecut=0:pools=1:frame-threads=1:open-gop="
    closed, opened = {"x265-params": f"{x265}0"}, {"x265-params": f"{x265}1"}
    return {
        "open gop": trap(file("open.mp4", **OPEN)),
        "open gop mkv": trap(file("open.mkv", **OPEN)),
        "open gop mpeg2 mkv": trap(file("open2.mkv", "mpeg2video", bf="2", g="12")),
        "open gop hevc": trap(file("open_hevc.mp4", "libx265", **opened)),
        "hevc": fast(file("hevc.mp4", "libx265", **closed)),
        "hevc 10 bit": fast(file("hevc10.mp4", "libx265", "yuv420p10le", **closed)),
        "h264 10 bit": fast(file("h264_10.mp4", pixels="yuv420p10le")),
        "yuv444": fast(file("444.mp4", pixels="yuv444p")),
        "vp9 webm": fast(file("vp9.webm", "libvpx-vp9", deadline="realtime", g="12")),
        "vp8": fast(file("vp8.webm", "libvpx")),
        "vp8 hidden frames": trap(
            hiding(folder / "hidden.webm", (7, 20)), [at for at in FRAMES if at not in (7, 20)]
        ),
        "av1": trap(file("av1.mp4", "libsvtav1", preset="12")),
        "gif": trap(file("plain.gif", "gif", "rgb8")),
    }


def _changed(folder: Path) -> dict[str, Case]:
    """Sound files with the marks of editing."""
    plain, opened = encode(folder / "unedited.mp4"), encode(folder / "open_.mp4", **OPEN)
    mkv, stream = encode(folder / "whole.mkv"), encode(folder / "whole.ts").read_bytes()
    (folder / "late.ts").write_bytes(stream[188 * 25 :])
    cases = {
        "edit list": trap(edited(plain, folder / "edit.mp4", (15, 20)), FRAMES[15:35]),
        "edit list, end only": trap(edited(plain, folder / "tail.mp4", (0, 20)), FRAMES[:20]),
        "edit list of two parts": trap(
            edited(plain, folder / "parts.mp4", (20, 10), (5, 12)), FRAMES[20:30] + FRAMES[5:17]
        ),
        "open gop and edit list": trap(
            edited(opened, folder / "open_edit.mp4", (10, 25)), FRAMES[10:35]
        ),
        "begins between key frames, mkv": Case(
            without_beginning(mkv, folder / "late.mkv", 15), (), reader="pyav"
        ),
        "begins between key frames, vp9": Case(
            without_beginning(
                encode(folder / "9.mkv", "libvpx-vp9", deadline="realtime", g="12"),
                folder / "late9.mkv",
                5,
            ),
            FRAMES[12:],
            reader="pyav",
        ),
        "begins between key frames, mpeg4": Case(
            without_beginning(encode(folder / "4.mkv", "mpeg4", g="12"), folder / "late4.mkv", 5),
            FRAMES[12:],
            reader="pyav",
        ),
        "begins with an open group, mkv": Case(
            without_beginning(encode(folder / "open_.mkv", **OPEN), folder / "lead.mkv", 9),
            FRAMES[12:],
            reader="pyav",
        ),
        "begins between key frames, ts": trap(folder / "late.ts", ()),
        "a skipped frame": Case(
            skipping(encode(folder / "all.mp4", "mpeg4", g="1"), folder / "skip.mp4", 20),
            [at for at in FRAMES if at != 20],
        ),
        "times all the same": Case(
            timeless(folder / "still.mp4", range(250)), range(250), reader="pyav", decord="hangs"
        ),
    }
    for degrees in (90, 180, 270):
        wide = encode(folder / f"wide{degrees}.mp4", size=(128, 64))
        path = turned(wide, folder / f"turned{degrees}.mp4", degrees)
        cases[f"rotation {degrees}"] = fast(path, rotation=degrees)
    return cases


def _damaged(folder: Path) -> dict[str, Case]:
    plain, avi = encode(folder / "sound.mp4"), encode(folder / "sound.avi", "mpeg4")
    faststart = encode(folder / "sound_fast.mp4", muxer={"movflags": "faststart"}).read_bytes()
    mkv = encode(folder / "sound.mkv")
    content, header = plain.read_bytes(), avi.read_bytes()
    end = content.index(b"moov") - 4
    flips = range(content.index(b"mdat") + 800, end, 5)

    def bad(name: str, data: bytes, reason: str) -> Case:
        path = folder / name
        path.write_bytes(data)
        return Case(path, [], reason)

    long_avi = [
        (header.index(box) + behind, struct.pack("<I", 400))
        for box, behind in ((b"avih", 24), (b"strh", 40))
    ]
    long_mkv = (mkv.read_bytes().index(b"\x44\x89\x88") + 3, struct.pack(">d", 99_000.0))
    flipped = patched(plain, folder / "f", *((at, bytes([content[at] ^ 0x5A])) for at in flips))
    return {
        "zero bytes": bad("empty.mp4", b"", "the file is empty"),
        "text": bad("text.mp4", b"no video\n" * 99, "no video, or a damaged one"),
        "moov missing": bad("moov.mp4", content[:end], "no video, or a damaged one"),
        "cut off before its first frame": bad(
            "cut.mp4", faststart[: faststart.index(b"mdat") + 9], "cut off: 0 of 40 frames"
        ),
        "flipped bits": Case(flipped, fault=r"frame \d+ does not decode"),
        "too long a header, avi": Case(patched(avi, folder / "long.avi", *long_avi)),
        "too long a header, mkv": Case(patched(mkv, folder / "long.mkv", long_mkv)),
    }


def _strange(folder: Path) -> dict[str, Case]:
    """What is no video at all."""
    names = ["song", "jpeg", "secret", "link", "folder", "pipe", "cover"]
    paths = {name: folder / f"{name}.mp4" for name in names}
    with av.open(str(paths["song"]), "w") as container:
        container.mux(silence(container.add_stream("aac", rate=8000, layout="mono")))
    with av.open(str(paths["cover"]), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        container.mux([*silence(sound), *packets(cover, [5])])
    Image.new("RGB", (96, 48)).save(paths["jpeg"], format="jpeg")
    encode(paths["secret"]).chmod(0)
    paths["link"].symlink_to(folder / "nowhere.mp4")
    paths["folder"].mkdir()
    os.mkfifo(paths["pipe"])
    return {
        "audio only": Case(paths["song"], [], "no video stream"),
        "cover of a song": Case(paths["cover"], [], "no video stream"),
        "a jpeg": Case(paths["jpeg"], [], "a still image under a video's name"),
        "no permission": Case(paths["secret"], [], "no permission"),
        "broken link": Case(paths["link"], [], "a broken link"),
        "a folder": Case(paths["folder"], [], "a folder without images"),
        "a pipe": Case(paths["pipe"], [], "no regular file"),
    }


def examine(item: list[Any]) -> dict[str, Any]:
    """Read a file in random order through its probe, in order with PyAV, and with decord alone.

    Args:
        item: a path, and whether decord is to be asked.
    """
    path, ask_decord = item
    found = probe(path, reader="decord")
    order = np.random.default_rng(0).permutation(found.num_frames).tolist()
    order.append(order[0])
    row = Row(path, probe=found)
    video = open_row(row)
    frames = _as_stored(video.get(order), found.rotation)
    sequential = _in_order(path)
    places = {frame.tobytes(): at for at, frame in enumerate(sequential)}
    fresh = PyAVReader(path, num_frames=found.num_frames)
    return {
        "probe": asdict(found),
        "order": order,
        "codes": codes_of(frames),
        "places": [places.get(frame.tobytes(), -1) for frame in frames],
        "sequential": codes_of(sequential),
        "each": [_alone(row, index, places) for index in order[:6]],
        "asked": codes_of(_as_stored(open_row(row, reader="decord").get(order), found.rotation)),
        "times": [video.times().tolist(), fresh.times().tolist()],
        "decord": _with_decord(path, found.rotation) if ask_decord else None,
    }


def _alone(row: Row, index: int, places: dict[bytes, int]) -> int:
    """Which frame, counted in order, a reader shows that was opened for it."""
    assert row.probe is not None
    frame = _as_stored(open_row(row).get([index]), row.probe.rotation)[0]
    return places.get(frame.tobytes(), -1)


def _as_stored(frames: np.ndarray, rotation: int) -> np.ndarray:
    return np.rot90(frames, rotation // 90, axes=(1, 2))


def _in_order(path: str) -> np.ndarray:
    """The frames that PyAV decodes from the first key frame on, as far as it gets."""
    found, started = [], False
    with av.open(path) as container, contextlib.suppress(av.InvalidDataError):
        for packet in container.demux(video=0):
            started = started or packet.is_keyframe
            whole = packet.size and not packet.is_corrupt
            if started and (whole or packet.dts is None):
                found += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
    return np.stack(found)


def _with_decord(path: str, rotation: int) -> list[int] | None:
    """What decord shows when each frame is sought on its own, last first; None: it fails."""
    try:
        video = DecordReader(path)
        last_first = range(video.num_frames - 1, -1, -1)
        frames = np.concatenate([video.decode([index]) for index in last_first])
    except VideoReadError:
        return None
    return codes_of(_as_stored(frames, rotation))[::-1]


def decord_alone(path: str) -> None:
    """Read the last frame without having looked at the file before."""
    DecordReader(path).decode([249])
