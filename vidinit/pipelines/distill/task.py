"""DistInit: a video student learns the outputs of frozen image teachers for single frames.

Girdhar et al., "DistInit: Learning Video Representations Without a Single Labeled Video", ICCV
2019. For a clip with picked frames F, a teacher with logits z gives the target

    q = softmax( mean over F of z(x_t) / tau ),

and the student, through a linear head of its own per teacher, minimizes -sum_c q_c log p_c; the
losses of several teachers are added. `targets` has the other losses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...data.loading.teacher_frames import CROPS
from ...data.pixels.batch import normalize
from ...engine.task import Task
from ...zoo.base import VideoModel
from ...zoo.spec import IMAGENET, ClipSpec
from ..shared.heads import Heads
from .teachers import SideStream, Teacher


class DistillTask(Task):
    """One loss per teacher.

    Args:
        student: its head becomes the first teacher's, the others get heads of their own.
        teachers: kept out of the module's parameters, in eval mode, without gradients.
    """

    def __init__(self, student: VideoModel, teachers: list[Teacher]) -> None:
        super().__init__(student)
        # A student converted from its first teacher keeps that teacher's classifier as its head.
        self.heads = Heads(student, {teacher.name: teacher.width for teacher in teachers})
        student.classes = teachers[0].classes
        self._teachers = list(teachers)  # a list, so that nn.Module does not adopt them
        self._side = SideStream()

    @torch.no_grad()
    def teacher_outputs(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The mean of each teacher's outputs for the picked frames of each clip: (B, width).

        Args:
            batch: ``clip`` (B, C, T, H, W), normalized for the student, and the
                entries that `data.loading.teacher_frames.TeacherFrames` and `teacher_cache` add.
        """
        b, k = batch["picks"].shape
        crops = None
        outputs = {}
        for teacher in self._teachers:
            if teacher.view is not None:
                values = _of_frames(teacher, batch)
            else:
                crops = crops or _crops(batch, self.model.spec)
                values = teacher.of_crops(*crops)
            outputs[teacher.name] = values.unflatten(0, (b, k)).mean(dim=1)
        return outputs

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """A loss per teacher, of a batch as `teacher_outputs` takes it."""
        with self._side(batch["clip"].device):
            outputs = self.teacher_outputs(batch)
        embedding = self.model.embed(batch["clip"])
        self._side.join(list(outputs.values()))
        return {
            teacher.name: teacher.objective(
                self.heads.logits(self.model, embedding, teacher.name), outputs[teacher.name]
            )
            for teacher in self._teachers
        }

    def frozen_networks(self) -> list[nn.Module]:
        """The teachers' networks."""
        return [teacher.model for teacher in self._teachers]

    def move_teachers(self, device: torch.device) -> None:
        """Bring the teachers to the device of the student."""
        for teacher in self._teachers:
            teacher.to(device)


def _crops(batch: dict[str, Any], spec: ClipSpec) -> tuple[Tensor, ClipSpec]:
    """The picked frames as the student sees them, (B * K, 3, H, W), and their pixel statistics."""
    if CROPS in batch:  # the student sees something else than RGB
        images = batch[CROPS].flatten(0, 1)
        return normalize(images[:, None], IMAGENET.mean, IMAGENET.std)[:, :, 0], IMAGENET
    clip, picks = batch["clip"], batch["picks"]
    frames = clip.permute(0, 2, 1, 3, 4)  # (B, T, 3, H, W)
    if spec.channels == "bgr":  # teachers see RGB in any case
        frames = frames.flip(2)
    rows = torch.arange(len(picks), device=clip.device)[:, None]
    return frames[rows, picks].flatten(0, 1), spec


def _of_frames(teacher: Teacher, batch: dict[str, Any]) -> Tensor:
    """Outputs (B * K, width) for whole frames; with a cache only missing ones are computed."""
    assert teacher.view is not None
    images = batch[teacher.view.key]
    cached = batch.get(f"known/{teacher.name}")
    if cached is None:
        return teacher.of_bytes(images.flatten(0, 1))
    return cached.complete(teacher, images)
