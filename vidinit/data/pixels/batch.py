"""Changes of a whole batch on the device: normalization, mixup and cutmix.

Clips are bytes until here: a quarter of the memory and of the way to the device. With their
channels last, the normalized batch is in channels_last_3d memory without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# How often cutmix is taken where mixup is on too.
_SWITCH = 0.5


def normalize(
    clip: Tensor, mean: Sequence[float], std: Sequence[float], *, bgr: bool = False
) -> Tensor:
    """Pixels as a model wants them: ``(x / 255 - mean) / std``, colors before time.

    Args:
        clip: uint8 (..., T, H, W, 3), on any device.
        mean: per channel, of values in [0, 1].
        std: per channel, of values in [0, 1].
        bgr: put the channels in reverse order, as a network wants them that was trained on frames
            of OpenCV; ``mean`` and ``std`` are in the order of ``clip``.

    Returns:
        float32 (..., 3, T, H, W) in the order of memory of ``clip``: for (B, T, H, W, 3) that is
        torch.channels_last_3d, and folding time into the batch gives torch.channels_last.
    """
    if bgr:
        clip, mean, std = clip.flip(-1), mean[::-1], std[::-1]
    width, channels = clip.shape[-2:]
    # Whole rows at a time: a loop over three numbers inside all others takes twice as long.
    scaled_mean = (torch.tensor(mean, device=clip.device) * 255).repeat(width)
    scaled_std = (torch.tensor(std, device=clip.device) * 255).repeat(width)
    rows = clip.flatten(-2).to(torch.float32).sub_(scaled_mean).div_(scaled_std)
    return rows.unflatten(-1, (width, channels)).movedim(-1, -4)


def mix(
    clip: Tensor,
    target: Tensor,
    *,
    mixup: float,
    cutmix: float,
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Mix each clip of a batch with the one that mirrors it, the first with the last and so on.

    Mixup (https://arxiv.org/abs/1710.09412) adds ``1 - lam`` of the other clip, with lam drawn
    from Beta(mixup, mixup). Cutmix (https://arxiv.org/abs/1905.04899) pastes a box of the other
    clip, the same box in every frame: its sides are sqrt(1 - lam) of those of the frame, its center
    is uniform, what lies outside of the frame is cut off, and lam becomes the share of the frame
    that is left. One draw decides for the whole batch; with both on, each is as likely. Of an odd
    number of clips, the one in the middle stays as it is.

    Args:
        clip: float (B, 3, T, H, W).
        target: shares of the classes, float (B, classes).
        mixup: alpha of mixup; 0 for none.
        cutmix: alpha of cutmix; 0 for none.
        generator: the only source of randomness.

    Returns:
        New clips and targets, of the same shapes; the given ones if both alphas are 0.
    """
    if not mixup and not cutmix:
        return clip, target
    pasting = cutmix > 0 and (mixup <= 0 or generator.random() < _SWITCH)
    alpha = cutmix if pasting else mixup
    lam = float(generator.beta(alpha, alpha))
    if pasting:
        height, width = clip.shape[-2:]
        top, bottom, left, right = _box(height, width, lam, generator)
        lam = 1 - (bottom - top) * (right - left) / (height * width)
        clip = clip.clone()
        box = clip[..., top:bottom, left:right]
        box.copy_(box.flip(0))
    else:
        clip = torch.lerp(clip.flip(0), clip, lam)
    return clip, target * lam + target.flip(0) * (1 - lam)


def _box(
    height: int, width: int, lam: float, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of a box of about ``1 - lam`` of the area, inside the frame."""
    sides = [int(length * (1 - lam) ** 0.5) for length in (height, width)]
    edges = []
    for side, length in zip(sides, (height, width), strict=True):
        center = int(generator.integers(length))
        edges += [max(center - side // 2, 0), min(center + (side + 1) // 2, length)]
    top, bottom, left, right = edges
    return top, bottom, left, right
