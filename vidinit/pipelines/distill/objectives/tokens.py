"""Feature maps: the student's per time step learn a teacher's of the frames, seen and hidden.

With s the student's last maps, W a projection of its own (a 1 x 1 convolution, which starts as the
identity where widths agree and is thrown away afterwards) and m a teacher's last maps of the
frames, brought to the student's grid and standardized at each position, the loss of a clip is

    L = mean over positions of d( W s, m )

with d Huber's loss or 1 - cosine. Where frames are hidden from the student, hidden ones make up the
share ``hidden_weight`` of it and seen ones the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....data.loading.teacher_frames import CUTS
from ....zoo.base import VideoModel
from ....zoo.spec import ClipSpec
from ...shared.heads import module_keys
from ..targets import Whitening
from ..teachers import Teacher, crops_of
from .base import HIDDEN, Answers, DistillObjective, StudentPass
from .grids import cut_grid, frames_seen, match_grid, steps_of

_SAMPLED = 16  # positions of a clip from which a whitening is estimated


class TokensObjective(DistillObjective):
    """A loss per teacher, of maps.

    Args:
        student: gives the width of its maps.
        teachers: each has a projection of its own.
        loss: ``smooth-l1``: mean over channels of Huber's loss with delta 1. ``cosine``: 1 - cos.
        standardize: of a teacher's maps: ``layernorm`` (zero mean and unit variance over the
            channels of a position), ``whiten`` (over positions; see `targets.Whitening`) or
            ``none``.
        every: a teacher sees one of so many frames.
        hidden_weight: share of hidden frames in the loss of a clip.
        weight: factor of all losses.

    Attributes:
        whitening: by teacher, for ``whiten``; has to be estimated first.
    """

    name = "tokens"
    reads_tokens = True

    def __init__(
        self,
        student: VideoModel,
        teachers: Sequence[Teacher],
        *,
        loss: Literal["smooth-l1", "cosine"] = "smooth-l1",
        standardize: Literal["layernorm", "whiten", "none"] = "layernorm",
        every: int = 1,
        hidden_weight: float = 2 / 3,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self._teachers = list(teachers)
        self.loss, self.standardize = loss, standardize
        self.every, self.hidden_weight = every, hidden_weight
        self.whitening: dict[str, Whitening] = {}
        self._keys = module_keys(teacher.name for teacher in teachers)
        widths = {teacher.name: teacher.maps_shape[-1] for teacher in teachers}
        self.projections = nn.ModuleDict(
            {self._keys[name]: projection(student.num_features, widths[name]) for name in widths}
        )

    def numbers(self, spec: ClipSpec) -> Any:
        """Which frames of a clip teachers see, int64 (F,)."""
        return frames_seen(spec.frames, self.every)

    @torch.no_grad()
    def ask(self, batch: dict[str, Any]) -> Answers:
        """Each teacher's maps of the frames it sees, (B, F, h, w, C), by name."""
        found: Answers = {}
        for teacher in self._teachers:
            if teacher.whole is not None:
                found[teacher.name] = _of_frames(teacher, batch)
                continue
            clips, frames = batch["clip"].shape[0], batch["clip"].shape[2]
            numbers = torch.from_numpy(frames_seen(frames, self.every)).to(batch["clip"].device)
            crops = crops_of(batch, teacher.student, numbers.expand(clips, -1))
            found[teacher.name] = teacher.maps(teacher.sized(*crops)).unflatten(0, (clips, -1))
        return found

    def forward(self, seen: StudentPass, answers: Answers) -> dict[str, Tensor]:
        """A loss per teacher, as ``<teacher>/tokens``."""
        found = {}
        for name, own, target, steps in self._compared(seen, answers):
            if self.loss == "cosine":
                apart = 1 - F.cosine_similarity(own, target, dim=-1)
            else:
                apart = F.smooth_l1_loss(own, target, reduction="none").mean(-1)
            losses = self._per_clip(apart.mean(dim=(2, 3)), steps, seen.batch)
            found[f"{name}/tokens"] = self.weight * losses.mean()
        return found

    @torch.no_grad()
    def agreement(self, seen: StudentPass, answers: Answers) -> dict[str, Tensor]:
        """The cosine of the student's maps and the teacher's, of seen and of hidden frames."""
        found = {}
        for name, own, target, steps in self._compared(seen, answers):
            alike = F.cosine_similarity(own, target, dim=-1).mean(dim=(2, 3))  # (B, T')
            hidden = self._hidden(steps, seen.batch)
            for word, share in (("seen", 1 - hidden), ("hidden", hidden)):
                if share.sum():
                    found[f"{name}: maps of {word} frames"] = (alike * share).sum(1) / share.sum(1)
        return found

    def samples(self, answers: Answers) -> Answers:
        """Some positions of each teacher's maps, (N, C) by name, to estimate a whitening on."""
        found = {}
        for name, maps in answers.items():
            positions = maps.flatten(1, 3)
            step = max(1, positions.shape[1] // _SAMPLED)
            found[name] = positions[:, step // 2 :: step].flatten(0, 1)
        return found

    def _compared(self, seen: StudentPass, answers: Answers) -> Any:
        """Of each teacher: its name, the student's maps, the targets, and the weights of steps.

        Steps in which the teacher has seen no frame are left out.
        """
        maps = seen.maps
        frames = seen.batch["clip"].shape[2]
        for teacher in self._teachers:
            theirs = answers[teacher.name].float()
            steps = steps_of(frames_seen(frames, self.every), frames, maps.shape[1]).to(theirs)
            told = steps.sum(1) > 0
            steps = steps[told]
            if teacher.whole is not None:
                theirs = cut_grid(theirs, seen.batch[CUTS], *maps.shape[2:4])
            else:
                theirs = match_grid(theirs, *maps.shape[2:4])
            target = self._standardized(
                teacher.name, torch.einsum("sf,bfhwc->bshwc", steps, theirs)
            )
            own = self.projections[self._keys[teacher.name]](maps[:, told]).float()
            yield teacher.name, own, target, told

    def _standardized(self, name: str, maps: Tensor) -> Tensor:
        if self.standardize == "none":
            return maps
        if self.standardize == "layernorm":
            return F.layer_norm(maps, maps.shape[-1:])
        if name not in self.whitening:
            raise ValueError("the whitening has to be estimated first")
        return self.whitening[name](maps)

    def _hidden(self, told: Tensor, batch: dict[str, Any]) -> Tensor:
        """The share of hidden frames in each step that a teacher tells of, (B, steps)."""
        clips, frames = batch["clip"].shape[0], batch["clip"].shape[2]
        hidden = batch.get(HIDDEN)
        if hidden is None:
            return torch.zeros(clips, int(told.sum()), device=told.device)
        every = steps_of(torch.arange(frames).numpy(), frames, len(told)).to(told.device)
        return (hidden.float() @ every.T)[:, told]

    def _per_clip(self, losses: Tensor, told: Tensor, batch: dict[str, Any]) -> Tensor:
        """Losses of steps, (B, steps), to those of clips, (B,)."""
        hidden = self._hidden(told, batch)
        parts = []
        for share, weight in ((hidden, self.hidden_weight), (1 - hidden, 1 - self.hidden_weight)):
            total = share.sum(1)
            mean = (losses * share).sum(1) / total.clamp(min=1e-6)
            parts.append((mean, weight * (total > 0)))
        # A clip of which no hidden step, or no seen one, is told of counts like the others.
        whole = (parts[0][1] + parts[1][1]).clamp(min=1e-6)
        return (parts[0][0] * parts[0][1] + parts[1][0] * parts[1][1]) / whole


def projection(width: int, other: int) -> nn.Linear:
    """A 1 x 1 convolution on channels that lie last; the identity where the widths agree."""
    layer = nn.Linear(width, other)
    if width == other:
        nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _of_frames(teacher: Teacher, batch: dict[str, Any]) -> Tensor:
    """Maps of whole frames, (B, F, h, w, C); with a cache only missing ones are computed."""
    assert teacher.whole is not None
    images, clips = batch[teacher.whole.key], len(batch["clip"])
    cached = batch.get(f"known/{teacher.name}/maps")
    if cached is None:
        return teacher.maps_of_bytes(images.flatten(0, 1)).unflatten(0, (clips, -1))
    return cached.complete(teacher.maps_of_bytes, images).unflatten(0, (clips, -1))
