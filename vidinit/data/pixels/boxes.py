"""Boxes that follow the pixels of a clip through crop, resize, flip and letterbox.

Boxes are x1, y1, x2, y2 in pixels, as edges: a picture of W pixels reaches from 0 to W. A resize
maps edges to edges, and a flip maps x to W - x; W - 1 - x, which is in use, is of pixel numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .transforms import Cut, Interpolation, resize


@dataclass(frozen=True)
class Affine:
    """Where a point of a picture goes: ``scale * (x, y) + shift``, for each of the two.

    Attributes:
        scale: of x and y; that of x is negative in a mirror image.
        shift: of x and y, in pixels of the result.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)

    def then(self, other: Affine) -> Affine:
        """This map, and another one of its result."""
        pairs = zip(self.scale, self.shift, other.scale, other.shift, strict=True)
        (sx, tx), (sy, ty) = [(a * c, b * c + d) for a, b, c, d in pairs]
        return Affine((sx, sy), (tx, ty))

    def back(self) -> Affine:
        """The map from the result to the picture."""
        (a, b), (x, y) = self.scale, self.shift
        return Affine((1 / a, 1 / b), (-x / a, -y / b))

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Where boxes go, float32 (N, 4), which may reach beyond the result."""
        scale = np.array([*self.scale, *self.scale])
        moved = boxes.astype(np.float64) * scale + np.array([*self.shift, *self.shift])
        low = np.minimum(moved[:, :2], moved[:, 2:])  # of a mirror image the sides are exchanged
        high = np.maximum(moved[:, :2], moved[:, 2:])
        return np.concatenate([low, high], axis=1).astype(np.float32)


def cropped(crop: tuple[int, int, int, int], size: tuple[int, int]) -> Affine:
    """The map of a crop that is resized.

    Args:
        crop: top, left, height and width in the picture.
        size: height and width of the result.
    """
    top, left, height, width = crop
    across, down = size[1] / width, size[0] / height
    return Affine((across, down), (-left * across, -top * down))


def flipped(width: float) -> Affine:
    """The map of a mirror image of a picture that is ``width`` pixels wide."""
    return Affine((-1.0, 1.0), (width, 0.0))


def cut_map(cut: Cut, size: int) -> Affine:
    """The map of the part of a picture that `augment_clip` makes a clip of ``size`` pixels of."""
    crop = cropped(cut.box, (size, size))
    return crop.then(flipped(size)) if cut.mirrored else crop


def fitted(shape: tuple[int, int], size: tuple[int, int]) -> tuple[Affine, tuple[int, int]]:
    """The map of a picture that keeps its aspect and is centered in another.

    Args:
        shape: height and width of the picture.
        size: height and width of the result.

    Returns:
        The map, and the height and width that the picture then has, in whole pixels.
    """
    ratio = min(size[0] / shape[0], size[1] / shape[1])
    height, width = (max(1, round(side * ratio)) for side in shape)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return Affine((width / shape[1], height / shape[0]), (left, top)), (height, width)


def letterbox(
    clip: Tensor,
    size: tuple[int, int],
    fill: Sequence[int],
    interpolation: Interpolation = "bicubic",
) -> tuple[Tensor, Affine]:
    """A clip of another size that keeps its aspect, with bars beside it, and its map.

    Args:
        clip: uint8 (T, H, W, C).
        size: height and width of the result.
        fill: the color of the bars, 0 to 255 for each channel: a model's mean is 0 once normalized.
        interpolation: how frames are resized, with antialiasing.
    """
    affine, (height, width) = fitted((clip.shape[1], clip.shape[2]), size)
    color = torch.tensor(fill, dtype=torch.uint8)
    result = color.expand(clip.shape[0], *size, len(fill)).clone()
    left, top = (int(one) for one in affine.shift)
    inner = resize(clip, height, width, interpolation)
    result[:, top : top + height, left : left + width] = inner
    return result, affine


def visible(boxes: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The part of boxes that lies in a picture.

    A person of whom little is left is no example of what they do; a box moved to the border, as
    PySlowFast keeps it, is none at all.

    Args:
        boxes: float (N, 4).
        size: height and width of the picture.

    Returns:
        The boxes cut at the border, float32 (N, 4), and the share of the area of each that is left,
        float32 (N,); 0 for a box without area.
    """
    high = np.array([size[1], size[0], size[1], size[0]], dtype=boxes.dtype)
    cut = np.clip(boxes, 0, high)
    whole, left = (np.maximum(b[:, 2:] - b[:, :2], 0).prod(axis=1) for b in (boxes, cut))
    share = np.divide(left, whole, out=np.zeros(len(boxes)), where=whole > 0)
    return cut.astype(np.float32), share.astype(np.float32)
