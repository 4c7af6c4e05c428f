"""Frames and patches that are hidden from a student: counted, not drawn.

Which frames of a clip are hidden, and the numbers that draw its patches, are functions of (seed,
epoch, row, repeat): processes, workers and interruptions change nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....data.views import HIDE, MASK, rng
from ..objective_text import Hide
from .base import HIDDEN
from .masked import NOISE


@dataclass(frozen=True)
class Counted:
    """Adds to a batch, on its device, what is hidden of its clips.

    Attributes:
        on_device: what happens to a batch there otherwise; see `engine.job.Job`.
        seed: of the run.
        frames: T of a clip.
        repeats: clips of a row in a batch, neighbors.
        hide: which frames the student does not see.
        patches: N of a frame, where patches are taken away; 0 where none are.
    """

    on_device: Callable[[dict[str, Any], int, int], dict[str, Any]]
    seed: int
    frames: int
    repeats: int = 1
    hide: Hide = field(default_factory=Hide)
    patches: int = 0

    def __call__(self, batch: dict[str, Any], epoch: int, step: int) -> dict[str, Any]:
        """As `Job.on_device`; with `HIDDEN` and `masked.NOISE` where they are wanted."""
        ready = self.on_device(batch, epoch, step)
        device = ready["clip"].device
        rows = batch["index"].tolist()
        keys = [(row, place % self.repeats) for place, row in enumerate(rows)]
        if self.hide.kind != "none":
            ready[HIDDEN] = torch.stack([self.hidden(epoch, *key) for key in keys]).to(device)
        if self.patches:
            ready[NOISE] = torch.stack([self.noise(epoch, *key) for key in keys]).to(device)
        return ready

    def hidden(self, epoch: int, row: int, repeat: int) -> Tensor:
        """The frames of a clip that are hidden, bool (T,)."""
        count = self.hide.number(self.frames)
        found = np.zeros(self.frames, dtype=bool)
        if self.hide.kind == "future":
            found[self.frames - count :] = True
        elif self.hide.kind == "past":
            found[:count] = True
        else:
            generator = rng(self.seed, epoch, row, stream=HIDE + (repeat << 32))
            found[generator.choice(self.frames, count, replace=False)] = True
        return torch.from_numpy(found)

    def noise(self, epoch: int, row: int, repeat: int) -> Tensor:
        """Exponentially distributed numbers of the patches of a clip, float32 (T, N)."""
        generator = rng(self.seed, epoch, row, stream=MASK + (repeat << 32))
        drawn = generator.standard_exponential((self.frames, self.patches))
        return torch.from_numpy(drawn).float().clamp_(min=1e-12)
