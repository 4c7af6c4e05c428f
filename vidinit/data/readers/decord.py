"""Reading with decord, where it is exact: `referee` finds that out, file by file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from ...errors import UsageError
from . import archives
from .base import VideoReadError, check_indices
from .pyav import PyAVReader


@lru_cache(maxsize=1)
def load() -> ModuleType | None:
    """The module decord (decord2 has its name too), quiet; None if missing."""
    try:
        decord = import_module("decord")
    except (ImportError, OSError):
        return None
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def require() -> ModuleType:
    """The module decord.

    Raises:
        UsageError: it is not installed.
    """
    decord = load()
    if decord is None:
        raise UsageError(
            "the reader decord is not installed",
            "run `pip install decord` where it has a wheel, or leave data.reader at auto",
        )
    return decord


class DecordReader:
    """Reads with decord, one thread, and with PyAV what decord gives up on.

    Args:
        path: a video file, or a member of a tar archive.
        size: height and width that upright frames are scaled to; None leaves them as they are.

    Raises:
        UsageError: decord is not installed.
        VideoReadError: it cannot open the file.
    """

    def __init__(self, path: str | Path, *, size: tuple[int, int] | None = None) -> None:
        self.path = str(path)
        self._target = size
        decord = require()
        self._errors = (RuntimeError, decord.DECORDError, IndexError, AssertionError, OSError)
        source = archives.source(self.path)
        height, width = size or (-1, -1)
        try:
            self._reader = decord.VideoReader(
                io.BytesIO(source) if isinstance(source, bytes) else source,
                num_threads=1,
                width=width,
                height=height,
            )
            self.num_frames: int = len(self._reader)
            self.fps = float(self._reader.get_avg_fps())
        except self._errors as error:
            raise VideoReadError(path, "decord cannot open it") from error

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the frames of `get`."""
        if self._target is None:
            height, width = self.get([0]).shape[1:3]
            self._target = height, width
        return self._target

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """RGB frames at ``indices``, uint8 (T, H, W, 3); see `base.Reader`."""
        wanted = check_indices(self.path, indices, self.num_frames)
        order = sorted(set(wanted))  # decord seeks anew for each index that goes back
        try:
            frames = self.decode(order)
        except VideoReadError:
            # decord polls its decoder a limited number of times near the end, so whether it gives
            # up can depend on the load of the machine. PyAV has the last word.
            short_side = None if self._target is None else min(self._target)
            frames = PyAVReader(self.path, short_side=short_side).get(order)
        return frames if order == wanted else frames[np.searchsorted(order, wanted)]

    def decode(self, order: list[int]) -> np.ndarray:
        """Frames at ascending indices by decord itself, uint8 (T, H, W, 3).

        Raises:
            VideoReadError: it gives up.
        """
        try:
            frames: np.ndarray = self._reader.get_batch(order).asnumpy()
        except self._errors as error:
            raise VideoReadError(self.path, "decord does not decode it") from error
        return frames

    def times(self) -> np.ndarray:
        """When each frame is shown, float64 (num_frames,), in seconds from the first frame."""
        return PyAVReader(self.path).times()  # decord's are those of decoding in some containers
