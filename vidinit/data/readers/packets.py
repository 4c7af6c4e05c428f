"""The index of a video: frames and key frames by the packets of its container, without decoding.

Demuxing is cheap (no pixel is touched) and says what headers do not: how many frames there really
are, when each is shown, from which ones decoding can start, and which ones are never shown.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any

import av
from av.stream import Disposition

from .base import VideoReadError

# What PyAV is known to raise over damaged files.
AV_ERRORS = (av.FFmpegError, OSError, ValueError, ArithmeticError, LookupError, MemoryError)

# Broadcast streams have no index: a seek lands anywhere, and their packets need not be frames.
_UNINDEXED = frozenset({"mpegts", "mpeg", "gif"})
_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"


@dataclass(frozen=True)
class Packets:
    """The packets of one video stream; times are in units of ``time_base`` seconds.

    Attributes:
        shown: when each frame is shown, ascending; empty where the packets do not say (`counted`).
        keys: when each frame is shown from which decoding can start, ascending.
        time_base: seconds.
        rate: average frames per second, 0.0 where the container does not say.
        keyed: some packet says that decoding can start from it.
        counted: ``shown`` is right: every packet has a time of its own and is one frame.
            Without, the frames are known only once all of them are decoded.
        plain: every packet is shown, and none after a key frame is shown before it (an
            open group of pictures): what readers with a simpler index than this get right too.
    """

    shown: list[int]
    keys: list[int]
    time_base: float
    rate: float
    keyed: bool
    counted: bool
    plain: bool

    def key_before(self, index: int) -> int:
        """When the last key frame at or before a shown frame is shown; needs ``counted``."""
        return self.keys[bisect_right(self.keys, self.shown[index]) - 1]


def open_container(path: str, source: str | bytes) -> tuple[Any, Any]:
    """A container and its main video stream, which decodes with one thread; close the former.

    Args:
        path: what an error names.
        source: the path of a plain file, or the content of one, as `archives.source` gives it.

    Raises:
        VideoReadError: there is no video in it.
    """
    try:
        container = av.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except AV_ERRORS as error:
        reason = f"it is no video, or a damaged one ({av_reason(error)})"
        raise VideoReadError(path, reason) from error
    try:
        stream = _video_stream(path, container)
        stream.thread_count = 1
    except BaseException:
        container.close()
        raise
    return container, stream


def scan(path: str, container: Any, stream: Any) -> Packets:
    """Read all packets of a stream; the container then stands at its end.

    Raises:
        VideoReadError: the file is cut off, or there is no frame in it.
    """
    # (time, is a key frame, is shown) in decoding order
    entries: list[tuple[int | None, bool, bool]] = []
    vp8 = stream.codec_context.name == "vp8"
    empty = 0
    try:
        for packet in container.demux(stream):
            if not packet.size:  # the last one is always empty, others stand for a skipped frame
                empty += packet.dts is not None
            elif not packet.is_corrupt:  # the file ends inside of it
                # Reference frames that are never shown are packets of their own in VP8
                # (RFC 6386, section 9.1: the show_frame bit).
                shown = not packet.is_discard and not (vp8 and not memoryview(packet)[0] & 0x10)
                entries.append((packet.pts, packet.is_keyframe, shown))
        _require_whole(path, container, stream, len(entries) + empty)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        time_base = float(stream.time_base or 0)
    except AV_ERRORS as error:
        raise VideoReadError(path, f"it does not read to its end ({av_reason(error)})") from error
    if not any(shown for _, _, shown in entries):
        raise VideoReadError(path, "it has no frame")
    keyed = any(key for _, key, _ in entries)
    unknown = Packets([], [], time_base, rate, keyed, counted=False, plain=False)
    return unknown if container.format.name in _UNINDEXED else _indexed(entries, unknown)


def _indexed(entries: list[tuple[int | None, bool, bool]], unknown: Packets) -> Packets:
    """The index that ``entries`` make; ``unknown`` where their times make no sense."""
    timed = [(time, key, shown) for time, key, shown in entries if time is not None]
    if len({time for time, _, _ in timed}) < len(entries) or not timed[0][1]:
        return unknown
    first = newest_key = timed[0][0]
    leading = False
    for time, key, shown in timed:
        # A frame that is shown before the first key frame needs others that are not there, so
        # whether it decodes is the decoder's affair.
        if shown and time < first:
            return unknown
        if key:
            newest_key = time
        leading = leading or time < newest_key
    return replace(
        unknown,
        shown=sorted(time for time, _, shown in timed if shown),
        keys=sorted(time for time, key, _ in timed if key),
        counted=True,
        plain=not leading and all(shown for _, _, shown in timed),
    )


def av_reason(error: Exception) -> str:
    """PyAV's error without its number and without the path."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _video_stream(path: str, container: Any) -> Any:
    name = container.format.name
    if name == "image2" or name.endswith("_pipe"):
        raise VideoReadError(path, "it is a still image under a video's name")
    stream = container.streams.best("video")
    # The cover of a song is a video stream to FFmpeg.
    if stream is None or stream.disposition & Disposition.attached_pic:
        raise VideoReadError(path, "it has no video stream")
    if stream.codec_context is None:
        raise VideoReadError(path, "there is no decoder for it")
    return stream


def _require_whole(path: str, container: Any, stream: Any, found: int) -> None:
    """Compare with the index of an mp4, which lists all frames even if the file ends before."""
    promised = len(stream.index_entries) if container.format.name == _MP4 else 0
    if found < promised:
        raise VideoReadError(path, f"it is cut off: {found} of {promised} frames")
