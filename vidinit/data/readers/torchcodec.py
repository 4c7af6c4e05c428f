"""Reading with torchcodec, an extra: it needs an FFmpeg on the machine that fits its version."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UsageError
from ...extras import install_extra
from . import archives
from .base import VideoReadError, check_indices, scaled_size
from .pyav import PyAVReader

_ERRORS = (RuntimeError, ValueError, IndexError, OSError)


@lru_cache(maxsize=1)
def load() -> Any:
    """The module of its decoders.

    Raises:
        UsageError: torchcodec is not installed, or finds no FFmpeg.
    """
    try:
        return import_module("torchcodec.decoders")
    except ModuleNotFoundError as error:
        raise UsageError(
            "the reader torchcodec is not installed",
            f"run `{install_extra('torchcodec')}`, or leave data.reader at auto",
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise UsageError(
            "the reader torchcodec is installed but does not load",
            "it needs FFmpeg's libraries and the torch it was built for; or leave data.reader at "
            "auto",
        ) from error


class TorchCodecReader:
    """Reads with torchcodec in its exact mode, one thread.

    Args:
        path: a video file, or a member of a tar archive.
        short_side: scale frames down to this short side, see `base.scaled_size`.

    Raises:
        UsageError: torchcodec is not there.
        VideoReadError: it cannot open the file.
    """

    def __init__(self, path: str | Path, *, short_side: int | None = None) -> None:
        self.path = str(path)
        self._short_side = short_side
        decoders = load()
        try:
            self._decoder = decoders.VideoDecoder(
                archives.source(self.path), dimension_order="NHWC", num_ffmpeg_threads=1
            )
            self.num_frames: int = len(self._decoder)
            self.fps = float(self._decoder.metadata.average_fps or 0)
        except _ERRORS as error:
            raise VideoReadError(path, "torchcodec cannot open it") from error
        if self.num_frames < 1:
            raise VideoReadError(path, "it has no frame")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the frames of `get`."""
        height, width = self.get([0]).shape[1:3]
        return height, width

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """RGB frames at ``indices``, uint8 (T, H, W, 3); see `base.Reader`."""
        wanted = check_indices(self.path, indices, self.num_frames)
        order = sorted(set(wanted))
        try:
            frames: np.ndarray = self._decoder.get_frames_at(order).data.numpy()
        except _ERRORS as error:
            raise VideoReadError(self.path, "torchcodec does not decode it") from error
        height, width = scaled_size(frames.shape[1], frames.shape[2], self._short_side)
        if (height, width) != frames.shape[1:3]:
            small = [
                Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
                for frame in frames
            ]
            frames = np.stack([np.asarray(frame) for frame in small])
        return frames if order == wanted else frames[np.searchsorted(order, wanted)]

    def times(self) -> np.ndarray:
        """When each frame is shown, float64 (num_frames,), in seconds from the first frame."""
        return PyAVReader(self.path).times()
