"""DistInit: a video student learns the outputs of frozen image teachers for single frames.

Girdhar et al., "DistInit: Learning Video Representations Without a Single Labeled Video", ICCV
2019. For a clip with picked frames F, a teacher with logits z gives the target

    q = softmax( mean over F of z(x_t) / tau ),

and the student, through a linear head of its own per teacher, minimizes -sum_c q_c log p_c; the
losses of several teachers are added. `targets` has the other losses, `objectives` what else is
there to be learned of a teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...engine.task import Task
from ...zoo.base import VideoModel
from ...zoo.modify.freezing import hold_norms
from ..shared.heads import Heads
from .anchor import TemporalAnchor
from .objectives.base import DistillObjective, StudentPass
from .objectives.logits import LogitsObjective
from .teachers import SideStream, Teacher, crops_of

ONLY = "only"
"""In a batch: the name of the one objective that is computed, or `ALONE`; for measuring."""
ALONE = "student alone"
"""A step of the student that compares it with nothing."""


class DistillTask(Task):
    """One loss per teacher.

    Args:
        student: its head becomes the first teacher's, the others get heads of their own. Where
            no outputs are learned it stays what it is and is not trained.
        teachers: kept out of the module's parameters, in eval mode, without gradients.
        objectives: beside the outputs.
        logits: weight of the outputs; None: they are not learned.
        anchor: strength of `anchor.TemporalAnchor`; 0 for none.
        frozen_norms: batch norms keep, and normalize with, the statistics they have.
    """

    def __init__(
        self,
        student: VideoModel,
        teachers: Sequence[Teacher],
        objectives: Sequence[DistillObjective] = (),
        *,
        logits: float | None = 1.0,
        anchor: float = 0.0,
        frozen_norms: bool = False,
    ) -> None:
        super().__init__(student)
        self._teachers = list(teachers)  # a list, so that nn.Module does not adopt them
        self._side = SideStream()
        self._frozen_norms = frozen_norms
        self.heads: Heads | None = None
        learned = list(objectives)
        if logits is not None:
            # A student converted from its first teacher keeps that teacher's classifier as its
            # head.
            self.heads = Heads(student, {teacher.name: teacher.width for teacher in teachers})
            student.classes = teachers[0].classes
            learned.insert(0, LogitsObjective(teachers, self.teacher_outputs, logits))
        self.objectives = nn.ModuleDict({one.name: one for one in learned})
        self.anchor = TemporalAnchor(student, anchor) if anchor else None

    def train(self, mode: bool = True) -> DistillTask:
        """Train mode, but for norms that are frozen."""
        super().train(mode)
        if self._frozen_norms:
            hold_norms(self.model)
        return self

    def each(self) -> list[DistillObjective]:
        """The objectives."""
        return list(self.objectives.values())  # type: ignore[arg-type]

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
                crops = crops or crops_of(batch, self.model.spec, batch["picks"])
                values = teacher.of_crops(*crops)
            outputs[teacher.name] = values.unflatten(0, (b, k)).mean(dim=1)
        return outputs

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses by name, of a batch as `teacher_outputs` and the objectives take it."""
        only = batch.get(ONLY)
        learned = [one for one in self.each() if only in (None, one.name)]
        with self._side(batch["clip"].device):
            answers = [one.ask(batch) for one in learned]
        seen = self.student_pass(batch, learned)
        if only == ALONE:
            return {ALONE: 0 * seen.embedding.float().sum()}
        for one in learned:
            one.prepare(seen)
        self._side.join([value for each in answers for value in each.values()])
        losses: dict[str, Tensor] = {}
        for one, answer in zip(learned, answers, strict=True):
            losses |= one(seen, answer)
        if self.anchor is not None and only is None:
            losses["anchor"] = self.anchor(self.model)
        return losses

    def student_pass(
        self, batch: dict[str, Any], learned: Sequence[DistillObjective]
    ) -> StudentPass:
        """The student's pass over a batch, as these objectives read it."""
        tokens = any(one.reads_tokens for one in learned)
        return StudentPass(self.model, batch, self.heads, tokens=tokens)

    def frozen_networks(self) -> list[nn.Module]:
        """The teachers' networks."""
        return [teacher.model for teacher in self._teachers]

    def move_teachers(self, device: torch.device) -> None:
        """Bring the teachers to the device of the student."""
        for teacher in self._teachers:
            teacher.to(device)


def _of_frames(teacher: Teacher, batch: dict[str, Any]) -> Tensor:
    """Outputs (B * K, width) for whole frames; with a cache only missing ones are computed."""
    assert teacher.view is not None
    images = batch[teacher.view.key]
    cached = batch.get(f"known/{teacher.name}")
    if cached is None:
        return teacher.of_bytes(images.flatten(0, 1))
    return cached.complete(teacher.of_bytes, images)
