"""DistInit's objective: the outputs of image teachers for some frames of the clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..settings import LOSSES
from ..teachers import Teacher
from .base import Answers, DistillObjective, StudentPass


class LogitsObjective(DistillObjective):
    """One loss per teacher, through a head of its own: see `targets.Objective`.

    Args:
        teachers: each has its loss.
        outputs: from a batch to the mean of each teacher's outputs for the picked frames,
            (B, width) by name.
        weight: factor of all losses.
    """

    name = "logits"

    def __init__(
        self,
        teachers: Sequence[Teacher],
        outputs: Callable[[dict[str, Any]], Answers],
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self._teachers = list(teachers)  # a list, so that nn.Module does not adopt them
        self._outputs = outputs

    def ask(self, batch: dict[str, Any]) -> Answers:
        """The mean of each teacher's outputs for the picked frames, (B, width)."""
        return self._outputs(batch)

    def forward(self, seen: StudentPass, answers: Answers) -> dict[str, Tensor]:
        """A loss per teacher, under its name."""
        losses = {
            teacher.name: teacher.objective(seen.logits(teacher.name), answers[teacher.name])
            for teacher in self._teachers
        }
        if self.weight == 1.0:
            return losses
        return {name: self.weight * loss for name, loss in losses.items()}

    @torch.no_grad()
    def agreement(self, seen: StudentPass, answers: Answers) -> dict[str, Tensor]:
        """Of class logits: 1 where both name the same class first; of features the cosine."""
        found = {}
        for teacher in self._teachers:
            own, other = seen.logits(teacher.name).float(), answers[teacher.name].float()
            if teacher.objective.loss in LOSSES["features"]:
                target = teacher.objective.target(other)
                found[f"{teacher.name}: features"] = torch.cosine_similarity(own, target, dim=1)
            else:
                found[f"{teacher.name}: first class"] = (own.argmax(1) == other.argmax(1)).float()
        return found
