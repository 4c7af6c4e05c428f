"""Normalizing and mixing clips on the device, where they arrive as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ...data.pixels.batch import mix, normalize
from ...data.views import MIX, rng


@dataclass(frozen=True)
class OnDevice:
    """Normalizes the clips of a batch and, where that is asked for, mixes them and their labels.

    Attributes:
        mean, std: pixel statistics of the model.
        bgr: it gets the colors in reverse order.
        mixup, cutmix: alphas; 0 for none.
        num_classes: of the labels that are mixed.
        label_smoothing: of hard labels, before they are mixed.
        seed: of the mixing, which is a function of (seed, epoch, step, rank).
        rank, world: number of this process, and of all.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    num_classes: int = 0
    label_smoothing: float = 0.0
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __call__(self, batch: dict[str, Any], epoch: int, step: int) -> dict[str, Any]:
        """The batch with ``clip`` float32 (B, 3, T, S, S), and ``target`` (B, C) if it is mixed.

        Args:
            batch: with ``clip`` uint8 (B, T, S, S, 3), on the device.
            epoch: number of the epoch.
            step: number of the step in the epoch, from 0.
        """
        clip = normalize(batch["clip"], self.mean, self.std, bgr=self.bgr)
        if not (self.mixup or self.cutmix):
            return {**batch, "clip": clip}
        # Counted, not drawn, so a resumed run mixes as the whole one; each process its own way.
        generator = rng(self.seed, epoch, step * self.world + self.rank, stream=MIX)
        target = soft_targets(batch["label"], self.num_classes, self.label_smoothing)
        clip, target = mix(clip, target, mixup=self.mixup, cutmix=self.cutmix, generator=generator)
        return {**batch, "clip": clip, "target": target}


def soft_targets(label: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Hard labels as soft targets: smoothing / C off, 1 - smoothing + smoothing / C on.

    This is what mixing takes: a mixture of such targets is smoothed as each of them is.

    Args:
        label: class ids, int64 (B,), or multi-hot, float (B, C).
        num_classes: C.
        smoothing: share of the target spread over all classes, 0 to 1.

    Returns:
        float32 (B, C).
    """
    hot = F.one_hot(label, num_classes).float() if label.dim() == 1 else label.float()
    return hot * (1 - smoothing) + smoothing / num_classes
