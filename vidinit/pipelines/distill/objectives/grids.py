"""A teacher's maps of frames brought to the grid of a student: its time steps, rows and columns."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ....data.views import Picks


def frames_seen(frames: int, every: int) -> np.ndarray:
    """The frames of a clip that a teacher of one in ``every`` sees: the centers of equal parts."""
    picks = Picks("uniform", max(1, frames // every))
    return picks.of(frames, np.random.default_rng(0))  # uniform ones are not drawn


def steps_of(numbers: np.ndarray, frames: int, steps: int) -> Tensor:
    """Which time step of the student each frame lies in, as weights of a mean.

    Args:
        numbers: of the frames in the clip, (F,).
        frames: T of the clip.
        steps: T' of the student's maps: step s shows frames s * T / T' to (s + 1) * T / T'.

    Returns:
        float32 (T', F); rows add up to 1, and to 0 where no frame lies in a step.
    """
    step = torch.from_numpy(np.asarray(numbers)) * steps // frames
    inside = (torch.arange(steps)[:, None] == step[None]).float()
    return inside / inside.sum(1, keepdim=True).clamp(min=1)


def match_grid(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Maps (B, T, h, w, C) at another grid, (B, T, rows, columns, C).

    Averaged where the grid gets coarser, interpolated (bilinear) where it gets finer.
    """
    if maps.shape[2:4] == (rows, columns):
        return maps
    flat = maps.flatten(0, 1).permute(0, 3, 1, 2)
    if rows <= maps.shape[2] and columns <= maps.shape[3]:
        flat = F.adaptive_avg_pool2d(flat, (rows, columns))
    else:
        flat = F.interpolate(flat, (rows, columns), mode="bilinear", align_corners=False)
    return flat.permute(0, 2, 3, 1).unflatten(0, maps.shape[:2])


def cut_grid(maps: Tensor, cuts: Tensor, rows: int, columns: int) -> Tensor:
    """The part of the maps of whole frames that a crop shows.

    Each cell is the mean of 2 x 2 bilinear samples in its part of the crop (RoIAlign; He et al.,
    "Mask R-CNN", 2017).

    Args:
        maps: of whole frames, (B, T, h, w, C).
        cuts: of each clip, float (B, 5): top, left, bottom, right as fractions of the frame, and 1
            where the crop is mirrored.
        rows, columns: of the result.

    Returns:
        (B, T, rows, columns, C).
    """
    from torchvision.ops import roi_align

    b, t, h, w, _ = maps.shape
    top, left, bottom, right, mirrored = cuts.to(maps).unbind(1)
    boxes = torch.stack([left * w, top * h, right * w, bottom * h], 1).repeat_interleave(t, 0)
    numbers = torch.arange(b * t, device=maps.device, dtype=maps.dtype)[:, None]
    flat = maps.flatten(0, 1).permute(0, 3, 1, 2)
    found = roi_align(
        flat, torch.cat([numbers, boxes], 1), (rows, columns), sampling_ratio=2, aligned=True
    )
    found = found.permute(0, 2, 3, 1).unflatten(0, (b, t))
    return torch.where(mirrored.bool()[:, None, None, None, None], found.flip(3), found)
