"""From decoded frames to clips of a model's size: crop, resize, flip, and what `augment` adds.

Every frame of a clip gets the same treatment, and a clip stays uint8 with its channels last, as
decoders give it; `batch.normalize` follows on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import UsageError
from ..flow.settings import STILL
from .augment import RandAugment, color_jitter, random_erasing, random_grayscale

Interpolation = Literal["bicubic", "bilinear"]

_CROP_ATTEMPTS = 10


@dataclass(frozen=True)
class Augment:
    """Settings of the random changes of a training clip.

    Attributes:
        size: side of the result in pixels.
        interpolation: how frames are resized, with antialiasing.
        scale: smallest and largest share of the area to crop.
        ratio: smallest and largest width over height of the crop.
        jitter: crop a square as if the short side had been resized to between these pixels (both
            included), instead of by ``scale`` and ``ratio``; neither is below ``size``.
        flip: mirror half of the clips.
        randaug: RandAugment in timm's words, as ``rand-m7-n4-mstd0.5-inc1``; empty for none.
        color_jitter: largest change of brightness, contrast and saturation, as a share.
        grayscale: share of the clips without color.
        erasing: share of the clips of which a box is erased.

    Raises:
        UsageError: ``randaug`` is none of timm's, or ``jitter`` does not fit ``size``.
    """

    size: int
    interpolation: Interpolation = "bicubic"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    jitter: tuple[int, int] | None = None
    flip: bool = True
    randaug: str = ""
    color_jitter: float = 0.0
    grayscale: float = 0.0
    erasing: float = 0.0

    def __post_init__(self) -> None:
        if self.randaug:
            RandAugment.parse(self.randaug)
        if self.jitter is not None and not self.size <= self.jitter[0] <= self.jitter[1]:
            raise UsageError(
                f"the short side cannot be between {self.jitter[0]} and {self.jitter[1]} pixels "
                f"for crops of {self.size}",
                "give the smaller number first, and none below the size of the crop",
            )


@dataclass(frozen=True)
class Cut:
    """The part of the picture that a clip shows.

    Attributes:
        box: top, left, height and width in the picture, in pixels.
        mirrored: whether left and right are exchanged.
    """

    box: tuple[int, int, int, int]
    mirrored: bool

    def shares(self, shape: tuple[int, ...]) -> tuple[float, float, float, float, float]:
        """Top, left, bottom and right over a picture's (height, width), and 1.0 if mirrored."""
        (top, left, height, width), (tall, wide) = self.box, shape
        bottom, right = (top + height) / tall, (left + width) / wide
        return top / tall, left / wide, bottom, right, float(self.mirrored)


def augment_clip(
    frames: np.ndarray, augment: Augment, generator: np.random.Generator
) -> tuple[Tensor, Cut]:
    """One training clip from decoded frames.

    In this order: crop, resize (only what was cropped), flip, RandAugment, color jitter,
    grayscale, erasing. What is off draws nothing, so crop and flip depend on nothing after them.

    Args:
        frames: uint8 (T, H, W, C), RGB or optical flow (C = 2), whose horizontal part changes its
            sign with a flip; not changed.
        augment: what to do; of optical flow nothing behind the flip.
        generator: the only source of randomness.

    Returns:
        uint8 (T, size, size, C), contiguous, and what of the frames it shows.
    """
    if augment.jitter is None:
        box = _random_box(frames.shape[1:3], augment.scale, augment.ratio, generator)
    else:
        box = _jittered_box(frames.shape[1:3], augment.size, augment.jitter, generator)
    top, left, height, width = box
    # Drawn even when it is not used, so that ``flip`` changes nothing but the flip.
    mirrored = bool(generator.random() < 0.5) and augment.flip
    clip = _tensor(frames)[:, top : top + height, left : left + width]
    clip = resize(clip, augment.size, augment.size, augment.interpolation)
    if mirrored:
        clip = clip.flip(2)
        if clip.shape[-1] == 2:
            clip = negate_flow(clip)
    clip = clip.contiguous()
    if augment.randaug:
        clip = RandAugment.parse(augment.randaug)(clip, generator)
    if augment.color_jitter:
        clip = color_jitter(clip, augment.color_jitter, generator)
    if augment.grayscale:
        clip = random_grayscale(clip, augment.grayscale, generator)
    if augment.erasing:
        clip = random_erasing(clip, augment.erasing, generator)
    return clip, Cut(box, mirrored)


def eval_crops(
    frames: np.ndarray,
    *,
    size: int,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bicubic",
    crops: Literal[1, 3] = 1,
) -> Tensor:
    """The crops a clip is tested on, cut from frames that are resized once.

    Args:
        frames: uint8 (T, H, W, C), RGB or optical flow; not changed.
        size: side of the result in pixels.
        crop_pct: side of a single crop over the short side it is cut from, in (0, 1].
        interpolation: how frames are resized, with antialiasing.
        crops: 1 resizes the short side to ``size / crop_pct`` and takes the center; 3 resizes it
            to ``size`` and takes left, center and right (top, center and bottom of a portrait).

    Returns:
        uint8 (crops, T, size, size, C). A single crop is a view of the resized frames.
    """
    if crops not in (1, 3):
        raise ValueError(f"crops is 1 or 3, not {crops}")
    short = round(size / crop_pct) if crops == 1 else size
    height, width = frames.shape[1:3]
    if height <= width:
        height, width = short, short * width // height
    else:
        height, width = short * height // width, short
    clip = resize(_tensor(frames), height, width, interpolation)
    # 0, 1/2 and 1 of the free way; with three crops only the long side has any.
    places = (0.5,) if crops == 1 else (0.0, 0.5, 1.0)
    views = []
    for place in places:
        top, left = round(place * (height - size)), round(place * (width - size))
        views.append(clip[:, top : top + size, left : left + size])
    return views[0][None] if crops == 1 else torch.stack(views)


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


def _jittered_box(
    shape: tuple[int, ...], size: int, jitter: tuple[int, int], generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height, width of the square that becomes ``size`` when the short side does.

    Cropping whole pixels first and resizing only these is resizing all and cropping then, to less
    than a pixel of the video.
    """
    height, width = shape
    short = int(generator.integers(jitter[0], jitter[1] + 1))
    side = max(round(size / short * min(height, width)), 1)
    top, left = generator.integers(height - side + 1), generator.integers(width - side + 1)
    return int(top), int(left), side, side


def negate_flow(flow: Tensor) -> Tensor:
    """Optical flow with its horizontal part reversed: uint8 (..., 2), a copy."""
    flow = flow.clone()
    # The byte that a resize may make of overshoot, 0, is beyond the largest motion to the left.
    flow[..., 0] = (2 * STILL - flow[..., 0].to(torch.int16)).clamp_(max=255).to(torch.uint8)
    return flow


def _tensor(frames: np.ndarray) -> Tensor:
    """The same memory as a tensor, unless it is in another order."""
    return torch.from_numpy(np.ascontiguousarray(frames))


def resize(clip: Tensor, height: int, width: int, interpolation: Interpolation) -> Tensor:
    """uint8 (T, H, W, C) to (T, height, width, C), both channels last in memory."""
    if clip.shape[1:3] == (height, width):
        return clip
    # A view of the same memory with the strides of channels_last, for which torch has fast kernels.
    planes = clip.permute(0, 3, 1, 2)
    resized = F.interpolate(
        planes, size=(height, width), mode=interpolation, align_corners=False, antialias=True
    )
    return resized.permute(0, 2, 3, 1)
