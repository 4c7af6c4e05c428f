"""Which frames a clip is made of, and the randomness that chooses them. Numpy only.

Randomness is counted, not drawn: every generator is a function of (seed, epoch, index), so neither
the number of workers nor an interruption changes what a run sees.
"""

from __future__ import annotations

import numpy as np

# Uses of randomness that must not share a stream.
CLIP, ORDER, SUBSTITUTE, SPLIT = range(4)


def rng(seed: int, epoch: int, index: int, *, stream: int = CLIP) -> np.random.Generator:
    """The generator of one sample of one epoch: a pure function of its arguments, all >= 0.

    Philox is a counter-based generator. The seed is its key and (index, epoch, stream) the upper
    words of its counter, so two samples can never share a number.
    """
    counter = np.array([0, index, epoch, stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=seed, counter=counter))


def train_indices(
    num_frames: int, frames: int, stride: int, generator: np.random.Generator | None
) -> np.ndarray:
    """Frame indices of one dense clip, int64 (frames,), all in [0, num_frames).

    Args:
        num_frames: length of the video.
        frames: length of the clip.
        stride: distance between neighboring frames of the clip.
        generator: draws the start uniformly; None takes the clip at the center.

    A video shorter than the clip is repeated from its first frame on.
    """
    last_start = max(num_frames - _span(frames, stride), 0)
    start = (last_start + 1) // 2 if generator is None else generator.integers(last_start + 1)
    return _clip(int(start), num_frames, frames, stride)


def eval_indices(num_frames: int, frames: int, stride: int, clips: int) -> np.ndarray:
    """Frame indices of ``clips`` dense clips, int64 (clips, frames), all in [0, num_frames).

    Their starts are the midpoints of ``clips`` equal parts of all possible starts; one clip is the
    one at the center. A video shorter than a clip is repeated from its first frame on.
    """
    starts = max(num_frames - _span(frames, stride), 0) + 1
    midpoints = [(2 * clip + 1) * starts // (2 * clips) for clip in range(clips)]
    return np.stack([_clip(start, num_frames, frames, stride) for start in midpoints])


def _span(frames: int, stride: int) -> int:
    """How many frames of video a clip covers."""
    return (frames - 1) * stride + 1


def _clip(start: int, num_frames: int, frames: int, stride: int) -> np.ndarray:
    if num_frames < 1:
        raise ValueError("a video needs at least one frame")
    return (start + stride * np.arange(frames, dtype=np.int64)) % num_frames
