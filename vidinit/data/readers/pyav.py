"""Reading with PyAV: exact for every container, so it is the reference for other readers."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from . import archives
from .base import VideoReadError, check_indices, gather, scaled_size
from .packets import AV_ERRORS, Packets, av_reason, open_container, scan

# Frames that are cheaper to decode and drop than to jump over.
_JUMP = 4

TIMES, ORDER, START = "times", "order", "start"
"""How a frame is found: by the time that its packet gives it, from the last key frame on; by its
place in the order in which frames come out, from the last key frame on, or from the first frame on.
"""


@dataclass(frozen=True)
class Decoded:
    """The outcome of decoding a file from its first frame on.

    Attributes:
        numbers: for each frame the number of the packet it was in, as far as the decoder says.
        fault: why it did not go on to the end, or the empty string.
    """

    numbers: list[int | None]
    fault: str


class PyAVReader:
    """Reads with PyAV, one thread.

    A frame is known by the time that its packet gives it: decoding starts at the last key frame
    before it and goes on until a frame of exactly this time comes out. Where these times are
    missing, repeat, or do not rise as the frames come out (AVI with B-frames has none, so FFmpeg
    guesses), a frame is known by its place in the order in which frames come out, and whether that
    is so is found out by decoding all of them once. Where a jump does not land where it should,
    decoding starts at the first frame.

    Args:
        path: a video file, or a member of a tar archive.
        short_side: scale frames down to this short side, see `base.scaled_size`.
        num_frames: how many there are, where that is known: without, a file that is cut off is
            an error, as is a damaged one that has to be decoded to be understood.
        access: how a frame is found (``times``, ``order`` or ``start``), where that is known.

    Attributes:
        packets: what the container says.
        access: how a frame is found.
        decoded: what came of decoding all frames, if that was needed to open it.
        rotation: degrees clockwise that the container asks for, known after the first `get`.

    Raises:
        VideoReadError: it cannot be opened, is cut off, or has no frame.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        short_side: int | None = None,
        num_frames: int | None = None,
        access: str = "",
    ) -> None:
        self.path = str(path)
        self.rotation = 0
        self.decoded: Decoded | None = None
        self._short_side = short_side
        self._size: tuple[int, int] | None = None
        self._container: Any = None
        self._stream: Any = None
        # Where decoding stands: frames to come, and the index of the one that came last.
        self._frames: Iterator[tuple[int, Any]] | None = None
        self._newest = -1
        self._source = archives.source(self.path)
        # A converter of our own, with one thread: PyAV's shared one has threads that do not survive
        # into a forked worker, which then waits for them for ever.
        self._rgb = VideoReformatter()
        self._open()
        self.packets = scan(self.path, self._container, self._stream, self._source)
        self._seconds: np.ndarray | None = None
        whole = num_frames is None
        if not access and self.packets.doubtful:
            self.decoded = self.decode_all()
        self.access = access or access_of(self.packets, self.decoded)
        if whole and (fault := self.packets.fault or (self.decoded and self.decoded.fault)):
            raise VideoReadError(self.path, fault)
        self._indices = {time: index for index, time in enumerate(self.packets.shown)}
        self._seekable = self.access != START
        found = count_of(self.packets, self.access, self.decoded)
        if num_frames is None:
            num_frames = len(self._all_times()) if found is None else found
        self.num_frames: int = num_frames if found is None else min(num_frames, found)
        if self.num_frames < 1:
            why = self.decoded and self.decoded.fault
            raise VideoReadError(self.path, why or "it has no frame")
        self.fps = self.packets.rate or _average_rate(self._all_times())

    def __del__(self) -> None:
        # What PyAV makes refers to each other, so files would stay open until a collection.
        if self._container is not None:
            self._container.close()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the frames of `get`."""
        if self._size is None:
            self.get([0])
        assert self._size is not None
        return self._size

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """RGB frames at ``indices``, uint8 (T, H, W, 3); see `base.Reader`."""
        return gather(self.path, check_indices(self.path, indices, self.num_frames), self._read)

    def times(self) -> np.ndarray:
        """When each frame is shown, float64 (num_frames,), in seconds from the first frame."""
        return self._all_times()[: self.num_frames]

    def decode_to_fault(self) -> str:
        """Decode all frames, and end the video before the first fault.

        Returns:
            What the fault is; empty where there is none.

        Raises:
            VideoReadError: not even the first frame decodes.
        """
        self.decoded = self.decode_all()
        self.access = access_of(self.packets, self.decoded)
        self.num_frames = len(self.decoded.numbers)
        self._seekable = self.access != START
        self._seconds = None
        if not self.num_frames:
            raise VideoReadError(self.path, self.decoded.fault or "it has no frame")
        return self.decoded.fault

    def decode_all(self) -> Decoded:
        """Decode every frame, without making pictures of them.

        Frames that lie behind damage, or that the missing end of the file might have come before,
        are not counted.
        """
        numbers: list[int | None] = []
        fault = ""
        try:
            for frame in _decode(self._all_packets(numbered=True)):
                if frame.is_corrupt:
                    fault = f"frame {len(numbers)} does not decode (it is damaged)"
                    break
                numbers.append(frame.pts)
        except AV_ERRORS as error:
            fault = f"frame {len(numbers)} does not decode ({av_reason(error)})"
        if self.packets.cut:
            # What is missing is stored behind all that is there, and shown no earlier than its
            # place less the frames that may be stored ahead of those shown before them.
            known = [number for number in numbers if number is not None]
            ahead = max((number - at for at, number in enumerate(known)), default=0)
            end = max(len(self.packets.times) - max(ahead, 0), 0)
            if len(numbers) >= end - 1:  # the last one may be there in part
                fault = self.packets.fault
            del numbers[end:]
        return Decoded(numbers, fault)

    def _all_times(self) -> np.ndarray:
        if self._seconds is None:
            packets = self.packets
            if self.access == TIMES:
                self._seconds = _seconds(packets.shown, packets)
            elif self.access == ORDER:
                self._seconds = _evenly(len(packets.times), packets.rate)
            else:
                if self.decoded is None:
                    self.decoded = self.decode_all()
                shown = [
                    None if number is None else packets.times[number]
                    for number in self.decoded.numbers
                ]
                self._seconds = _seconds(shown, packets)
        return self._seconds

    def _read(self, order: list[int]) -> Iterator[np.ndarray]:
        """Pictures (H, W, 3) at ascending indices."""
        for index in order:
            try:
                frames = self._nearest(index) if self._seekable else self._onward(index)
                picture = self._find(frames, index)
            except VideoReadError:
                self._frames = None
                if not self._seekable:
                    raise
                # Frames after damage may depend on it, and some containers cannot seek: what
                # counts is what comes out of decoding everything.
                self._seekable = False
                frames = self.from_start()
                picture = self._find(frames, index)
            self._frames, self._newest = frames, index
            yield picture

    def _onward(self, index: int) -> Iterator[tuple[int, Any]]:
        """Frames that come to an index: those being decoded, or from the start on."""
        if self._frames is None or index <= self._newest:
            return self.from_start()
        return self._frames

    def _nearest(self, index: int) -> Iterator[tuple[int, Any]]:
        """Frames that soon come to an index: those being decoded, or from a key frame on."""
        packets = self.packets
        if self.access == TIMES:
            key = packets.key_before(index)
            first = bisect_left(packets.shown, key)
        else:
            first, key = max(
                ((at, time) for time, at in packets.entries.items() if at <= index),
                default=(0, 0),
            )
        if self._frames is None or index <= self._newest or first - self._newest > _JUMP:
            return self._from_key(key)
        return self._frames

    def _find(self, frames: Iterator[tuple[int, Any]], index: int) -> np.ndarray:
        """The picture at ``index`` of frames that come in order."""
        reason = "it is not there"
        try:
            for at, frame in frames:
                if frame.is_corrupt:  # what the decoder patches up, later frames are built on
                    reason = "it is damaged" if at == index else f"frame {at} is damaged"
                    break
                if at == index:
                    return self._picture(frame)
                if at > index:
                    break
        except AV_ERRORS as error:
            reason = av_reason(error)
        raise VideoReadError(self.path, f"frame {index} does not decode ({reason})")

    def _picture(self, frame: Any) -> np.ndarray:
        """RGB of a frame, scaled and upright: uint8 (H, W, 3)."""
        height, width = scaled_size(frame.height, frame.width, self._short_side)
        # Bilinear, because decord scales so.
        frame_rgb = self._rgb.reformat(
            frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR, threads=1
        )
        turns = round(frame.rotation / 90)  # counterclockwise, like rot90
        self.rotation = -90 * turns % 360
        picture = np.rot90(frame_rgb.to_ndarray(), turns)
        self._size = picture.shape[:2]
        return picture

    def _from_key(self, key: int) -> Iterator[tuple[int, Any]]:
        """(index, frame) from the key frame of this time on, or from an earlier one.

        By ``order`` the time is that of decoding. Nothing that is stored before such a frame is
        shown after it, see `access_of`, so that the number of its packet is its index.

        Raises:
            VideoReadError: the container does not lead there.
        """
        try:
            self._container.seek(key, stream=self._stream)
            packets = self._demux()
            first = next(packets, None)
        except AV_ERRORS as error:
            raise VideoReadError(self.path, av_reason(error)) from error
        time = None if first is None else first.pts if self.access == TIMES else first.dts
        if first is None or not first.is_keyframe or time is None or time > key:
            raise VideoReadError(self.path, "it cannot be entered in the middle")
        if self.access == TIMES:
            frames = _decode(itertools.chain([first], packets))
            return _by_time(frames, self._indices)
        number = self.packets.entries.get(time)
        if number is None:
            raise VideoReadError(self.path, "it cannot be entered in the middle")
        numbered = _numbered(itertools.chain([first], packets), number)
        return _by_order(self.path, _decode(numbered), number)

    def from_start(self) -> Iterator[tuple[int, Any]]:
        """(index, frame) from the first frame on."""
        frames = _decode(self._all_packets())
        return _by_time(frames, self._indices) if self.access == TIMES else enumerate(frames)

    def _all_packets(self, *, numbered: bool = False) -> Iterator[Any]:
        """Packets from the first on that can be decoded; ``numbered``: their times are numbers."""
        self._open()
        packets = self._demux()
        if numbered:
            packets = _numbered(packets)
        # A recording may begin between two key frames. Some decoders make frames even of that.
        if self.packets.keyed:
            packets = itertools.dropwhile(lambda packet: not packet.is_keyframe, packets)
        return packets

    def _demux(self) -> Iterator[Any]:
        """Packets from where the container stands, up to the one that drains the decoder."""
        # An empty packet with a time stands for a frame that was skipped; decoders refuse it.
        torn = self.packets.is_torn
        return (
            packet
            for packet in self._container.demux(self._stream)
            if (packet.size or packet.dts is None) and not torn(packet)
        )

    def _open(self) -> None:
        if self._container is not None:
            self._container.close()
        self._frames = None
        self._container, self._stream = open_container(self.path, self._source)


def access_of(packets: Packets, decoded: Decoded | None) -> str:
    """How a frame of a file is found: ``times``, ``order`` or ``start``.

    Args:
        packets: of the file.
        decoded: what came of decoding it; None where its packets leave no doubt.
    """
    if decoded is None:
        return START if packets.doubtful else TIMES
    numbers = decoded.numbers
    if packets.counted:
        times = [None if number is None else packets.times[number] for number in numbers]
        if times == packets.shown[: len(times)]:
            return TIMES
    total = len(packets.times)
    if sorted(number for number in numbers if number is not None) != list(range(total)):
        return START
    # The frame of a key packet comes out when all that was stored before it has.
    closed = all(numbers[at] == at for at in packets.entries.values())
    return ORDER if packets.entries and closed else START


def count_of(packets: Packets, access: str, decoded: Decoded | None) -> int | None:
    """How many frames can be read; None where only decoding tells, and nothing was decoded."""
    if decoded is not None:
        return len(decoded.numbers)
    if access == TIMES:
        return len(packets.shown)
    return len(packets.times) if access == ORDER else None


# What the reader keeps of frames to come must not hold the reader: its file would stay open until a
# collection. So these are functions, not methods.


def _decode(packets: Iterator[Any]) -> Iterator[Any]:
    """The frames of packets."""
    for packet in packets:
        yield from packet.decode()


def _by_time(frames: Iterator[Any], indices: dict[int, int]) -> Iterator[tuple[int, Any]]:
    """(index, frame) of those frames that are shown."""
    return ((indices[frame.pts], frame) for frame in frames if frame.pts in indices)


def _by_order(path: str, frames: Iterator[Any], number: int) -> Iterator[tuple[int, Any]]:
    """(index, frame) from the frame of a key packet on.

    Raises:
        VideoReadError: another one comes first: some key frames give a picture only later.
    """
    for index, frame in enumerate(frames, number):
        if index == number and frame.pts != number:
            raise VideoReadError(path, "it cannot be entered in the middle")
        yield index, frame


def _numbered(packets: Iterator[Any], number: int = 0) -> Iterator[Any]:
    """The same packets, each with its number in place of its time, as `packets.scan` counts."""
    for packet in packets:
        if packet.is_corrupt:
            packet.pts = None
        elif packet.size:
            packet.pts = number
            number += 1
        yield packet


def _seconds(times: Sequence[int | None], packets: Packets) -> np.ndarray:
    """When frames are shown, from the first on: by their own times where these make sense."""
    ticks = np.array(times, dtype=np.float64)  # None becomes nan
    if packets.steady and np.isfinite(ticks).all() and np.all(np.diff(ticks) > 0):
        return (ticks - ticks[:1]) * packets.time_base
    return _evenly(len(times), packets.rate)


def _evenly(count: int, rate: float) -> np.ndarray:
    """When frames are shown that come at a rate; all at 0 where it is unknown."""
    return np.arange(count) / rate if rate else np.zeros(count)


def _average_rate(seconds: np.ndarray) -> float:
    """Frames per second of frames that are shown at these times; 0.0 where they have none."""
    return float((len(seconds) - 1) / seconds[-1]) if seconds[-1] > 0 else 0.0
