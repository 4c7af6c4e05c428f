"""Files with the same content under several names, and videos that look alike."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import numpy as np

from ..readers import archives, open_video

_PIECE = 1 << 20  # bytes read at a time
_ENDS = 1 << 14  # bytes of both ends of a file that are compared first


def identical_files(paths: Iterable[str]) -> list[list[str]]:
    """Files that are byte for byte the same, in groups of two or more, each as first named.

    Only files of equal size are opened, and of these only those are read whole whose ends are
    equal. Members of archives, folders and files that cannot be read are left out.
    """
    sizes: dict[int, dict[str, str]] = defaultdict(dict)
    for path in paths:
        if archives.parse(path) is not None:
            continue
        with suppress(OSError):
            if os.path.isfile(path) and (size := os.path.getsize(path)):
                sizes[size].setdefault(os.path.realpath(path), path)
    groups = [list(same.values()) for same in sizes.values() if len(same) > 1]
    for ends_only in (True, False):
        groups = [same for group in groups for same in _by_content(group, ends_only=ends_only)]
    return groups


def _by_content(paths: Sequence[str], *, ends_only: bool) -> Iterator[list[str]]:
    """The groups of two or more files of one size with the same content, or the same ends."""
    found: dict[bytes, list[str]] = defaultdict(list)
    for path in paths:
        with suppress(OSError):
            found[_digest(path, ends_only=ends_only)].append(path)
    yield from (same for same in found.values() if len(same) > 1)


def _digest(path: str, *, ends_only: bool) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        if ends_only:
            digest.update(file.read(_ENDS))
            file.seek(max(os.path.getsize(path) - _ENDS, 0))
            digest.update(file.read(_ENDS))
        else:
            while piece := file.read(_PIECE):
                digest.update(piece)
    return digest.digest()


_HASHED_SIDE = 72  # pixels of the short side of frames that are hashed
HASH_FRAMES = 3
"""Frames of a video that its perceptual hash is made of: at 1/6, 1/2 and 5/6 of its length."""
BITS = 64
"""Of the hash of a frame."""


def frame_hash(frame: np.ndarray) -> int:
    """64 bits of a picture (dHash): where each of 8 x 8 places is brighter than its right one.

    The picture is reduced to 8 rows of 9 gray values by area, so that another size, another
    compression and a little noise change few of the bits.

    Args:
        frame: uint8 (H, W, 3).
    """
    gray = frame.astype(np.float32).mean(axis=2)
    small = _by_area(_by_area(gray, 8).T, 9).T
    bits = (small[:, :-1] > small[:, 1:]).ravel()
    return int(np.packbits(bits).view(">u8")[0])


def hash_file(path: str) -> list[int]:
    """The hashes of `HASH_FRAMES` frames of a video; one of the first frame alone where it is one.

    Raises:
        VideoReadError: it cannot be read.
    """
    video = open_video(path, short_side=_HASHED_SIDE)
    places = [(2 * k + 1) * video.num_frames // (2 * HASH_FRAMES) for k in range(HASH_FRAMES)]
    return [frame_hash(frame) for frame in video.get(places)]


def _by_area(values: np.ndarray, count: int) -> np.ndarray:
    """The means of ``count`` equal stretches of the rows, (count, W) of (H, W)."""
    total = np.vstack([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0, dtype=np.float64)])
    places = np.linspace(0, len(values), count + 1)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, len(values))
    at = total[low] + (places - low)[:, None] * (total[high] - total[low])
    return np.asarray(np.diff(at, axis=0) * count / len(values))


NEAR = 10
"""Bits of the 192 of two videos that may differ where they look alike."""


def alike(hashes: np.ndarray) -> list[tuple[int, int, int]]:
    """Pairs of videos that look alike: (first, second, bits that differ), in this order.

    Args:
        hashes: uint64 (videos, `HASH_FRAMES`).
    """
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(len(hashes), -1), axis=1)
    signs = bits.astype(np.float32) * 2 - 1
    pairs = []
    for start in range(0, len(signs), 1024):
        # The product of two vectors of signs is the number of bits less twice those that differ.
        apart = (signs.shape[1] - signs[start : start + 1024] @ signs[start:].T) / 2
        for one, other in np.argwhere(apart <= NEAR):
            if other > one:
                pairs.append((start + int(one), start + int(other), int(apart[one, other])))
    return pairs
