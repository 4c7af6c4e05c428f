"""Frames out of files: one reader interface, one error, whatever decodes underneath.

PyAV reads every header and is the reference; decord decodes where it is installed and exact. A
reader belongs to the process that opened it and is closed with the last reference to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageOps

from .sources import IMAGE_SUFFIXES

# decord's frame index is wrong in these containers: it seeks where there is nothing to seek by.
_SEQUENTIAL_FORMATS = frozenset({"mpegts", "mpeg"})


class VideoReadError(Exception):
    """A file, or a frame of it, cannot be read.

    Args:
        path: the file.
        reason: why, in a few words.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Reader(Protocol):
    """An open video."""

    @property
    def num_frames(self) -> int:
        """How many frames the file says it has; at least 1."""

    @property
    def fps(self) -> float:
        """Average frames per second; 0.0 where there is no time (a still image)."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, after rotation."""

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """RGB frames at ``indices`` (any order, repeats allowed), uint8 (T, H, W, 3).

        Raises:
            VideoReadError: an index is out of range or a frame does not decode.
        """


def open_video(path: str | Path) -> Reader:
    """Open a video, or an image as a video of one frame.

    Raises:
        VideoReadError: the file cannot be opened; the only error a bad file causes.
    """
    path = Path(path)
    _require_content(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageReader(path)
    # The header goes first through PyAV: decord complains about bad files on stderr, beyond reach.
    if _header_format(path) not in _SEQUENTIAL_FORMATS and _decord() is not None:
        try:
            return DecordReader(path)
        except VideoReadError:
            pass  # decord lacks some decoders (AV1, gif); if PyAV fails too, its reason is clearer
    return PyAVReader(path)


class DecordReader:
    """Reads with decord (fast seeking, one thread), and with PyAV what decord gives up on."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        decord = _decord()
        if decord is None:
            raise VideoReadError(path, "decord is not installed")
        self._errors = (RuntimeError, decord.DECORDError, IndexError, OSError)
        try:
            self._reader = decord.VideoReader(str(path), num_threads=1)
            self.num_frames: int = len(self._reader)
            self.fps = float(self._reader.get_avg_fps())
        except self._errors as error:
            raise VideoReadError(path, "decord cannot open it") from error
        if self.num_frames < 1:
            raise VideoReadError(path, "it has no frame")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, after rotation."""
        height, width = self.get([0]).shape[1:3]
        return height, width

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """RGB frames at ``indices``, uint8 (T, H, W, 3); see ``Reader``."""
        wanted = _checked(self.path, indices, self.num_frames)
        try:
            frames: np.ndarray = self._reader.get_batch(wanted).asnumpy()
            return frames
        except self._errors:
            # decord polls its decoder a limited number of times near the end, so whether it gives
            # up can depend on the load of the machine. PyAV has the last word.
            return PyAVReader(self.path).get(wanted)


class PyAVReader:
    """Reads with PyAV by decoding from the first frame on: exact for every container."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with av.open(str(path)) as container:
                stream = _video_stream(self.path, container)
                promised = stream.frames if "mp4" in container.format.name else 0
                hidden = [packet.is_discard for packet in container.demux(stream) if packet.size]
                self.fps = float(stream.average_rate or 0)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoReadError(path, _av_reason(error)) from error
        if len(hidden) < promised:
            raise VideoReadError(path, f"it is cut off: {len(hidden)} of {promised} frames")
        # Packets that an edit list hides are decoded but never shown.
        self.num_frames = hidden.count(False)
        if self.num_frames < 1:
            raise VideoReadError(path, "it has no frame")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, after rotation."""
        height, width = self.get([0]).shape[1:3]
        return height, width

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """RGB frames at ``indices``, uint8 (T, H, W, 3); see ``Reader``."""
        wanted = _checked(self.path, indices, self.num_frames)
        last = max(wanted)
        frames: dict[int, np.ndarray] = {}
        position = -1
        # A converter of our own, with one thread: PyAV's shared one has threads that do not survive
        # into a forked worker, which then waits for them for ever.
        rgb = VideoReformatter()
        try:
            with av.open(str(self.path)) as container:
                stream = _video_stream(self.path, container)
                stream.thread_count = 1
                for position, frame in enumerate(container.decode(stream)):
                    if position in wanted:
                        # Display rotation is counterclockwise, like rot90.
                        turns = round(frame.rotation / 90)
                        frame = rgb.reformat(frame, format="rgb24", threads=1)
                        frames[position] = np.rot90(frame.to_ndarray(), turns)
                    if position >= last:
                        break
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = f"frame {position + 1} does not decode ({_av_reason(error)})"
            raise VideoReadError(self.path, reason) from error
        if position < last:
            reason = f"it ends after {position + 1} of {self.num_frames} frames"
            raise VideoReadError(self.path, reason)
        if len({frame.shape for frame in frames.values()}) > 1:
            raise VideoReadError(self.path, "its frame size changes")
        return np.stack([frames[index] for index in wanted])


class ImageReader:
    """A still image as a video of one frame."""

    num_frames = 1
    fps = 0.0

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image)
                self._pixels = np.asarray(upright.convert("RGB"))
        # PIL's plugins let struct.error, SyntaxError and more through on damaged files.
        except Exception as error:
            raise VideoReadError(path, "it is not a readable image") from error

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, after rotation."""
        height, width = self._pixels.shape[:2]
        return height, width

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """RGB frames at ``indices``, uint8 (T, H, W, 3); see ``Reader``."""
        wanted = _checked(self.path, indices, self.num_frames)
        return np.repeat(self._pixels[None], len(wanted), axis=0)


@lru_cache(maxsize=1)
def _decord() -> ModuleType | None:
    """decord, quiet and impatient; None where it is not installed (it has few wheels)."""
    # Read at import: how often the end of a file is polled. Sound files were seen to need over 128;
    # the default of 10,240 is a long wait for containers that promise frames they do not have.
    os.environ.setdefault("DECORD_EOF_RETRY_MAX", "2048")
    try:
        decord = import_module("decord")
    except (ImportError, OSError):
        return None
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _require_content(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise VideoReadError(path, "no such file") from error
    if path.is_dir():
        raise VideoReadError(path, "it is a folder")
    if size == 0:
        raise VideoReadError(path, "the file is empty")


def _header_format(path: Path) -> str:
    """Name of the container, of a file whose header is sound and has a video in it."""
    try:
        with av.open(str(path)) as container:
            _video_stream(path, container)
            return str(container.format.name)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = f"it is no video, or a damaged one ({_av_reason(error)})"
        raise VideoReadError(path, reason) from error


def _video_stream(path: Path, container: Any) -> Any:
    name = container.format.name
    if name == "image2" or name.endswith("_pipe"):
        raise VideoReadError(path, "it is a still image under a video's name")
    if not container.streams.video:
        raise VideoReadError(path, "it has no video stream")
    return container.streams.video[0]


def _av_reason(error: Exception) -> str:
    """PyAV's error without its number and without the path."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _checked(path: Path, indices: Sequence[int] | np.ndarray, num_frames: int) -> list[int]:
    wanted = [int(index) for index in indices]
    if not wanted:
        raise ValueError("no frame asked for")
    outside = [index for index in wanted if not 0 <= index < num_frames]
    if outside:
        raise VideoReadError(path, f"it has {num_frames} frames, no frame {outside[0]}")
    return wanted
