"""Opens each file with a reader that is exact for it: which one is a function of the file alone.

PyAV reads everything and is the reference. decord and torchcodec read what they were asked for and
are exact for: which files these are, a rule says (`referee`), and of decord a probe finds out.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import UsageError, suggest
from ..rows import IMAGE_SUFFIXES, Probe, Row
from . import archives, decord, torchcodec
from .base import Reader, VideoReadError, check_indices, scaled_size
from .decord import DecordReader
from .images import FramesReader, ImageReader
from .pyav import PyAVReader
from .referee import decord_is_exact, suits_decord
from .torchcodec import TorchCodecReader

READERS = ("auto", "decord", "pyav", "torchcodec")
# What pictures are read with, whatever reader is asked for.
_PICTURES = ("image", "frames")

# Seconds by which times may be off: some containers keep whole milliseconds.
_ROUNDING = 0.99e-3


def open_video(path: str | Path, *, reader: str = "auto", short_side: int | None = None) -> Reader:
    """Open a video, an image (one frame) or a folder of images (their frames).

    Args:
        path: a file, a folder, or a member of a tar archive (`archives.member_path`).
        reader: what is to decode videos: ``decord``, ``pyav`` or ``torchcodec``; ``auto`` is PyAV.
            Files of which it is known that the reader would take one frame for another are read
            with PyAV in any case.
        short_side: scale frames down to this short side, see `base.scaled_size`.

    Raises:
        UsageError: there is no such reader, or it is not installed.
        VideoReadError: the file cannot be opened, or is cut off.
    """
    path = str(path)
    require_reader(reader)
    kind = _kind(path)
    if kind in _PICTURES:
        return _open_pictures(kind, path, short_side)
    # PyAV looks first: decord complains about bad files on stderr, beyond reach, can hang on
    # strange ones, and has to be told the size of its frames.
    reference = PyAVReader(path, short_side=short_side)
    if reader == "torchcodec":
        return _with_torchcodec(reference, short_side)
    if reader == "decord" and not suits_decord(reference.packets, reference.access):
        with contextlib.suppress(VideoReadError):  # decord lacks some profiles
            size = None if short_side is None else reference.size
            video = DecordReader(path, size=size)
            if video.num_frames == reference.num_frames:
                return video
    return reference


def open_row(row: Row, *, reader: str = "auto", short_side: int | None = None) -> Reader:
    """Open a row: no frame beyond its segment, and none that does not decode.

    The frames of a segment are those that begin in [start, end), and at least the one on screen at
    its start. A file with a probe is not examined again.

    Args:
        row: what to open.
        reader: as for `open_video`.
        short_side: scale frames down to this short side, see `base.scaled_size`.

    Raises:
        UsageError: there is no such reader, or it is not installed.
        VideoReadError: the file cannot be opened, or the segment is not in it.
    """
    probe = row.probe
    if probe is None or probe.reader == "auto":
        video = open_video(row.path, reader=reader, short_side=short_side)
    else:
        require_reader(reader)
        video = _open_probed(row.path, probe, reader, short_side)
    num_frames = video.num_frames if probe is None else min(video.num_frames, probe.num_frames)
    first, stop = 0, num_frames
    if row.start is not None or row.end is not None:
        first, stop = _segment(row, video, num_frames)
    return video if stop - first == video.num_frames else Segment(row.path, video, first, stop)


def probe(path: str | Path, *, full: bool = False, reader: str = "auto") -> Probe:
    """Examine a file: how many frames it has, and that the first, middle and last one decode.

    Where one of them does not, where the file is cut off, and where its packets leave a doubt about
    its frames, all of them are decoded: what counts is what comes out before the first fault.

    Args:
        path: as for `open_video`.
        full: decode all frames in any case.
        reader: ``decord``: find out, too, whether that is exact for the file; else PyAV reads it.
            As decord does not tell of damage, all frames are decoded by PyAV for this.

    Raises:
        VideoReadError: the file cannot be read, not even its first frame.
    """
    path = str(path)
    kind = _kind(path)
    if kind in _PICTURES:
        return _probe_pictures(kind, path, full)
    video = PyAVReader(path, num_frames=_ALL)
    fault = video.packets.fault if video.decoded is None else video.decoded.fault
    decord_may = reader == "decord" and not suits_decord(video.packets, video.access)
    if video.decoded is None and (full or fault or decord_may):
        fault = video.decode_to_fault()
    try:
        frames = video.get(_samples(video.num_frames))
    except VideoReadError:
        if video.decoded is None:
            fault = video.decode_to_fault()
        if not fault:
            raise
        frames = video.get(_samples(video.num_frames))
    height, width = frames.shape[1:3]
    found = Probe(
        num_frames=video.num_frames,
        fps=video.fps,
        height=height,
        width=width,
        rotation=video.rotation,
        reader="pyav",
        access=video.access,
        total=_total(video) if fault else 0,
        fault=fault,
        full=video.decoded is not None,
    )
    if reader != "decord":
        return found
    exact = decord_may and not fault and decord_is_exact(video)
    return replace(found, reader="decord" if exact else "pyav", compared=True)


def require_reader(reader: str) -> None:
    """See that a reader can be used here, before anything is opened.

    Raises:
        UsageError: there is no such reader, or it is not installed.
    """
    if reader not in READERS:
        hint = suggest(reader, READERS) or f"take one of {', '.join(READERS)}"
        raise UsageError(f"there is no reader '{reader}'", hint)
    if reader == "torchcodec":
        torchcodec.load()
    elif reader == "decord":
        decord.require()


class Segment:
    """Some neighboring frames of a video as a video.

    Args:
        path: of the file, for errors.
        video: all frames.
        first, stop: the first frame that is part of it, and the first after it that is not.
    """

    def __init__(self, path: str, video: Reader, first: int, stop: int) -> None:
        self.path = path
        self.num_frames = stop - first
        self.first, self._video = first, video

    @property
    def fps(self) -> float:
        """Average frames per second of the video."""
        return self._video.fps

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the frames of `get`."""
        return self._video.size

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """RGB frames at ``indices``, uint8 (T, H, W, 3); see `base.Reader`."""
        wanted = check_indices(self.path, indices, self.num_frames)
        return self._video.get([self.first + index for index in wanted])

    def times(self) -> np.ndarray:
        """When each frame is shown, float64 (num_frames,), in seconds from its own first frame."""
        times = self._video.times()[self.first : self.first + self.num_frames]
        return times - times[0]


def _segment(row: Row, video: Reader, num_frames: int) -> tuple[int, int]:
    """The first frame of a row's segment, and the first one after it."""
    fault = f" ({row.probe.fault})" if row.probe is not None and row.probe.fault else ""
    if row.in_frames:
        first = int(row.start or 0)
        if first >= num_frames:
            raise VideoReadError(
                row.path,
                f"it has {num_frames} frames, its segment begins at frame {first}{fault}",
            )
        return first, num_frames if row.end is None else min(int(row.end), num_frames)
    if not video.fps:
        pictures = isinstance(video, (ImageReader, FramesReader))
        what = "pictures have no times" if pictures else "its times make no sense"
        raise VideoReadError(row.path, f"{what}, so no part can be cut out")
    start = row.start or 0.0
    times = video.times()[:num_frames]
    length = float(times[-1]) + 1 / video.fps
    if start >= length:
        raise VideoReadError(
            row.path,
            f"it ends at {length:.2f} s, before its segment begins at {start:g} s{fault}",
        )
    first = int(np.searchsorted(times, start - _ROUNDING))
    stop = num_frames if row.end is None else int(np.searchsorted(times, row.end - _ROUNDING))
    if first < stop:
        return first, stop
    on_screen = int(np.searchsorted(times, start + _ROUNDING, side="right")) - 1
    return on_screen, on_screen + 1


# More than a file has: it is opened however many frames it lacks.
_ALL = 1 << 62


def _samples(num_frames: int) -> list[int]:
    """The first, middle and last frame."""
    last = num_frames - 1
    return sorted({0, last // 2, last})


def _total(video: PyAVReader) -> int:
    """How many frames a damaged file should have; 0 where that is not known."""
    packets = video.packets
    if packets.cut:
        return packets.promised
    return len(packets.shown if packets.counted else packets.times)


def _probe_pictures(kind: str, path: str, full: bool) -> Probe:
    pictures = _open_pictures(kind, path, None)
    count = pictures.num_frames
    frames = pictures.get(_samples(count))
    if full:
        for index in range(count):
            pictures.get([index])
    height, width = frames.shape[1:3]
    return Probe(count, pictures.fps, height, width, reader=kind, full=full)


def _with_torchcodec(reference: PyAVReader, short_side: int | None) -> Reader:
    """The same video with torchcodec, where it is right about it."""
    packets = reference.packets
    if not packets.counted or packets.doubtful or packets.cut:
        return reference
    try:
        video = TorchCodecReader(reference.path, short_side=short_side)
    except VideoReadError:
        return reference  # readers lack some codecs
    return video if video.num_frames == reference.num_frames else reference


def _open_probed(path: str, probe: Probe, reader: str, short_side: int | None) -> Reader:
    """Open a file with what its probe found to be exact for it."""
    _kind(path)  # files may vanish; the decoders' own words for that are unclear
    if probe.reader in _PICTURES:
        return _open_pictures(probe.reader, path, short_side)
    if reader == "decord" and probe.reader == "decord" and decord.load():
        size = probe.height, probe.width
        scale = short_side is not None and min(size) > short_side
        # If decord fails, the file has changed or the memory is full, and PyAV will say so.
        with contextlib.suppress(VideoReadError):
            return DecordReader(path, size=scaled_size(*size, short_side) if scale else None)
    video = PyAVReader(
        path, short_side=short_side, num_frames=probe.num_frames, access=probe.access
    )
    if reader == "torchcodec" and not probe.fault:
        return _with_torchcodec(video, short_side)
    return video


def _open_pictures(kind: str, path: str, short_side: int | None) -> Reader:
    reader = ImageReader if kind == "image" else FramesReader
    return reader(path, short_side=short_side)


def _kind(path: str) -> str:
    """``image``, ``frames`` (of a folder) or ``video``, by what a path looks like.

    Raises:
        VideoReadError: there is nothing to open.
    """
    member = archives.parse(path)
    if member is None:
        try:
            status = os.stat(path)
        except FileNotFoundError as error:
            reason = "it is a broken link" if os.path.islink(path) else "no such file"
            raise VideoReadError(path, reason) from error
        except OSError as error:
            raise VideoReadError(path, f"it cannot be reached ({error.strerror})") from error
        if stat.S_ISDIR(status.st_mode):
            return "frames"
        if not stat.S_ISREG(status.st_mode):
            raise VideoReadError(path, "it is no regular file")
        if not os.access(path, os.R_OK):
            raise VideoReadError(path, "no permission to read it")
    if (member.size if member else status.st_size) == 0:
        raise VideoReadError(path, "the file is empty")
    suffix = os.path.splitext(member.member if member else path)[1].lower()
    return "image" if suffix in IMAGE_SUFFIXES else "video"
