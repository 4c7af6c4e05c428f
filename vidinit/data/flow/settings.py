"""How optical flow is estimated, and how it is kept in 8 bits. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

STILL = 128
"""The byte of no motion. The largest motions are 1 and 255, at the same distance of it, so that a
mirrored clip has exactly the flow of the mirrored video: 256 - x. 0 is left unused for that."""

METHODS = ("dis", "raft")
"""Values of `Flow.method`."""

_STEPS = 127  # from no motion to the largest one


@dataclass(frozen=True)
class Flow:
    """Optical flow as the input of a model, in the place of RGB.

    Attributes:
        method: ``dis``: dense inverse search (ECCV 2016, https://arxiv.org/abs/1603.03590) of
            OpenCV. ``raft``: RAFT (ECCV 2020, https://arxiv.org/abs/2003.12039) of torchvision.
        bound: largest motion that is told from larger ones, in pixels of the decoded frame; as in
            two-stream networks 20.
        weights: file of RAFT's weights; None: those of torchvision's hub.
    """

    method: Literal["dis", "raft"] = "dis"
    bound: float = 20.0
    weights: str | None = None


def quantize(flow: np.ndarray, bound: float) -> np.ndarray:
    """Motion in pixels as bytes: ``128 + round(127 v / bound)``, cut off at the bound.

    Args:
        flow: float (..., 2), to the right and down.
        bound: in pixels.

    Returns:
        uint8 (..., 2), from 1 to 255.
    """
    steps = np.rint(flow * (_STEPS / bound)).clip(-_STEPS, _STEPS)
    return (steps + STILL).astype(np.uint8)
