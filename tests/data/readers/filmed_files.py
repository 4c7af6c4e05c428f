"""Files as cameras, old programs and broken disks make them, and what should become of each."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
from data.readers.hard_files import Case
from data.readers.making import (
    FRAMES,
    OPEN,
    X264,
    cut,
    damaged,
    encode,
    noisy,
    packed,
    patched,
    picture,
    retimed,
    standing,
)

_LEAST = 4  # frames that a decoder may hold back before damage, and that may have been asked for
_PYRAMID = {"x264-params": "bframes=5:b-pyramid=normal:b-adapt=0:keyint=12:scenecut=0"}
_NO_B = {**X264, "bf": "0"}

# Codec, options and how the frames of a file are found, by its name.
FILES: dict[str, tuple[str, dict[str, str], str]] = {
    "h264.avi": ("libx264", _NO_B, "times"),
    "h264 b-frames.avi": ("libx264", X264, "order"),
    "h264 b-pyramid.avi": ("libx264", {**X264, **_PYRAMID}, ""),
    "h264 open gop.avi": ("libx264", OPEN, "start"),
    "h264 intra refresh.avi": ("libx264", {**X264, "bf": "0", "intra-refresh": "1"}, ""),
    "mpeg4.avi": ("mpeg4", {"g": "12"}, "times"),
    "mpeg4 b-frames.avi": ("mpeg4", {"g": "12", "bf": "2"}, ""),
    "mjpeg.avi": ("mjpeg", {}, "times"),
    "msmpeg4.avi": ("msmpeg4", {"g": "12"}, "times"),
    "wmv1.wmv": ("wmv1", {"g": "12"}, "times"),
    "wmv2.wmv": ("wmv2", {"g": "12"}, "times"),
    "msmpeg4.wmv": ("msmpeg4", {"g": "12"}, "times"),
    "h264.wmv": ("libx264", _NO_B, "times"),
    "h264 b-frames.wmv": ("libx264", X264, "order"),
}
_BROKEN = ("h264 b-frames.avi", "mpeg4 b-frames.avi", "mjpeg.avi", "h264 b-frames.wmv")


def build(folder: Path) -> dict[str, Case]:
    """Write all files and say what should become of each."""
    made = {}
    makers = {**_sound(), **_packed(), **_broken(), **_garbage_times()}
    for number, (name, maker) in enumerate(makers.items()):
        place = folder / str(number)
        place.mkdir()
        made[name] = maker(place)
    return made


Maker = Callable[[Path], Case]


def _sound() -> dict[str, Maker]:
    def maker(name: str, paint: Any) -> Maker:
        codec, options, access = FILES[name]
        pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"

        def make(folder: Path) -> Case:
            path = encode(folder / name, codec, pixels, paint=paint, **options)
            codes = FRAMES if paint is picture else ()
            return Case(path, codes, reader="pyav", access=access)

        return make

    return {
        **{name: maker(name, picture) for name in FILES},
        **{f"standing: {name}": maker(name, standing) for name in FILES},
    }


def _packed() -> dict[str, Maker]:
    def maker(frames: str, paint: Any) -> Maker:
        def make(folder: Path) -> Case:
            plain = encode(folder / "a.avi", "mpeg4", bf=frames, g="12", paint=paint)
            path = packed(plain, folder / "packed.avi")
            codes = FRAMES if paint is picture else ()
            return Case(path, codes, reader="pyav", access="start")

        return make

    return {
        "packed, 1 b-frame": maker("1", picture),
        "packed, 2 b-frames": maker("2", picture),
        "standing: packed": maker("2", standing),
    }


def _broken() -> dict[str, Maker]:
    """Damage and cuts: what is shown is a beginning, and these are its frames."""

    def source(folder: Path, name: str) -> Path:
        codec, options, _ = FILES.get(name, ("mpeg4", {"g": "12"}, ""))
        pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        muxer = {"movflags": "faststart"} if name.endswith("mp4") else {}
        if name == "h264.mp4":
            codec, options = "libx264", X264
        return encode(folder / name, codec, pixels, paint=noisy, muxer=muxer, **options)

    def damage(name: str, percent: int) -> Maker:
        def make(folder: Path) -> Case:
            path = damaged(source(folder, name), folder / f"damaged{Path(name).suffix}", percent)
            least = max(len(FRAMES) * percent // 100 - _LEAST, 0)
            return Case(path, fault=r"frame \d+ does not decode", least=least)

        return make

    def ending(name: str, percent: int) -> Maker:
        def make(folder: Path) -> Case:
            whole = source(folder, name)
            path = cut(whole, folder / f"cut{Path(name).suffix}", percent)
            size = path.stat().st_size
            with av.open(str(whole)) as container:
                stored = [packet for packet in container.demux(video=0) if packet.size]
            there = sum(packet.pos + packet.size <= size for packet in stored)
            # Packets of ASF hold several frames, and parts of them.
            least = 1 if name.endswith("wmv") else max(there - 2, 1)
            return Case(path, fault="it is cut off", least=least)

        return make

    made: dict[str, Maker] = {}
    for name in ("h264 b-frames.avi", "mpeg4 b-frames.avi", "h264.mp4"):
        made |= {f"damage at {at} %: {name}": damage(name, at) for at in (30, 60, 90)}
    for name in (*_BROKEN, "h264.mp4", "mpeg4.mkv"):
        made |= {f"cut at {at} %: {name}": ending(name, at) for at in (50, 90)}
    return made


def _garbage_times() -> dict[str, Maker]:
    def rate(scale: int, rate: int, fps: float, access: str = "order") -> Maker:
        def make(folder: Path) -> Case:
            plain = encode(folder / "plain.avi")
            at = plain.read_bytes().index(b"strh") + 28  # scale and rate stand there
            path = patched(plain, folder / "a.avi", (at, struct.pack("<II", scale, rate)))
            return Case(path, reader="pyav", access=access, fps=fps)

        return make

    def times(name: str, function: Callable[[int], int], fps: float, **options: str) -> Maker:
        def make(folder: Path) -> Case:
            plain = encode(folder / "plain.mkv", **(options or _NO_B))
            return Case(retimed(plain, folder / name, function), reader="pyav", fps=fps)

        return make

    return {
        "a rate of a million": rate(1, 10**6, 25.0),
        "a rate of a millionth": rate(10**6, 1, 0.0),
        "no rate": rate(0, 0, 25.0),
        "times of decoding, mkv": times("a.mkv", lambda at: 40 * at, 25.0, **X264),
        "times of decoding, mp4": times("a.mp4", lambda at: 40 * at, 25.0, **X264),
        "times that repeat": times("a.mkv", lambda at: at // 2 * 80, 25.0),
        "a time far away": times("a.mkv", lambda at: 40 * at + (at == 39) * 10**9, 25.0),
    }
