"""The clip around a key frame."""

from __future__ import annotations

import numpy as np

from ..views import Sampling


def around(frame: int, num_frames: int, sampling: Sampling, fps: float = 0.0) -> np.ndarray:
    """Frame indices of the clip around a key frame, int64 (T,), in [0, num_frames).

    The key frame c is clip frame T // 2: the i-th is c + (i - T // 2) * stride, and what lies
    before the beginning or behind the end is the first or the last frame (PySlowFast's for AVA,
    whose T is even).

    Args:
        frame: the key frame.
        num_frames: length of the video, at least 1.
        sampling: ``dense``; its ``short`` does not matter, a clip never begins again.
        fps: average frames per second of the video; 0.0 where there is no time.

    Raises:
        ValueError: the key frame is not in the video, or the sampling is not dense.
    """
    if not 0 <= frame < num_frames:
        raise ValueError(f"key frame {frame} is not among {num_frames} frames")
    if sampling.kind != "dense":
        raise ValueError(f"only a dense clip lies around a frame, not {sampling.kind}")
    steps = np.arange(sampling.frames) - sampling.frames // 2
    places = frame + np.rint(steps * sampling.stride * sampling.rate(fps)).astype(np.int64)
    return np.asarray(np.clip(places, 0, num_frames - 1))
