"""Writes videos whose frames say which one they are, and changes their bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS = 8
FRAMES = list(range(40))
X264 = {"preset": "veryfast", "crf": "18", "bf": "2", "g": "12"}
_GROUPS = "keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0"
CLOSED = {"preset": "veryfast", "crf": "18", "x264-params": _GROUPS}
OPEN = {"preset": "veryfast", "crf": "18", "x264-params": f"open-gop=1:{_GROUPS}"}


def picture(code: int, width: int = 96, height: int = 48) -> np.ndarray:
    """A frame with ``code`` in eight black or white columns, low bit first."""
    bits = np.array([255 * (code >> bit & 1) for bit in range(BITS)], dtype=np.uint8)
    row = bits[np.arange(width) * BITS // width]
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def standing(code: int, width: int = 96, height: int = 48) -> np.ndarray:
    """A frame of a camera that stands still: only a small square moves."""
    scene = np.random.default_rng(0).integers(40, 180, (height // 8, width // 8, 3), dtype=np.uint8)
    frame = scene.repeat(8, axis=0).repeat(8, axis=1)
    column = 2 * code % (width - 6)
    frame[20:26, column : column + 6] = 250
    return frame


def noisy(code: int, width: int = 96, height: int = 48) -> np.ndarray:
    """A `picture` with so much detail that a packet is long enough to be damaged."""
    frame = picture(code, width, height)
    grain = np.random.default_rng(code).integers(0, 90, frame.shape, dtype=np.uint8)
    return np.where(frame > 127, frame - grain, frame + grain)


def codes_of(frames: np.ndarray) -> list[int]:
    """What upright frames (T, H, W, 3) say."""
    height, width = frames.shape[1:3]
    columns = (np.arange(BITS) * 2 + 1) * width // (2 * BITS)
    bright = frames[:, height // 2, columns].astype(int).mean(-1) > 127
    return [int(sum(1 << bit for bit in np.flatnonzero(row))) for row in bright]


def encode(
    path: Path,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (96, 48),
    *,
    codes: Sequence[int] = FRAMES,
    times: Sequence[int] | None = None,
    offset: int = 0,
    aspect: Fraction | None = None,
    audio: bool = False,
    muxer: dict[str, str] | None = None,
    paint: Callable[[int, int, int], np.ndarray] = picture,
    **options: str,
) -> Path:
    """Write one frame for each code.

    Args:
        size: width and height.
        times: of the frames in milliseconds; default: 25 frames a second.
        offset: seconds that all times are moved.
        aspect: of one pixel.
        audio: put a stream of silence before the video.
        muxer, options: of the container and of the codec.
        paint: from a code, width and height to the frame.
    """
    with av.open(str(path), "w", options=muxer or {}) as container:
        sound = container.add_stream("aac", rate=8000, layout="mono") if audio else None
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.options = options or (X264 if codec == "libx264" else {})
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if sound is not None:
            container.mux(silence(sound))
        for packet in packets(stream, codes, times, paint):
            ticks = int(offset / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            container.mux(packet)
    return path


def packets(
    stream: Any,
    codes: Sequence[int] = FRAMES,
    times: Sequence[int] | None = None,
    paint: Callable[[int, int, int], np.ndarray] = picture,
) -> Iterator[Any]:
    """Encode one frame for each code."""
    for at, code in enumerate(codes):
        array = paint(code, stream.width, stream.height)
        frame = av.VideoFrame.from_ndarray(array, format="rgb24")
        if times is not None:
            frame.pts, frame.time_base = times[at], Fraction(1, 1000)
        yield from stream.encode(frame)
    yield from stream.encode()


def silence(stream: Any) -> list[Any]:
    """Encode a second of nothing."""
    sound = []
    for start in range(0, 8192, 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, start
        sound += stream.encode(frame)
    return sound + stream.encode()


def edited(source: Path, target: Path, *parts: tuple[int, int]) -> Path:
    """Copy an mp4 with an edit list that shows parts of it: (first frame, how many)."""
    data = bytearray(source.read_bytes())
    at = data.index(b"elst")  # size | elst | version, flags | count | duration, start, rate
    size, _, count, _, start, _ = struct.unpack_from(">I4s4xIIiI", data, at - 4)
    assert (size, count) == (28, 1)
    movie = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
    media = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    entries = b"".join(
        struct.pack(">IiI", length * movie // 25, start + first * media // 25, 1 << 16)
        for first, length in parts
    )
    header = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(parts))
    data[at - 4 : at + 24] = header + entries
    # The boxes around it grow; what they hold stands behind the pictures, so no offset changes.
    for name in (b"edts", b"trak", b"moov"):
        box = data.index(name) - 4
        size = struct.unpack_from(">I", data, box)[0]
        struct.pack_into(">I", data, box, size + len(entries) - 12)
    target.write_bytes(data)
    return target


def turned(source: Path, target: Path, degrees: int) -> Path:
    """Copy an mp4 with the display matrix of 90, 180 or 270 degrees clockwise."""
    cosine = {90: 0, 180: -1, 270: 0}[degrees] << 16
    sine = {90: 1, 180: 0, 270: -1}[degrees] << 16
    matrix = struct.pack(">9i", cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30)
    # tkhd, version 0: the matrix stands 44 bytes after the name of the box begins.
    return patched(source, target, (source.read_bytes().index(b"tkhd") + 44, matrix))


def skipping(source: Path, target: Path, which: int) -> Path:
    """Copy an mp4 in which one frame becomes empty, as encoders write for a skipped one."""
    data = bytearray(source.read_bytes())
    sizes = data.index(b"stsz") + 12  # count | size, size, ...
    frames = struct.unpack_from(f">{struct.unpack_from('>I', data, sizes)[0]}I", data, sizes + 4)
    struct.pack_into(">I", data, sizes + 4 + 4 * which, 0)
    box = data.index(b"mdat") - 4
    length = struct.unpack_from(">I", data, box)[0]
    struct.pack_into(">I", data, box, length - frames[which])
    assert length == 8 + sum(frames)
    start = box + 8 + sum(frames[:which])
    del data[start : start + frames[which]]
    target.write_bytes(data)
    return target


def patched(source: Path, target: Path, *changes: tuple[int, bytes]) -> Path:
    """Copy a file with other bytes at some places."""
    data = bytearray(source.read_bytes())
    for at, new in changes:
        data[at : at + len(new)] = new
    target.write_bytes(data)
    return target


def without_beginning(source: Path, target: Path, count: int) -> Path:
    """Copy a video without its first packets."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for at, packet in enumerate(old.demux(stream)):
            if at >= count and packet.size:
                packet.stream = copy
                new.mux(packet)
    return target


def packed(source: Path, target: Path) -> Path:
    """Copy MPEG-4 with B-frames into an AVI as DivX and XviD pack it.

    A B-frame is stored in one packet with the frame that it needs from behind it, so that a packet
    comes out as a frame; in place of the last B-frame of a row stands a frame that is not coded.
    """

    def kind(data: bytes) -> int:
        return data[data.index(b"\0\0\1\xb6") + 4] >> 6  # vop_coding_type: 0 I, 1 P, 2 B

    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        stored = [
            (bytes(packet), packet.is_keyframe) for packet in old.demux(stream) if packet.size
        ]
        out: list[tuple[bytes, bool]] = []
        while stored:
            data, key = stored.pop(0)
            if key:  # says that it is packed
                at = data.index(b"\0\0\1\xb6")
                data = data[:at] + b"\0\0\1\xb2DivX503b1393p" + data[at:]
            behind = stored and kind(stored[0][0]) == 2
            out.append((data + stored.pop(0)[0] if behind else data, key))
            while stored and kind(stored[0][0]) == 2:
                out.append((stored.pop(0)[0], False))
            if behind:
                out.append((b"\0\0\1\xb6\x50\x4f", False))
        for at, (data, key) in enumerate(out):
            packet = av.Packet(data)
            packet.pts = packet.dts = at
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), copy, key
            new.mux(packet)
    return target


def retimed(source: Path, target: Path, times: Callable[[int], int]) -> Path:
    """Copy a video with other times: from the number of a packet to milliseconds."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        packets = (packet for packet in old.demux(stream) if packet.size)
        for at, packet in enumerate(packets):
            packet.pts = packet.dts = times(at)
            packet.time_base, packet.stream = Fraction(1, 1000), copy
            new.mux(packet)
    return target


def damaged(source: Path, target: Path, percent: int) -> Path:
    """Copy a video with garbage in place of most of a packet and of the one behind it."""
    with av.open(str(source)) as container:
        stored = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    changes = []
    for at, size in stored[len(stored) * percent // 100 :][:2]:
        kept = min(8, size // 3)
        garbage = np.random.default_rng(percent).integers(1, 255, size - kept, dtype=np.uint8)
        changes.append((at + kept, garbage.tobytes()))
    return patched(source, target, *changes)


def damaged_between(folder: Path) -> Path:
    """Write 40 frames of which the 24th to 35th do not decode; the first, middle and last do."""
    sound = encode(folder / "sound.mp4", paint=noisy, **CLOSED)
    return damaged(sound, folder / "damaged.mp4", 62)


def cut(source: Path, target: Path, percent: int) -> Path:
    """Copy the beginning of a file."""
    target.write_bytes(source.read_bytes()[: source.stat().st_size * percent // 100])
    return target


def timeless(path: Path, codes: Sequence[int]) -> Path:
    """Write an mp4 whose frames are all shown at once; decord seeks the last of 250 for ever."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        stream.options = {**X264, "bf": "0"}
        for packet in packets(stream, codes):
            packet.pts = packet.dts = 0
            container.mux(packet)
    return path


def hiding(path: Path, hidden: Sequence[int]) -> Path:
    """Write VP8 of which some frames are decoded but not shown, as alternate references are."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        for at, packet in enumerate(packets(stream)):
            data = bytearray(bytes(packet))
            if at in hidden:
                data[0] &= ~0x10
            copy = av.Packet(bytes(data))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            container.mux(copy)
    return path
