"""DistInit: a video student learns what frozen image teachers say of single frames.

Girdhar et al., "DistInit: Learning Video Representations Without a Single Labeled Video", ICCV
2019. For a clip with picked frames F, a teacher with logits z gives the target

    q = softmax( mean over F of z(x_t) / tau ),

and the student, through a linear head of its own per teacher, minimizes -sum_c q_c log p_c; the
losses of several teachers are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..zoo.base import VideoModel
from .heads import Heads
from .task import Task


@dataclass
class Teacher:
    """A frozen image classifier.

    Attributes:
        name: of its head and its loss.
        model: takes normalized images (N, 3, H, W), returns logits (N, classes).
        mean, std: its pixel statistics.
        classes: names of its logits, or None.
    """

    name: str
    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: list[str] | None = None

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    @property
    def num_classes(self) -> int:
        """Number of its logits."""
        return int(self.model.num_classes)  # type: ignore[arg-type]


def soft_cross_entropy(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over the batch of -sum_c q_c log softmax(logits / tau)_c.

    Args:
        logits: (B, C).
        target: probabilities q, (B, C).
        temperature: tau.
    """
    return -(target * F.log_softmax(logits / temperature, dim=1)).sum(dim=1).mean()


class DistillTask(Task):
    """One soft cross-entropy per teacher.

    Args:
        student: its head becomes the first teacher's, the others get heads of their own.
        teachers: kept out of the module's parameters, in eval mode, without gradients.
        temperature: tau, for teacher and student.
    """

    def __init__(
        self, student: VideoModel, teachers: list[Teacher], *, temperature: float = 1.0
    ) -> None:
        super().__init__(student)
        # A student converted from its first teacher keeps that teacher's classifier as its head.
        self.heads = Heads(student, {teacher.name: teacher.num_classes for teacher in teachers})
        student.classes = teachers[0].classes
        self._teachers = list(teachers)  # a list, so that nn.Module does not adopt them
        self.temperature = temperature

    @torch.no_grad()
    def targets(self, clip: Tensor, picks: Tensor, teacher: Teacher) -> Tensor:
        """Teacher probabilities (B, C) of the picked frames.

        Args:
            clip: (B, 3, T, H, W), normalized for the student.
            picks: (B, K) frame positions.
            teacher: whose statistics the frames are normalized to.
        """
        b, k = picks.shape
        frames = clip.permute(0, 2, 1, 3, 4)  # (B, T, 3, H, W)
        chosen = frames[torch.arange(b, device=clip.device)[:, None], picks].flatten(0, 1)
        images = _renormalize(chosen, self.model.spec, teacher)
        images = images.contiguous(memory_format=torch.channels_last)
        logits = teacher.model(images).float().unflatten(0, (b, k)).mean(dim=1)
        return F.softmax(logits / self.temperature, dim=1)

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """A loss per teacher, of a batch with ``clip`` (B, 3, T, H, W) and ``picks`` (B, K)."""
        clip = batch["clip"]
        embedding = self.model.embed(clip)
        losses = {}
        for teacher in self._teachers:
            target = self.targets(clip, batch["picks"], teacher)
            logits = self.heads.logits(self.model, embedding, teacher.name)
            losses[teacher.name] = soft_cross_entropy(logits.float(), target, self.temperature)
        return losses

    def move_teachers(self, device: torch.device) -> None:
        """Bring the teachers to the device of the student."""
        for teacher in self._teachers:
            teacher.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _renormalize(images: Tensor, spec: Any, teacher: Teacher) -> Tensor:
    """From the student's pixel statistics to the teacher's."""
    if tuple(spec.mean) == tuple(teacher.mean) and tuple(spec.std) == tuple(teacher.std):
        return images

    def column(values: tuple[float, ...]) -> Tensor:
        return images.new_tensor(values).view(1, 3, 1, 1)

    rgb = images * column(spec.std) + column(spec.mean)
    return (rgb - column(teacher.mean)) / column(teacher.std)
