"""The operations of RandAugment and of the color jitter, on whole clips.

Each function takes a uint8 clip (T, H, W, 3) and a number, and returns a new clip like it; the
clip passed in is never changed. They compute what timm computes on a PIL image, with two intentions
of their own. A statistic (histogram, mean) is that of all frames together, so that every frame of
a clip is changed by the same rule: no flicker, and a still clip stays still. And geometry is
interpolated linearly, rounded to the nearest level.

torchvision's functions are not used: their gray is not PIL's fixed-point one and their blends and
statistics round otherwise, so color, contrast, sharpness and auto contrast are a level off in up to
a quarter of the pixels; rotations and shifts mix the fill into the border. Equalize, solarize and
brightness are equal to the bit, and take two to five times as long, as they work on float or int64
copies of the clip where a table of 256 levels does. Invert and posterize are one line either way.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# What comes into view from outside of the frame.
FILL = 128
_LEVELS = np.arange(256)


def auto_contrast(clip: Tensor, _: float) -> Tensor:
    """Stretch each channel from its darkest and brightest level to 0 and 255."""
    tables = []
    for counts in _histograms(clip):
        used = np.flatnonzero(counts)
        low, high = int(used[0]), int(used[-1])
        if low == high:
            tables.append(_LEVELS)
        else:
            scale = 255 / (high - low)
            tables.append((_LEVELS * scale - low * scale).astype(int))
    return _apply_tables(clip, *tables)


def equalize(clip: Tensor, _: float) -> Tensor:
    """Spread the levels of each channel so that about as many pixels have each."""
    tables = []
    for counts in _histograms(clip):
        # The brightest level is where the scale ends: its pixels need no room.
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        below = np.cumsum(counts) - counts
        tables.append(_LEVELS if step == 0 else (step // 2 + below) // step)
    return _apply_tables(clip, *tables)


def invert(clip: Tensor, _: float) -> Tensor:
    """A negative."""
    return 255 - clip


def posterize(clip: Tensor, bits: float) -> Tensor:
    """Keep the ``bits`` highest bits, 0 to 8."""
    return clip & (0xFF << (8 - int(bits)) & 0xFF)


def solarize(clip: Tensor, threshold: float) -> Tensor:
    """Invert the levels from ``threshold`` on, 0 to 256."""
    return _apply_tables(clip, np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS))


def solarize_add(clip: Tensor, amount: float) -> Tensor:
    """Brighten the levels below 128 by ``amount``, 0 to 128."""
    return _apply_tables(clip, np.where(_LEVELS < 128, _LEVELS + int(amount), _LEVELS))


def brightness(clip: Tensor, factor: float) -> Tensor:
    """From black (0) over the clip (1) to a brighter one (2)."""
    return _apply_tables(clip, _line(0, factor))


def contrast(clip: Tensor, factor: float) -> Tensor:
    """From plain gray of the mean luminance (0) over the clip (1) to more contrast (2)."""
    total = sum(int(_luminance(frame).sum()) for frame in clip)
    mean = int(total / clip[..., 0].numel() + 0.5)
    return _apply_tables(clip, _line(mean, factor))


def color(clip: Tensor, factor: float) -> Tensor:
    """From gray (0) over the clip (1) to stronger colors (2)."""
    return _map_frames(clip, lambda frame: _blend(_gray(frame), frame, factor))


def sharpness(clip: Tensor, factor: float) -> Tensor:
    """From smoothed by a 3 x 3 kernel (0) over the clip (1) to sharpened (2).

    The outermost pixels stay as they are.
    """
    return _map_frames(clip, lambda frame: _blend(_smooth(frame), frame, factor))


def grayscale(clip: Tensor) -> Tensor:
    """The luminance (ITU-R 601) in all three channels."""
    return _map_frames(clip, _gray)


def shear_x(clip: Tensor, factor: float) -> Tensor:
    """Move each row left by ``factor`` times its distance from the top."""
    return _affine(clip, (1, factor, 0), (0, 1, 0))


def shear_y(clip: Tensor, factor: float) -> Tensor:
    """Move each column up by ``factor`` times its distance from the left."""
    return _affine(clip, (1, 0, 0), (factor, 1, 0))


def translate_x(clip: Tensor, share: float) -> Tensor:
    """Move to the left by a share of the width."""
    return _affine(clip, (1, 0, share * clip.shape[2]), (0, 1, 0))


def translate_y(clip: Tensor, share: float) -> Tensor:
    """Move up by a share of the height."""
    return _affine(clip, (1, 0, 0), (0, 1, share * clip.shape[1]))


def rotate(clip: Tensor, degrees: float) -> Tensor:
    """Turn about the center, counterclockwise."""
    height, width = clip.shape[1:3]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return _affine(clip, (cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y))


OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Invert": invert,
    "Rotate": rotate,
    "Posterize": posterize,
    "Solarize": solarize,
    "SolarizeAdd": solarize_add,
    "Color": color,
    "Contrast": contrast,
    "Brightness": brightness,
    "Sharpness": sharpness,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateXRel": translate_x,
    "TranslateYRel": translate_y,
}
"""By timm's names; the second argument is a magnitude's argument (`augment.argument`)."""


def _histograms(clip: Tensor) -> np.ndarray:
    """Pixels of each level over all frames, int64 (3, 256)."""
    counts = [torch.bincount(channel.flatten(), minlength=256) for channel in clip.unbind(-1)]
    return torch.stack(counts).numpy()


def _map_frames(clip: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change one frame (H, W, 3) after the other, so that what comes in between stays in cache."""
    changed = torch.empty_like(clip)
    for frame, place in zip(clip, changed, strict=True):
        place.copy_(change(frame))
    return changed


def _apply_tables(clip: Tensor, *tables: np.ndarray) -> Tensor:
    """Replace each level by its entry in a table (256,) for all channels, or in one for each."""
    table = torch.from_numpy(np.stack(tables).clip(0, 255).astype(np.uint8)).flatten()
    firsts = torch.arange(0, len(table), 256, dtype=torch.int32).repeat(3 // len(tables))
    row = firsts.repeat(clip.shape[2])

    def replace_levels(frame: Tensor) -> Tensor:
        index = frame.flatten(-2) + row
        return table.index_select(0, index.flatten()).view(frame.shape)

    return _map_frames(clip, replace_levels)


def _line(base: int, factor: float) -> np.ndarray:
    """The table of a blend with one level, in single precision and cut off as PIL does it."""
    levels = _LEVELS.astype(np.float32)
    return (base + np.float32(factor) * (levels - base)).clip(0, 255).astype(int)


def _blend(base: Tensor, frame: Tensor, factor: float) -> Tensor:
    """``base`` (0) to ``frame`` (1) and beyond, cut off to whole levels as PIL does it; int16."""
    start = base.to(torch.float32)
    mixed = frame.to(torch.float32).sub_(start).mul_(factor).add_(start)
    # Over int16, which takes a fifth of the time of going to uint8 at once.
    return mixed.to(torch.int16).clamp_(0, 255)


def _luminance(frame: Tensor) -> Tensor:
    """int32 (H, W): 0.299 R + 0.587 G + 0.114 B in fixed point, as PIL has it."""
    red, green, blue = (channel.to(torch.int32) for channel in frame.unbind(-1))
    return red.mul_(19595).add_(green.mul_(38470)).add_(blue.mul_(7471)).add_(1 << 15) >> 16


def _gray(frame: Tensor) -> Tensor:
    """The luminance of each pixel in three channels."""
    return torch.stack([_luminance(frame).to(torch.uint8)] * 3, -1)


def _smooth(frame: Tensor) -> Tensor:
    """The mean of each pixel and its neighbors, the pixel itself counted five times."""
    levels = frame.to(torch.int16)
    rows = levels[:-2] + levels[1:-1] + levels[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * levels[1:-1, 1:-1]
    # Division by 13, rounded: exact for all totals to 3315, and four times as fast as dividing.
    levels[1:-1, 1:-1] = (total.to(torch.int32) + 6) * 20165 >> 18
    return levels


def _affine(
    clip: Tensor, to_x: tuple[float, float, float], to_y: tuple[float, float, float]
) -> Tensor:
    """Fill each pixel (x, y) from the place (to_x . (x, y, 1), to_y . (x, y, 1)) of the clip.

    Coordinates are those of pixel centers, (0.5, 0.5) at the top left.
    """
    height, width = clip.shape[1:3]
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    from_x = to_x[0] * x + to_x[1] * y + to_x[2]
    from_y = to_y[0] * x + to_y[1] * y + to_y[2]
    outside = (from_x < 0) | (from_x >= width) | (from_y < 0) | (from_y >= height)
    places = np.stack((2 * from_x / width - 1, 2 * from_y / height - 1), -1)
    grid, filled = torch.from_numpy(places)[None].to(torch.float32), torch.from_numpy(outside)

    def move(frame: Tensor) -> Tensor:
        image = frame.permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        moved = F.grid_sample(
            image[None], grid, mode="bilinear", padding_mode="border", align_corners=False
        )[0]
        levels = moved.add_(0.5).masked_fill_(filled, FILL).to(torch.int16)
        return torch.stack(levels.unbind(), -1)

    return _map_frames(clip, move)
