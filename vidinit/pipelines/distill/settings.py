"""Settings of distillation, and image teachers as they are named on a command line.

``NAME[=FILE][,key=value...]``: a short name or a timm name, local weights, settings of its own.
Parsing imports nothing heavy.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from ...config.base import TrainRunConfig
from ...config.contradictions import Contradiction, classes_without_labels
from ...config.section import Section
from ...errors import UsageError, suggest
from ...zoo.images.teacher_names import TEACHERS, NamedTeacher
from .objective_text import USUAL_MASK, Hide, parse_target

LossName = Literal["ce", "mse", "cosine", "smooth-l1"]
LOSSES: dict[str, tuple[LossName, ...]] = {
    "logits": ("ce", "mse"),
    "features": ("cosine", "smooth-l1"),
}
"""Losses by what the teacher gives; the first is the usual one."""


LOOKED_AT = 64
"""Clips that the report of a distillation looks at, at most."""

Share = Annotated[float, Field(gt=0, le=1)]


class DistillSection(Section):
    """Teachers and targets (DistInit, ICCV 2019)."""

    teachers: list[str] = Field(default_factory=lambda: ["imagenet"], min_length=1)
    """NAME[=FILE][,key=value...]: short or timm names, local weights, settings of one teacher."""
    target: str | None = None
    """What is learned: logits, tokens (maps of the frames), masked; or logits:1,tokens:0.5."""
    picks: int | str = 1
    """Frames of a clip that teachers see: center, random, random:K, uniform:K, all; K: random:K."""
    view: Literal["clip", "frame"] = "clip"
    """Teachers see the student's crop (of a frame of the clip, the paper's), or their own of it."""
    size: Annotated[int, Field(ge=16)] | Literal["own", "crop"] = "own"
    """Pixels of what a teacher sees: own is what it was trained on, crop the student's crop."""
    temperature: float = Field(1.0, gt=0)
    """Of teacher and student softmax."""
    max_entropy: float | None = Field(None, ge=0)
    """Clips of which a teacher's softmax has more entropy, in nats, do not count for it."""
    keep: Share | Annotated[list[Share], Field(min_length=1)] | None = None
    """Share of the clips that shall count; max_entropy is estimated. Several: a run of each."""
    normalize: Literal["batch", "kept"] = "batch"
    """Divisor of the sum of losses: the batch (the paper), or the clips that count."""
    estimate_on: int = Field(4096, ge=2)
    """Clips of the first pass, which estimates keep and standardize=whiten."""
    cache: str | None = None
    """Folder where teachers' outputs for frames are kept; with view=frame."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of the teachers; auto: fp16 on a GPU, else fp32."""
    tokens_loss: Literal["smooth-l1", "cosine"] = "smooth-l1"
    """Of target tokens: Huber's loss with delta 1, or 1 - cosine, at each position."""
    tokens_standardize: Literal["layernorm", "whiten", "none"] = "layernorm"
    """Applied to a teacher's maps before they are targets."""
    teacher_every: int = Field(1, ge=1)
    """Of target tokens: the teacher sees one of so many frames."""
    hide: str = "none"
    """Frames that the student does not see: none, future[:K], past[:K], random[:K]; 3 of 8."""
    hidden_weight: float | None = Field(None, gt=0, le=1)
    """Share of hidden frames in the loss of tokens; default: two thirds."""
    mask: float | None = Field(None, gt=0, lt=1)
    """Share of the patches that target masked takes from a ViT student; default: 0.8."""
    mask_by: Literal["auto", "attention", "random"] = "auto"
    """Seen patches are drawn by the teacher's attention, if it has a class token, or evenly."""
    mask_levels: int = Field(6, ge=1)
    """Last blocks of teacher and student that target masked compares."""
    temporal_anchor: float = Field(0.0, ge=0)
    """Penalty a in a/2 |w - w_start|^2 of temporal kernels w; 0 for none."""
    norms: Literal["train", "frozen"] = "train"
    """Of the student: frozen keeps statistics as they are; `train.precise_bn` renews them then."""
    hold_out: int = Field(0, ge=0)
    """Videos that are not trained on, for the report; with 0 it shows some that are."""

    @property
    def targets(self) -> dict[str, float]:
        """Weights by objective."""
        if self.target is None:
            return {"logits": 1.0} if self.mask is None else {"masked": 1.0}
        return parse_target(self.target)

    @property
    def mask_share(self) -> float:
        """Of the patches that ``masked`` takes away."""
        return USUAL_MASK if self.mask is None else self.mask

    @field_validator("target")
    @classmethod
    def _known_target(cls, value: str | None) -> str | None:
        try:
            value is None or parse_target(value)
        except ValueError as error:
            raise PydanticCustomError("told", "{why}", {"why": str(error)}) from error
        return value

    @field_validator("hide")
    @classmethod
    def _known_hide(cls, value: str) -> str:
        try:
            Hide.parse(value)
        except ValueError as error:
            raise PydanticCustomError("told", "{why}", {"why": str(error)}) from error
        return value

    @property
    def one_keep(self) -> float | None:
        """`keep` in one of the runs of a set."""
        if isinstance(self.keep, list):
            raise RuntimeError("several distill.keep have not been taken apart")
        return self.keep

    @field_validator("keep", mode="before")
    @classmethod
    def _several_shares(cls, value: object) -> object:
        """``0.3,0.5`` is a list; what is wrong with one of several is told in a sentence."""
        several = value.split(",") if isinstance(value, str) and "," in value else value
        for share in several if isinstance(several, list) else ():
            try:
                right = 0 < float(share) <= 1
            except (TypeError, ValueError):
                right = False
            if not right:
                raise PydanticCustomError("told", f"shares are above 0 and up to 1, not '{share}'")
        return several

    @field_validator("picks")
    @classmethod
    def _known_picks(cls, value: int | str) -> int | str:
        """Checked here, used by `vidinit.data.views.Picks`, which needs numpy."""
        if not re.fullmatch(r"center|all|random|((random|uniform):)?[1-9]\d*", str(value)):
            raise PydanticCustomError(
                "told", "input should be center, random, random:K, uniform:K, all or a number"
            )
        return value


class DistillConfig(TrainRunConfig):
    """Configuration of `vidinit distill`; `model` is the student, `data.train` the videos."""

    command: ClassVar[str] = "distill"

    model: str = "r2plus1d-18"
    distill: DistillSection = Field(default_factory=DistillSection)

    def own_contradictions(self) -> Iterator[Contradiction]:
        """Settings of labels, which a distillation does not read, and of other objectives."""
        yield from classes_without_labels(self.data, self.train)
        yield from _other_objectives(self.distill)
        if self.distill.temporal_anchor and not self.train.temporal_lr_scale:
            keys = "distill.temporal_anchor", "train.temporal_lr_scale"
            yield keys, "train.temporal_lr_scale=0 holds the temporal kernels: nothing to anchor"
        yield from super().own_contradictions()

    def next_command(self, out: str) -> str:
        """Fine-tune what was distilled."""
        return shlex.join(["vidinit", "finetune", out, "--data", "LABELED_VIDEOS"])


def _other_objectives(section: DistillSection) -> Iterator[Contradiction]:
    """Settings of objectives that are not learned, and what does not go together."""
    targets = section.targets
    named = f"distill.target={section.target}"
    if section.mask is not None and "masked" not in targets:
        text = f"distill.mask={section.mask:g} is for the target masked, and there is {named}"
        yield ("distill.mask", "distill.target"), text
    if section.hide != "none" and "tokens" not in targets:
        text = (
            f"distill.hide={section.hide} needs distill.target=tokens: only its loss tells frames"
        )
        yield ("distill.hide", "distill.target"), f"{text} apart"
    if section.hide != "none" and "masked" in targets:
        text = f"distill.hide={section.hide} and the target masked both hide something"
        yield ("distill.hide", "distill.target"), text
    if section.hidden_weight is not None and section.hide == "none":
        text = "distill.hidden_weight weighs hidden frames, and distill.hide=none hides none"
        yield ("distill.hidden_weight", "distill.hide"), text
    if section.teacher_every > 1 and "tokens" not in targets:
        text = f"distill.teacher_every={section.teacher_every} is for distill.target=tokens"
        yield ("distill.teacher_every", "distill.target"), text
    if "logits" not in targets:
        for key in ("keep", "max_entropy"):
            if getattr(section, key) is not None:
                text = f"distill.{key} goes by class logits, which {named} does not learn"
                yield (f"distill.{key}", "distill.target"), text


class TeacherSettings(Section):
    """One teacher; None stands for the setting of all teachers, or as the teacher was published."""

    model: str
    """Short name, timm name, ``hf-hub:`` or ``local-dir:`` reference."""
    file: str | None = None
    """Local weights."""
    name: str
    """Of its head and its loss; default: that of the model."""
    output: Literal["logits", "features"] | None = None
    """Its class logits, or its pooled embedding."""
    loss: Literal["ce", "mse", "cosine", "smooth-l1"] | None = None
    """ce or mse on logits, cosine or smooth-l1 on features."""
    standardize: Literal["layernorm", "whiten", "none"] | None = None
    """Applied to features before they are targets; default: layernorm."""
    weight: float = Field(1.0, gt=0)
    """Factor of its loss."""
    temperature: float | None = Field(None, gt=0)
    """As `distill.temperature`."""
    view: Literal["clip", "frame"] | None = None
    """As `distill.view`."""
    size: int | Literal["own", "crop"] | None = None
    """As `distill.size`."""
    max_entropy: float | None = Field(None, ge=0)
    """As `distill.max_entropy`."""
    keep: float | None = Field(None, gt=0, le=1)
    """As `distill.keep`."""
    pixels: Literal["imagenet", "half", "clip"] | None = None
    """Its pixel statistics, of weights that do not tell them."""

    @property
    def named(self) -> NamedTeacher | None:
        """The short name's entry."""
        return TEACHERS.get(self.model)


def parse_teacher(text: str) -> TeacherSettings:
    """``NAME[=FILE][,key=value...]`` as settings.

    Raises:
        UsageError: for another form, an unknown key or a wrong value.
    """
    first, *rest = text.split(",")
    model, equals, file = first.partition("=")
    if not model or (equals and not file):
        raise UsageError(f"'{text}' is no teacher", "write NAME, NAME=FILE, or NAME,view=frame")
    values: dict[str, Any] = {"model": model, "name": model, "file": file or None}
    known = [key for key in TeacherSettings.model_fields if key not in ("model", "file")]
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or key not in known:
            raise UsageError(
                f"unknown setting '{part}' of teacher '{model}'",
                suggest(key, known) or f"settings are {', '.join(known)}",
            )
        values[key] = value
    try:
        return TeacherSettings.model_validate(values)
    except ValidationError as error:
        wrong = error.errors()[0]
        key, message = str(wrong["loc"][0]), wrong["msg"][0].lower() + wrong["msg"][1:]
        raise UsageError(f"{key} of teacher '{model}': {message}, not '{values[key]}'") from error


def parse_teachers(section: DistillSection) -> list[TeacherSettings]:
    """All teachers, in the one order that does not depend on how they were given: by name.

    Raises:
        UsageError: settings that contradict each other, or a file that is not there.
    """
    teachers = sorted(map(parse_teacher, section.teachers), key=lambda one: one.name)
    names = [teacher.name for teacher in teachers]
    for teacher in teachers:
        if names.count(teacher.name) > 1:
            raise UsageError(
                f"two teachers are called '{teacher.name}'",
                "name each once, or add name=OTHER to one of them",
            )
        _check(teacher, section)
    if section.keep is not None and section.max_entropy is not None:
        raise UsageError("distill.keep and distill.max_entropy are both given", "pass one of them")
    return teachers


def _check(teacher: TeacherSettings, section: DistillSection) -> None:
    name, named = f"teacher '{teacher.name}'", teacher.named
    if teacher.file is not None and not Path(teacher.file).is_file():
        raise UsageError(f"no such weights file: {teacher.file}", "check the path in --teacher")
    if named is not None and named.needs_file and teacher.file is None:
        raise UsageError(
            f"{name} has no weights to load by name", f"pass --teacher {teacher.model}=FILE"
        )
    output = teacher.output or (named.output if named else None)
    if named is not None and (named.output, teacher.output) == ("features", "logits"):
        raise UsageError(f"{name} gives features and has no class logits", "leave output out")
    for key in ("max_entropy", "keep", "temperature"):
        if output == "features" and getattr(teacher, key) is not None:
            raise UsageError(f"{name} gives features: {key} is for class logits", f"drop {key}")
    if output == "logits" and teacher.standardize is not None:
        raise UsageError(f"{name} gives logits: standardize is for features", "drop standardize")
    if teacher.keep is not None and teacher.max_entropy is not None:
        raise UsageError(f"{name} has both keep and max_entropy", "give one of them")
    if output is not None:
        check_loss(teacher, output)
    if section.cache is not None and (teacher.view or section.view) == "clip":
        raise UsageError(
            f"{name} sees the student's crops, which do not come again: nothing can be cached",
            "add distill.view=frame, or leave --cache out",
        )


def check_loss(teacher: TeacherSettings, output: str) -> None:
    """Raise UsageError where a teacher's loss is not one for what it gives."""
    fitting = LOSSES[output]
    if teacher.loss is not None and teacher.loss not in fitting:
        other = "features" if output == "logits" else "logits"
        raise UsageError(
            f"teacher '{teacher.name}' gives {output}: loss={teacher.loss} is for {other}",
            f"use loss={fitting[0]} or loss={fitting[1]}, or output={other}",
        )
