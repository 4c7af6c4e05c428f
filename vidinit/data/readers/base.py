"""The interface of all readers, their one error, and the checks and sizes that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np


class VideoReadError(Exception):
    """A file, or a frame of it, cannot be read: the only error that a bad file causes.

    Args:
        path: the file.
        reason: why, in a few words.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(str(path), reason)
        self.path = str(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Reader(Protocol):
    """An open video, of the process that opened it; it closes with its last reference."""

    @property
    def num_frames(self) -> int:
        """How many frames it has; at least 1."""

    @property
    def fps(self) -> float:
        """Average frames per second; 0.0 where there is no time (images, folders of frames)."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of what `get` returns: upright, and scaled if asked for."""

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """RGB frames at ``indices`` (any order, repeats allowed), uint8 (T, H, W, 3).

        Raises:
            VideoReadError: an index is out of range or a frame does not decode.
        """

    def times(self) -> np.ndarray:
        """When each frame is shown, float64 (num_frames,), in seconds from the first frame.

        All are 0.0 where there is no time.

        Raises:
            VideoReadError: the file went bad since it was opened.
        """


def check_indices(path: str, indices: Sequence[int] | np.ndarray, num_frames: int) -> list[int]:
    """``indices`` as a list of integers that are all in [0, num_frames)."""
    wanted = [int(index) for index in indices]
    if not wanted:
        raise ValueError("no frame asked for")
    if min(wanted) < 0 or max(wanted) >= num_frames:
        outside = next(index for index in wanted if not 0 <= index < num_frames)
        raise VideoReadError(path, f"it has {num_frames} frames, no frame {outside}")
    return wanted


def gather(
    path: str, wanted: list[int], read: Callable[[list[int]], Iterator[np.ndarray]]
) -> np.ndarray:
    """Frames in the order they are wanted, of which each is read once, in the order of the file.

    Args:
        path: what an error names.
        wanted: indices in any order, repeats allowed.
        read: from ascending indices to one picture (H, W, 3) for each.

    Raises:
        VideoReadError: the pictures are not of one size.
    """
    order = sorted(set(wanted))
    frames: np.ndarray | None = None
    for place, picture in enumerate(read(order)):
        if frames is None:
            frames = np.empty((len(order), *picture.shape), np.uint8)
        elif picture.shape != frames.shape[1:]:
            raise VideoReadError(path, "its frame size changes")
        frames[place] = picture
    assert frames is not None
    return frames if order == wanted else frames[np.searchsorted(order, wanted)]


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width of a frame whose short side becomes ``short_side``.

    Both are even and nothing is enlarged: a frame that is small enough stays as it is.
    """
    shortest = min(height, width)
    if short_side is None or shortest <= short_side:
        return height, width
    # Integers only: every reader must come to the same size.
    short = max(short_side // 2 * 2, 2)
    height, width = (
        (2 * side * short + 2 * shortest) // (4 * shortest) * 2 for side in (height, width)
    )
    return height, width
