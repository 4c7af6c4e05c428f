"""Textures that move as one, and readers of frames in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from vidinit.data.flow.settings import STILL


def texture(side: int = 96, seed: int = 0) -> np.ndarray:
    """Smooth noise, uint8 (side, side, 3)."""
    noise = torch.rand(1, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(seed))
    smooth = F.interpolate(noise, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)
    return (smooth[0].permute(1, 2, 0) * 255).byte().numpy()


def translating(dx: int, dy: int, *, frames: int = 4, side: int = 64) -> np.ndarray:
    """What moves by ``(dx, dy)`` pixels a frame, right and down: uint8 (T, side, side, 3)."""
    ground = texture(160)
    middle = (160 - side) // 2
    tops = [middle - dy * t for t in range(frames)]
    lefts = [middle - dx * t for t in range(frames)]
    return np.stack(
        [
            ground[top : top + side, left : left + side]
            for top, left in zip(tops, lefts, strict=True)
        ]
    )


@dataclass
class Pictures:
    """A reader of these frames, uint8 (T, H, W, 3), which counts what it decodes."""

    frames: np.ndarray
    decoded: int = 0
    fps: float = 25.0

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        return self.frames.shape[1:3]

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        self.decoded += len(indices)
        return self.frames[np.asarray(indices)]

    def times(self) -> np.ndarray:
        return np.arange(self.num_frames) / self.fps


def dequantize(flow: np.ndarray, bound: float) -> np.ndarray:
    """The inverse of `flow.settings.quantize`, to ``bound / 254`` pixels: float32 (..., 2)."""
    return (flow.astype(np.float32) - STILL) * np.float32(bound / 127)
