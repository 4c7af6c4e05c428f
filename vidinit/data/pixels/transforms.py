"""From decoded frames to what a model takes: resize, crop, flip, normalize.

Every frame of a clip gets the same treatment. Frames stay uint8 until they have their final size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

_CROP_ATTEMPTS = 10


@dataclass(frozen=True)
class Pixels:
    """How a model wants its pixels.

    Attributes:
        mean: per channel (RGB), of values in [0, 1].
        std: per channel, of values in [0, 1].
        interpolation: how frames are resized, with antialiasing.
        crop_pct: side of the center crop over the short side it is cut from, in (0, 1].
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    crop_pct: float = 0.875


def train_transform(
    frames: np.ndarray,
    *,
    size: int,
    pixels: Pixels,
    generator: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
) -> Tensor:
    """One random crop, resized, and one random horizontal flip.

    Args:
        frames: uint8 (T, H, W, 3).
        size: side of the result in pixels.
        pixels: what the model wants.
        generator: the only source of randomness.
        scale: smallest and largest share of the area to crop.
        ratio: smallest and largest width over height of the crop.
        flip: whether half of the clips are mirrored.

    Returns:
        float32 (3, T, size, size), normalized.
    """
    top, left, height, width = _random_box(frames.shape[1:3], scale, ratio, generator)
    clip = _channels_first(frames)[..., top : top + height, left : left + width]
    clip = _resize(clip, [size, size], pixels)
    # Drawn even when it is not used, so that ``flip`` changes nothing but the flip.
    mirrored = generator.random() < 0.5
    return _normalize(clip.flip(-1) if flip and mirrored else clip, pixels)


def eval_crops(
    frames: np.ndarray, *, size: int, pixels: Pixels, crops: Literal[1, 3] = 1
) -> Tensor:
    """The crops a clip is tested on.

    Args:
        frames: uint8 (T, H, W, 3).
        size: side of the result in pixels.
        pixels: what the model wants.
        crops: 1 resizes the short side to ``size / crop_pct`` and takes the center; 3 resizes it
            to ``size`` and takes left, center and right (top, center and bottom of a portrait).

    Returns:
        float32 (crops, 3, T, size, size), normalized.
    """
    if crops not in (1, 3):
        raise ValueError(f"crops is 1 or 3, not {crops}")
    short_side = round(size / pixels.crop_pct) if crops == 1 else size
    clip = _resize(_channels_first(frames), [short_side], pixels)
    height, width = clip.shape[-2:]
    # 0, 1/2 and 1 of the free way; with three crops only the long side has any.
    places = (0.5,) if crops == 1 else (0.0, 0.5, 1.0)
    views = []
    for place in places:
        top, left = round(place * (height - size)), round(place * (width - size))
        views.append(_normalize(clip[..., top : top + size, left : left + size], pixels))
    return torch.stack(views)


def _random_box(
    shape: tuple[int, ...],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: np.random.Generator,
) -> tuple[int, int, int, int]:
    """Top, left, height, width of a crop: area uniform, aspect ratio log-uniform."""
    height, width = shape
    for _ in range(_CROP_ATTEMPTS):
        area = height * width * generator.uniform(*scale)
        aspect = math.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = generator.integers(height - h + 1), generator.integers(width - w + 1)
            return int(top), int(left), h, w
    # No such box fits, as in a very wide video: the largest central one of an allowed ratio.
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, max(round(height * aspect), 1)), min(height, max(round(width / aspect), 1))
    return (height - h) // 2, (width - w) // 2, h, w


def _channels_first(frames: np.ndarray) -> Tensor:
    """(T, H, W, 3) -> (T, 3, H, W), without a copy."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)


def _resize(clip: Tensor, size: list[int], pixels: Pixels) -> Tensor:
    """uint8 (T, 3, H, W) to ``size``: [height, width], or [short side]."""
    mode = InterpolationMode(pixels.interpolation)
    resized: Tensor = F.resize(clip, size, interpolation=mode, antialias=True)
    return resized


def _normalize(clip: Tensor, pixels: Pixels) -> Tensor:
    """uint8 (T, 3, S, S) -> float32 (3, T, S, S)."""
    mean = torch.tensor(pixels.mean).view(3, 1, 1, 1) * 255
    std = torch.tensor(pixels.std).view(3, 1, 1, 1) * 255
    clip = clip.transpose(0, 1).to(torch.float32, memory_format=torch.contiguous_format)
    return clip.sub_(mean).div_(std)
