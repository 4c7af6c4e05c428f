"""The index of a video: frames and key frames by the packets of its container, without decoding.

Demuxing is cheap (no pixel is touched) and says what headers do not: how many frames there really
are, when each is shown, from which ones decoding can start, and which ones are never shown.
"""

from __future__ import annotations

import io
import itertools
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any

import av
from av.stream import Disposition

from . import lengths
from .base import VideoReadError

# What PyAV is known to raise over damaged files.
AV_ERRORS = (av.FFmpegError, OSError, ValueError, ArithmeticError, LookupError, MemoryError)

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
# Broadcast streams have no index: a seek lands anywhere, and their packets need not be frames.
_UNINDEXED = frozenset({"mpegts", "mpeg", "gif"})
# Containers that say when a frame is decoded, not when it is shown: FFmpeg has to guess.
_NO_DISPLAY_TIMES = frozenset({"avi", "asf"})
# Codecs without B-frames: what is stored first is shown first.
_IN_ORDER = frozenset(
    """cinepak dvvideo ffv1 ffvhuff h263 huffyuv mjpeg msmpeg4 msmpeg4v1 msmpeg4v2 msvideo1 png
    prores rawvideo wmv1 wmv2""".split()  # noqa: SIM905
)
# Decoders that otherwise go on over an error, and hand out the frame as if it were sound.
_STRICT = frozenset({"hevc", "mjpeg"})
# Frames a second that a camera may have; other rates are damaged headers.
_SANE_RATES = (0.01, 1000.0)


@dataclass(frozen=True)
class Packets:
    """The packets of one video stream; times are in units of ``time_base`` seconds.

    Attributes:
        times: when the frame of each packet is shown, in the order of the file, as far as the
            packets say; None where they do not.
        shown: when each frame is shown, ascending; empty where the packets do not say (`counted`).
        keys: when each frame is shown from which decoding can start, ascending.
        entries: number of each packet from which decoding can start, by its decoding time; empty
            where these do not rise.
        time_base: seconds.
        rate: average frames per second, 0.0 where nothing sensible is known of it.
        steady: times make sense as seconds: their mean step is that of some camera.
        keyed: some packet says that decoding can start from it.
        counted: every packet has a time of its own and is one frame. Without, the frames are known
            only once all of them are decoded.
        doubtful: ``shown`` may be wrong all the same: the container keeps no display times, or
            the decoder reorders frames whose times are in the order of the file; but for codecs
            that do not reorder frames.
        plain: every packet is shown, and none after a key frame is shown before it (an
            open group of pictures): what readers with a simpler index than this get right too.
        container, codec: their names, as FFmpeg has them.
        cut: the file ends before its content does, by what its container says.
        last: place in the file of the last packet that is whole; None where it is unknown.
        promised: how many frames a file that is cut off should have, by what its container says;
            0: it does not, or gives no more than its length in seconds.
        about: how many these are by that length, or 0.
    """

    times: list[int | None]
    shown: list[int]
    keys: list[int]
    entries: dict[int, int]
    time_base: float
    rate: float
    steady: bool
    keyed: bool
    counted: bool
    doubtful: bool
    plain: bool
    container: str
    codec: str
    cut: bool
    last: int | None
    promised: int
    about: int

    def key_before(self, index: int) -> int:
        """When the last key frame at or before a shown frame is shown; needs ``counted``."""
        return self.keys[bisect_right(self.keys, self.shown[index]) - 1]

    @property
    def fault(self) -> str:
        """Why the end is not there, or the empty string."""
        found = len(self.times)
        if not self.cut:
            return ""
        if self.promised > found:
            return f"it is cut off: {found} of {self.promised} frames"
        if self.about > found:
            return f"it is cut off: {found} of about {self.about} frames"
        return f"it is cut off after {found} frames"

    def is_torn(self, packet: Any) -> bool:
        """True for the packet inside of which a file ends."""
        behind = self.last is not None and packet.pos is not None and packet.pos > self.last
        return bool(self.cut and packet.is_corrupt and behind)


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
        if stream.codec_context.name in _STRICT:
            stream.codec_context.options = {"err_detect": "explode"}
    except BaseException:
        container.close()
        raise
    return container, stream


def scan(path: str, container: Any, stream: Any, source: str | bytes) -> Packets:
    """Read all packets of a stream; the container then stands at its end.

    Args:
        path: what an error names.
        container, stream: as `open_container` gives them.
        source: what they were opened from.

    Raises:
        VideoReadError: there is no frame in it.
    """
    entries: list[_Entry] = []
    vp8 = stream.codec_context.name == "vp8"
    empty, last = 0, None
    torn = False
    try:
        for packet in container.demux(stream):
            if not packet.size:  # the last one is always empty, others stand for a skipped frame
                empty += packet.dts is not None
            elif packet.is_corrupt:
                torn = True  # the file ends inside of it, if it is the last one
            else:
                torn, last = False, packet.pos
                # Reference frames that are never shown are packets of their own in VP8
                # (RFC 6386, section 9.1: the show_frame bit).
                shown = not packet.is_discard and not (vp8 and not memoryview(packet)[0] & 0x10)
                entries.append(_Entry(packet.pts, packet.dts, packet.is_keyframe, shown))
    except AV_ERRORS as error:
        if not entries:
            reason = f"it does not read to its end ({av_reason(error)})"
            raise VideoReadError(path, reason) from error
        torn = True
    # The index of an mp4 lists all frames even if the file ends before.
    listed = len(stream.index_entries) if container.format.name == MP4 else 0
    if not any(entry.shown for entry in entries):
        short = listed > len(entries) + empty
        reason = f"it is cut off: 0 of {listed} frames" if short else "it has no frame"
        raise VideoReadError(path, reason)
    packets = _packets(entries, container, stream)
    found = len(entries) + empty
    promised = listed or int(stream.frames or 0)
    about = 0 if promised else round((container.duration or 0) / av.time_base * packets.rate)
    # A file may lack no more than the index at its end.
    short = lengths.is_cut(packets.container, source) and not 0 < (promised or about) <= found
    if not (torn or found < listed or short):
        return packets
    return replace(packets, cut=True, last=last, promised=promised, about=about)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A packet: when it is shown and decoded, whether decoding can start from it, and is shown."""

    time: int | None
    decoded: int | None
    key: bool
    shown: bool


def _packets(entries: list[_Entry], container: Any, stream: Any) -> Packets:
    """The index that ``entries`` make; that nothing is cut off is taken for granted."""
    name, codec = container.format.name, stream.codec_context
    time_base = float(stream.time_base or 0)
    times = [entry.time for entry in entries]
    known = [time for time in times if time is not None]
    decoded = [entry.decoded for entry in entries if entry.decoded is not None]
    counted, leading = _make_sense(entries, known)
    counted = counted and name not in _UNINDEXED
    timed = len(known) == len(times) and name not in _NO_DISPLAY_TIMES
    rate, steady = _rate(stream, known if timed else decoded, time_base)
    pairs = list(zip(known, entries, strict=True)) if counted else []
    # Nothing can be sought by times that do not rise.
    sought = len(decoded) == len(entries) and _rise(decoded) and name not in _UNINDEXED
    numbers = {time: at for at, time in enumerate(decoded) if sought and entries[at].key}
    # The times of decoding, perhaps, where the decoder reorders frames.
    guessed = bool(codec.has_b_frames) and _rise(known) and len(known) > 2
    in_order = codec.name in _IN_ORDER and _rise(known)
    return Packets(
        times=times,
        shown=sorted(time for time, entry in pairs if entry.shown),
        keys=sorted(time for time, entry in pairs if entry.key),
        entries=numbers,
        time_base=time_base,
        rate=rate,
        steady=steady,
        keyed=any(entry.key for entry in entries),
        counted=counted,
        doubtful=not counted or (not in_order and (name in _NO_DISPLAY_TIMES or guessed)),
        plain=counted and not leading and all(entry.shown for entry in entries),
        container=name,
        codec=codec.name,
        cut=False,
        last=None,
        promised=0,
        about=0,
    )


def _rise(times: list[int]) -> bool:
    return all(later > time for time, later in itertools.pairwise(times))


def _make_sense(entries: list[_Entry], known: list[int]) -> tuple[bool, bool]:
    """True where every packet has a time of its own that fits the key frames; open groups."""
    if len(set(known)) < len(entries) or not entries[0].key:
        return False, False
    first = newest_key = known[0]
    leading = False
    for time, entry in zip(known, entries, strict=True):
        # A frame that is shown before the first key frame needs others that are not there, so
        # whether it decodes is the decoder's affair.
        if entry.shown and time < first:
            return False, False
        if entry.key:
            newest_key = time
        leading = leading or time < newest_key
    return True, leading


def _rate(stream: Any, ticks: list[int], time_base: float) -> tuple[float, bool]:
    """Average frames per second, and whether the ticks make sense as seconds.

    What the header says counts, unless the ticks contradict it.
    """
    rates = [float(rate or 0) for rate in (stream.average_rate, stream.guessed_rate)]
    written = next((rate for rate in rates if _is_sane(rate)), 0.0)
    seconds = (max(ticks) - min(ticks)) * time_base if ticks else 0.0
    measured = (len(ticks) - 1) / seconds if seconds > 0 else 0.0
    steady = _is_sane(measured) or len(ticks) == 1
    if written and (not _is_sane(measured) or 0.5 <= written / measured <= 2):
        return written, steady
    return (measured if _is_sane(measured) else 0.0), steady


def _is_sane(rate: float) -> bool:
    return _SANE_RATES[0] <= rate <= _SANE_RATES[1]


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
