"""Reading with PyAV: exact for every container, so it is the reference for other readers."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from . import archives
from .base import VideoReadError, check_indices, gather, scaled_size
from .packets import AV_ERRORS, Packets, av_reason, open_container, scan

# Frames that are cheaper to decode and drop than to jump over.
_JUMP = 4


class PyAVReader:
    """Reads with PyAV, one thread.

    A frame is known by the time that its packet gives it: decoding starts at the last key frame
    before it and goes on until a frame of exactly this time comes out. Where packets have no times
    to go by, or a jump does not land where it should, decoding starts at the first frame.

    Args:
        path: a video file, or a member of a tar archive.
        short_side: scale frames down to this short side, see `base.scaled_size`.
        num_frames: how many there are, where that is known: without, files whose packets do not
            say are decoded once to count them.

    Attributes:
        packets: what the container says.
        rotation: degrees clockwise that the container asks for, known after the first `get`.

    Raises:
        VideoReadError: it cannot be opened, is cut off, or has no frame.
    """

    def __init__(
        self, path: str | Path, *, short_side: int | None = None, num_frames: int | None = None
    ) -> None:
        self.path = str(path)
        self.rotation = 0
        self._short_side = short_side
        self._size: tuple[int, int] | None = None
        self._container: Any = None
        self._source = archives.source(self.path)
        # A converter of our own, with one thread: PyAV's shared one has threads that do not survive
        # into a forked worker, which then waits for them for ever.
        self._rgb = VideoReformatter()
        self._open()
        self.packets = scan(self.path, self._container, self._stream)
        self._seekable = self.packets.counted
        self._indices = {time: index for index, time in enumerate(self.packets.shown)}
        self._seconds: np.ndarray | None = None
        if self.packets.counted:
            num_frames = len(self.packets.shown)
        self.num_frames = len(self._all_times()) if num_frames is None else num_frames
        if self.num_frames < 1:
            raise VideoReadError(self.path, "it has no frame")
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

    def _all_times(self) -> np.ndarray:
        if self._seconds is None:
            shown = self.packets.shown if self.packets.counted else self._decoded_times()
            self._seconds = _seconds(shown, self.packets)
        return self._seconds

    def _read(self, order: list[int]) -> Iterator[np.ndarray]:
        """Pictures (H, W, 3) at ascending indices."""
        frames: Iterator[tuple[int, Any]] | None = None
        newest = -1
        for index in order:
            if self._seekable:
                key = self.packets.key_before(index)
                if frames is None or bisect_left(self.packets.shown, key) - newest > _JUMP:
                    frames = self._from_key(key)
            frames = frames or self.from_start()
            try:
                picture = self._find(frames, index)
            except VideoReadError:
                if not self._seekable:
                    raise
                # Frames after damage may depend on it, and some containers cannot seek: what
                # counts is what comes out of decoding everything.
                self._seekable = False
                frames = self.from_start()
                picture = self._find(frames, index)
            newest = index
            yield picture

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
        """(index, frame) from the key frame of this time on, or from an earlier one."""
        self._container.seek(key, stream=self._stream)
        packets = self._demux()
        first = next(packets, None)
        if first is None or not first.is_keyframe or first.pts is None or first.pts > key:
            raise VideoReadError(self.path, "it cannot be entered in the middle")
        for packet in itertools.chain([first], packets):
            for frame in packet.decode():
                if frame.pts in self._indices:
                    yield self._indices[frame.pts], frame

    def from_start(self) -> Iterator[tuple[int, Any]]:
        """(index, frame) from the first frame on."""
        for position, frame in enumerate(self._decode_all()):
            if not self.packets.counted:
                yield position, frame
            elif frame.pts in self._indices:
                yield self._indices[frame.pts], frame

    def _decode_all(self) -> Iterator[Any]:
        """All frames that are shown."""
        self._open()
        # A recording may begin between two key frames. Some decoders make frames even of that.
        started = not self.packets.keyed
        for packet in self._demux():
            started = started or packet.is_keyframe
            if started:
                yield from packet.decode()

    def _decoded_times(self) -> list[int | None]:
        """When each frame is shown, as far as the decoder knows."""
        times: list[int | None] = []
        try:
            for frame in self._decode_all():
                times.append(frame.pts)
        except AV_ERRORS as error:
            reason = f"frame {len(times)} does not decode ({av_reason(error)})"
            raise VideoReadError(self.path, reason) from error
        return times

    def _demux(self) -> Iterator[Any]:
        """Packets from where the container stands, up to the one that drains the decoder."""
        # An empty packet with a time stands for a frame that was skipped; decoders refuse it.
        return (
            packet
            for packet in self._container.demux(self._stream)
            if packet.size or packet.dts is None
        )

    def _open(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container, self._stream = open_container(self.path, self._source)


def _seconds(times: Sequence[int | None], packets: Packets) -> np.ndarray:
    """When frames are shown, from the first on: by their own times where these make sense."""
    ticks = np.array(times, dtype=np.float64)  # None becomes nan
    if np.isfinite(ticks).all() and np.all(np.diff(ticks) > 0):
        return (ticks - ticks[:1]) * packets.time_base
    return np.arange(len(times)) / packets.rate if packets.rate else np.zeros(len(times))


def _average_rate(seconds: np.ndarray) -> float:
    """Frames per second of frames that are shown at these times; 0.0 where they have none."""
    return float((len(seconds) - 1) / seconds[-1]) if seconds[-1] > 0 else 0.0
