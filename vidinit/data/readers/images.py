"""Pictures as videos: a still image is one frame, a folder of them is as many."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..rows import IMAGE_SUFFIXES
from . import archives
from .base import VideoReadError, check_indices, gather, scaled_size


def load(path: str, short_side: int | None) -> np.ndarray:
    """An upright RGB picture, scaled down to a short side: uint8 (H, W, 3).

    Raises:
        VideoReadError: it is no image, or a damaged one.
    """
    source = archives.source(path)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            height, width = scaled_size(upright.height, upright.width, short_side)
            if (width, height) != upright.size:
                upright = upright.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(upright)
    # PIL's plugins let struct.error, SyntaxError and more through on damaged files.
    except Exception as error:
        raise VideoReadError(path, "it is not a readable image") from error


class ImageReader:
    """A still image as a video of one frame.

    Args:
        path: an image file, or a member of a tar archive.
        short_side: scale it down to this short side, see `base.scaled_size`.

    Raises:
        VideoReadError: it is no image, or a damaged one.
    """

    num_frames = 1
    fps = 0.0

    def __init__(self, path: str | Path, *, short_side: int | None = None) -> None:
        self.path = str(path)
        self._pixels = load(self.path, short_side)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the frames of `get`."""
        height, width = self._pixels.shape[:2]
        return height, width

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The picture once for each of ``indices``, uint8 (T, H, W, 3); see `base.Reader`."""
        wanted = check_indices(self.path, indices, self.num_frames)
        return np.repeat(self._pixels[None], len(wanted), axis=0)

    def times(self) -> np.ndarray:
        """Zero, float64 (1,)."""
        return np.zeros(1)


class FramesReader:
    """A folder of images as a video: one frame for each image, in the order of their numbers.

    Names may be anything with a number in it, padded with zeros or not, counted from anywhere and
    with gaps. Hidden files, folders and files that are no images are passed over.

    Args:
        path: the folder.
        short_side: scale frames down to this short side, see `base.scaled_size`.

    Raises:
        VideoReadError: there is no image in it.
    """

    fps = 0.0

    def __init__(self, path: str | Path, *, short_side: int | None = None) -> None:
        self.path = str(path)
        self._short_side = short_side
        try:
            with os.scandir(path) as entries:
                names = [entry.name for entry in entries if _is_frame(entry)]
        except OSError as error:
            raise VideoReadError(path, f"the folder cannot be read ({error.strerror})") from error
        if not names:
            raise VideoReadError(path, "it is a folder without images")
        self._names = sorted(names, key=_natural)
        self.num_frames = len(names)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the frames of `get`."""
        height, width = self.get([0]).shape[1:3]
        return height, width

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """RGB frames at ``indices``, uint8 (T, H, W, 3); see `base.Reader`."""
        return gather(self.path, check_indices(self.path, indices, self.num_frames), self._read)

    def times(self) -> np.ndarray:
        """Zeros, float64 (num_frames,)."""
        return np.zeros(self.num_frames)

    def _read(self, order: list[int]) -> Iterator[np.ndarray]:
        for index in order:
            try:
                yield load(os.path.join(self.path, self._names[index]), self._short_side)
            except VideoReadError as error:
                reason = f"{self._names[index]} is not a readable image"
                raise VideoReadError(self.path, reason) from error


def _is_frame(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    return suffix in IMAGE_SUFFIXES and entry.name[0] != "." and entry.is_file()


def _natural(name: str) -> tuple[list[tuple[str, int]], str]:
    """A key by which numbers sort as numbers: frame_2 before frame_10, and img9 before img010."""
    parts = re.findall(r"(\D*)(\d*)", name)
    return [(text, int(number or -1)) for text, number in parts], name
