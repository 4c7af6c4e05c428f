"""Weight rules as pure tensor functions, with what is known about their exactness.

A rule is exact when a clip of one repeated frame gets the image network's logits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def inflate_center(weight: Tensor, shape: torch.Size) -> Tensor:
    """The middle tap is the image kernel, the others are zero. Exact for any zero padding in time.

    Args:
        weight: (O, I, k, k).
        shape: of the result, (O, I, t, k, k), or (O, I, t, 1) for a pointwise kernel.
    """
    out = torch.zeros(shape, dtype=weight.dtype)
    out[:, :, shape[2] // 2] = weight.reshape(shape[:2] + shape[3:])
    return out


def inflate_mean(weight: Tensor, shape: torch.Size) -> Tensor:
    """Every tap is the image kernel over t (I3D). With zero padding in time it is not exact.

    A constant clip gets 2/3 of the response at its first and last frame (t = 3), and each further
    layer carries that one frame inwards.

    Args:
        weight: (O, I, k, k).
        shape: of the result, (O, I, t, k, k), or (O, I, t, 1) for a pointwise kernel.
    """
    taps = shape[2]
    kernel = weight.reshape(shape[:2] + shape[3:]).unsqueeze(2) / taps
    return kernel.expand(shape).clone()


def inflate_sts(weight: Tensor, shape: torch.Size) -> Tensor:
    """Taps of 1/9, 1/3 and 1/9 of the image kernel, as STS starts on Something-Something V2.

    The ``inflate`` of the authors' code (Li et al., ECCV 2022). The taps sum to 5/9, so nothing is
    exact: a constant clip gets 5/9 of the response, 4/9 at its first and last frame, and the static
    half of an STS kernel blurs a line of pixels. Kernels of another length than 3 are left alone
    there: the middle tap has the image kernel.

    Args:
        weight: (O, I, k, k).
        shape: of the result, (O, I, t, k, k), or (O, I, t, 1) for a pointwise kernel.
    """
    out = inflate_center(weight, shape)
    if shape[2] == 3:
        middle = out[:, :, 1].clone()
        out[:, :, 0], out[:, :, 1], out[:, :, 2] = middle / 9, middle / 3, middle / 9
    return out


INFLATIONS = {"center": inflate_center, "mean": inflate_mean, "sts": inflate_sts}
"""Rules by name: how an image kernel becomes one with taps in time."""


def widen(weight: Tensor, shape: torch.Size) -> Tensor:
    """Zeros for the inputs a video layer has beyond the image layer's. Exact, and they can learn.

    Args:
        weight: (O, I, ...).
        shape: of the result, (O, I', ...) with I' >= I; other shapes give the weight back as it is.
    """
    fits = weight.dim() == len(shape) > 1 and weight.shape[0] == shape[0]
    if not fits or weight.shape[1] >= shape[1] or weight.shape[2:] != shape[2:]:
        return weight
    out = torch.zeros(shape, dtype=weight.dtype)
    out[:, : weight.shape[1]] = weight
    return out


def dirac(shape: torch.Size, groups: int) -> Tensor:
    """The identity as a temporal kernel (O, I/groups, t, 1): one at the middle tap. Exact."""
    out = torch.zeros(shape)
    per_group = shape[0] // groups
    for o in range(shape[0]):
        out[o, o % per_group, shape[2] // 2] = 1.0
    return out


def unit_gain(shape: torch.Size, eps: float) -> Tensor:
    """Scale sqrt(1 + eps): a batch norm with mean 0, variance 1 and shift 0 that passes its input.

    With a scale of 1 and eps 1e-3 every such layer would lose 0.05 % of the signal.
    """
    return torch.full(shape, math.sqrt(1.0 + eps), dtype=torch.float64)
