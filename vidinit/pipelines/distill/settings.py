"""Settings of distillation."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from ...config.base import TrainRunConfig
from ...config.section import Section


class DistillSection(Section):
    """Teachers and targets (DistInit, ICCV 2019)."""

    teachers: list[str] = Field(default_factory=lambda: ["imagenet"], min_length=1)
    """NAME[=FILE][,key=value...]: short or timm names, local weights, settings of one teacher."""
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
    keep: float | None = Field(None, gt=0, le=1)
    """Share of the clips that shall count; max_entropy is estimated in a first pass."""
    normalize: Literal["batch", "kept"] = "batch"
    """What the sum of losses is divided by: the batch (the paper), or the clips that count."""
    estimate_on: int = Field(4096, ge=2)
    """Clips of the first pass, which estimates keep and standardize=whiten."""
    cache: str | None = None
    """Folder where teachers' outputs for frames are kept; with view=frame."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """What teachers compute in; auto: fp16 on a GPU, else fp32."""

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
