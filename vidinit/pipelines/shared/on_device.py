"""What happens to a batch once it is on the device: clips arrive there as the bytes they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...data.pixels.batch import mix, normalize
from ...data.views import MIX, rng
from .classify import targets


@dataclass(frozen=True)
class OnDevice:
    """Normalizes the clips of a batch and, where that is asked for, mixes them and their labels.

    Attributes:
        mean, std: pixel statistics of the model.
        mixup, cutmix: alphas; 0 for none.
        num_classes: of the labels that are mixed.
        label_smoothing: of hard labels, before they are mixed.
        seed: of the mixing, which is a function of (seed, epoch, step, rank).
        rank, world: which of how many processes this is.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
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
            epoch: which epoch.
            step: which step of the epoch, from 0.
        """
        clip = normalize(batch["clip"], self.mean, self.std)
        if not (self.mixup or self.cutmix):
            return {**batch, "clip": clip}
        generator = rng(self.seed, epoch, step * self.world + self.rank, stream=MIX)
        target = targets(batch["label"], self.num_classes, self.label_smoothing)
        clip, target = mix(clip, target, mixup=self.mixup, cutmix=self.cutmix, generator=generator)
        return {**batch, "clip": clip, "target": target}
