"""Opens each file with a reader that is exact for it, found out once by a probe, or on the spot.

PyAV counts a file's packets and is the reference. decord decodes only where its count agrees and no
edit list, open group of pictures or container without an index (MPEG-TS, MPEG-PS) is in the way:
there its simpler index takes one frame for another. PyAV decodes the rest; with its seeking it is
the faster one, too.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import UsageError, suggest
from ..rows import IMAGE_SUFFIXES, Probe, Row
from . import archives, decord, torchcodec
from .base import Reader, VideoReadError, check_indices, scaled_size
from .decord import DecordReader
from .images import FramesReader, ImageReader
from .pyav import PyAVReader
from .torchcodec import TorchCodecReader

READERS = ("auto", "decord", "pyav", "torchcodec")
# What pictures are read with, whatever reader is asked for.
_PICTURES = ("image", "frames")

# Mean difference of two decoders' pixels (of 255) up to which they show the same picture.
_SAME = 3.0
# Seconds by which times may be off: some containers keep whole milliseconds.
_ROUNDING = 1e-3


def open_video(path: str | Path, *, reader: str = "auto", short_side: int | None = None) -> Reader:
    """Open a video, an image (one frame) or a folder of images (their frames).

    Args:
        path: a file, a folder, or a member of a tar archive (`archives.member_path`).
        reader: what is to decode videos: ``decord``, ``pyav`` or ``torchcodec``; ``auto`` is decord
            where it is installed. Files whose packets show that the reader would take one frame
            for another are read with PyAV in any case.
        short_side: scale frames down to this short side, see `base.scaled_size`.

    Raises:
        UsageError: there is no such reader, or it is not installed.
        VideoReadError: the file cannot be opened.
    """
    path = str(path)
    require_reader(reader)
    kind = _kind(path)
    if kind in _PICTURES:
        return _open_pictures(kind, path, short_side)
    # PyAV looks first: decord complains about bad files on stderr, beyond reach, can hang on
    # strange ones, and has to be told the size of its frames.
    reference = PyAVReader(path, short_side=short_side)
    exact = reference.packets.counted if reader == "torchcodec" else reference.packets.plain
    if reader == "pyav" or not exact or not (reader == "torchcodec" or decord.load()):
        return reference
    try:
        if reader == "torchcodec":
            video: Reader = TorchCodecReader(path, short_side=short_side)
        else:
            video = DecordReader(path, size=None if short_side is None else reference.size)
    except VideoReadError:
        return reference  # readers lack some codecs (decord AV1)
    return video if video.num_frames == reference.num_frames else reference


def open_row(row: Row, *, reader: str = "auto", short_side: int | None = None) -> Reader:
    """Open a row: no frame beyond its segment, and none that does not decode.

    The frames of a segment are those that begin in [start, end), and at least the one on screen at
    its start. For decord and PyAV a file with a probe is not examined again.

    Args:
        row: what to open.
        reader: as for `open_video`.
        short_side: scale frames down to this short side, see `base.scaled_size`.

    Raises:
        UsageError: there is no such reader, or it is not installed.
        VideoReadError: the file cannot be opened, or the segment is not in it.
    """
    probe = row.probe
    if probe is None or probe.reader == "auto" or reader == "torchcodec":
        video = open_video(row.path, reader=reader, short_side=short_side)
    else:
        require_reader(reader)
        video = _open_probed(row.path, probe, reader, short_side)
    num_frames = video.num_frames if probe is None else min(video.num_frames, probe.num_frames)
    first, stop = 0, num_frames
    if row.start is not None or row.end is not None:
        first, stop = _segment(row, video, num_frames)
    return video if stop - first == video.num_frames else Segment(row.path, video, first, stop)


def probe(path: str | Path) -> Probe:
    """Examine a file: how many frames it has, and that the first, middle and last one decode.

    Videos are judged by PyAV. decord is named as their reader where nothing in the packets is
    known to mislead it, it counts as many frames, and it shows the same ones.

    Raises:
        VideoReadError: the file cannot be read.
    """
    path = str(path)
    kind = _kind(path)
    reference = PyAVReader(path) if kind == "video" else _open_pictures(kind, path, None)
    last = reference.num_frames - 1
    indices = sorted({0, last // 2, last})
    frames = reference.get(indices)
    rotation, reader = 0, kind
    if isinstance(reference, PyAVReader):
        rotation = reference.rotation
        reader = "decord" if _decord_agrees(reference, indices, frames) else "pyav"
    height, width = frames.shape[1:3]
    return Probe(reference.num_frames, reference.fps, height, width, rotation, reader)


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
    if not video.fps:
        raise VideoReadError(row.path, "pictures have no times, so no part of them can be cut out")
    start = row.start or 0.0
    times = video.times()[:num_frames]
    length = float(times[-1]) + 1 / video.fps
    if start >= length:
        raise VideoReadError(
            row.path, f"it ends at {length:.2f} s, before its segment begins at {start:g} s"
        )
    first = int(np.searchsorted(times, start - _ROUNDING))
    stop = num_frames if row.end is None else int(np.searchsorted(times, row.end - _ROUNDING))
    if first < stop:
        return first, stop
    on_screen = int(np.searchsorted(times, start + _ROUNDING, side="right")) - 1
    return on_screen, on_screen + 1


def _decord_agrees(reference: PyAVReader, indices: list[int], frames: np.ndarray) -> bool:
    """True where decord finds as many frames as PyAV did, and these among them."""
    if not (reference.packets.plain and decord.load()):
        return False
    try:
        video = DecordReader(reference.path)
        if video.num_frames != reference.num_frames:
            return False
        decoded = video.decode(indices)
    except VideoReadError:
        return False
    if decoded.shape != frames.shape:
        return False
    return float(np.abs(np.subtract(decoded, frames, dtype=np.int16)).mean()) <= _SAME


def _open_probed(path: str, probe: Probe, reader: str, short_side: int | None) -> Reader:
    """Open a file with what its probe found to be exact for it."""
    _kind(path)  # files may vanish; the decoders' own words for that are unclear
    if probe.reader in _PICTURES:
        return _open_pictures(probe.reader, path, short_side)
    if probe.reader == "decord" and reader != "pyav" and decord.load():
        size = probe.height, probe.width
        scale = short_side is not None and min(size) > short_side
        # If decord fails, the file has changed or the memory is full, and PyAV will say so.
        with contextlib.suppress(VideoReadError):
            return DecordReader(path, size=scaled_size(*size, short_side) if scale else None)
    return PyAVReader(path, short_side=short_side, num_frames=probe.num_frames)


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
