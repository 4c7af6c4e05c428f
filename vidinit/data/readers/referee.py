"""Is decord exact for a file? A rule for its kind, and a comparison with PyAV behind seeks.

The rule depends on the file alone: decord's index knows nothing of edit lists, open groups of
pictures and frames that are never shown, takes the times of decoding for those of showing, and
decodes few codecs as others do. The comparison is for what no rule foresees. It judges the pixels
against those of neighboring frames, because a camera that stands still makes wrong frames look
right.
"""

from __future__ import annotations

import itertools

import numpy as np

from . import decord
from .base import VideoReadError
from .decord import DecordReader
from .packets import MP4, Packets
from .pyav import TIMES, PyAVReader

# Containers with an index and times of showing, and codecs for which decord was shown to be exact.
_CONTAINERS = frozenset({MP4, "matroska,webm", "flv"})
_CODECS = frozenset({"h264", "hevc", "mjpeg", "mpeg4", "vp8", "vp9"})
# Mean difference of two decoders' pixels (of 255) up to which they may show the same picture, and
# the share of the smallest difference between two frames that it may be.
_SAME, _SHARE = 3.0, 0.25
# Places in a video at which a frame and those around it are compared.
_PLACES = 6
# decord polls its decoder a limited number of times, so that it may give up on a busy machine.
_TRIES = 3


def suits_decord(packets: Packets, access: str) -> str:
    """Why decord is not to read a file of this kind, or the empty string."""
    if packets.container not in _CONTAINERS:
        return f"container {packets.container.split(',')[0]}"
    if packets.codec not in _CODECS:
        return f"codec {packets.codec}"
    if access != TIMES or packets.doubtful:
        return "times of its frames"
    if not packets.plain:
        return "edit list, open group of pictures or hidden frames"
    return "cut off" if packets.cut else ""


def decord_is_exact(reference: PyAVReader) -> bool:
    """True where decord may read a file, finds as many frames as PyAV, and shows the same ones."""
    if suits_decord(reference.packets, reference.access) or not decord.load():
        return False
    count = reference.num_frames
    places = sorted({round(at * (count - 1) / (_PLACES - 1)) for at in range(_PLACES)})
    groups = [[at for at in (place - 1, place, place + 1) if 0 <= at < count] for place in places]
    try:
        video = DecordReader(reference.path)
        if video.num_frames != count:
            return False
        wanted = sorted({at for group in groups for at in group})
        frames = dict(zip(wanted, reference.get(wanted), strict=True))
        contrast = _contrast([frames[at] for at in wanted])
        # The last first, so that each is sought.
        return all(
            _same(_patiently(video, group), [frames[at] for at in group], contrast)
            for group in reversed(groups)
        )
    except VideoReadError:
        return False


def _patiently(video: DecordReader, indices: list[int]) -> np.ndarray:
    for _ in range(_TRIES - 1):
        try:
            return video.decode(indices)
        except VideoReadError:
            continue
    return video.decode(indices)


def _contrast(frames: list[np.ndarray]) -> float:
    """The smallest difference between two neighbors that differ; 0 where none do."""
    pairs = itertools.pairwise(frames)
    return min((gap for pair in pairs if (gap := _difference(*pair)) > 0), default=0.0)


def _same(found: np.ndarray, expected: list[np.ndarray], contrast: float) -> bool:
    limit = min(_SAME, _SHARE * contrast)
    return all(
        one.shape == other.shape and _difference(one, other) <= limit
        for one, other in zip(found, expected, strict=True)
    )


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of two frames."""
    return float(np.abs(np.subtract(one, other, dtype=np.int16)).mean())
