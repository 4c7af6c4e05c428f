"""The objectives of a run, from its settings."""

from __future__ import annotations

from collections.abc import Sequence

from ....errors import UsageError
from ....zoo.base import VideoModel
from ..objective_text import Hide
from ..settings import DistillSection
from ..teachers import Teacher
from .base import DistillObjective
from .grids import frames_seen
from .masked import MaskedObjective, patches_of
from .tokens import TokensObjective

_HIDDEN_WEIGHT = 2 / 3


def patches_wanted(section: DistillSection, student: VideoModel) -> int | None:
    """Patches of a row that teachers should have to match the student's; None: they may differ.

    Raises:
        UsageError: patches are to be taken from a student that cannot miss any.
    """
    return patches_of(student) if "masked" in section.targets else None


def check_student(section: DistillSection, student: VideoModel) -> None:
    """Raise UsageError where a student's clips do not suit the objectives."""
    frames, targets = student.spec.frames, section.targets
    if student.spec.flow is not None and targets.keys() != {"logits"}:
        raise UsageError(
            "a student of optical flow learns distill.target=logits alone: maps of the frames are "
            "compared with what it sees",
            "leave distill.target out, or data.modality=flow",
        )
    hidden = Hide.parse(section.hide).number(frames)
    if hidden >= frames:
        raise UsageError(
            f"distill.hide={section.hide} hides all of the clip's {frames} frames",
            "hide fewer, or raise data.frames",
        )
    every = section.teacher_every
    if every > frames:
        raise UsageError(
            f"distill.teacher_every={every} is more than the clip's {frames} frames",
            "lower it, or raise data.frames",
        )
    numbers = frames_seen(frames, every)
    if hidden and section.hide.startswith(("future", "past")):
        shown = frames - hidden
        inside = numbers >= shown if section.hide.startswith("future") else numbers < hidden
        if not inside.any():
            raise UsageError(
                f"distill.teacher_every={every} tells nothing of the frames that "
                f"distill.hide={section.hide} hides",
                "hide more frames, or let teachers see more",
            )


def make_objectives(
    section: DistillSection, student: VideoModel, teachers: Sequence[Teacher]
) -> list[DistillObjective]:
    """The objectives of a student beside the outputs of its teachers, in order.

    Raises:
        UsageError: student or teachers do not suit an objective.
    """
    targets = section.targets
    found: list[DistillObjective] = []
    if "tokens" in targets:
        found.append(
            TokensObjective(
                student,
                teachers,
                loss=section.tokens_loss,
                standardize=section.tokens_standardize,
                every=section.teacher_every,
                hidden_weight=section.hidden_weight or _HIDDEN_WEIGHT,
                weight=targets["tokens"],
            )
        )
    if "masked" in targets:
        found.append(
            MaskedObjective(
                student,
                teachers,
                share=section.mask_share,
                by=section.mask_by,
                levels=section.mask_levels,
                weight=targets["masked"],
            )
        )
    return found
