"""What each command is configured by."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from .cotrain import CotrainSection, SourceConfig
from .data import DataConfig
from .distill import DistillSection
from .scoring import EvalConfig, EvaluateSection, TextSection
from .section import Section
from .train import TrainConfig

DEFAULT = "default"
"""The place of a value that nobody has set."""


class RunConfig(Section):
    """What all configured commands share."""

    model: str
    """Zoo name, model folder or run folder."""
    out: str | None = None
    """Folder to write; default: runs/<command>-<model>-<n>."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the forward pass; weights stay float32. auto: bf16 on GPUs that are fast at it."""
    data: DataConfig = Field(default_factory=DataConfig)
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def origins(self) -> dict[str, str]:
        """Dotted key to the place where its value comes from; `DEFAULT` where it is not in it."""
        return self._origins

    def __eq__(self, other: object) -> bool:
        """Whether the settings are the same, wherever they come from."""
        return type(self) is type(other) and vars(self) == vars(other)


class TrainRunConfig(RunConfig):
    """What all training commands share."""

    init_from: str | None = None
    """Model, run or checkpoint folder whose weights MODEL starts with; the run itself is new."""
    train: TrainConfig = Field(default_factory=TrainConfig)

    @model_validator(mode="before")
    @classmethod
    def _model_of_its_weights(cls, values: Any) -> Any:
        """Where no network is named, it is that of the weights."""
        if isinstance(values, dict) and values.get("init_from") and "model" not in values:
            return {**values, "model": values["init_from"]}
        return values


class EvaluateConfig(RunConfig):
    """Configuration of `vidinit eval`; `data.val`, else `data.train`, is what is scored."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Of the forward pass; fp32 by default, so that scores are the same on all devices."""
    eval: EvaluateSection = Field(default_factory=EvaluateSection)
    predictions: str | None = None
    """Saved predictions, or the folder of an evaluation: scored again, and no model runs."""
    against: str | None = None
    """Saved predictions, or the folder of an evaluation, to compare with, video by video."""
    head: str | None = None
    """Which head of a co-trained model; default: the primary source's."""
    zero_shot: bool = False
    """Compare videos with text embeddings of the classes in place of the model's own head."""
    classes: str | list[str] | None = None
    """Of zero_shot: a file with the class names, or the names; default: the data's."""
    ensemble: float = Field(0.0, ge=0, le=1)
    """Of zero_shot with DiST: share of the image tower in the logits; the paper's code has 0.5."""
    text: TextSection = Field(default_factory=TextSection)
    seed: int = Field(0, ge=0)
    """Of the random weights of a zoo name, of shuffled frames, and of the bootstrap."""


class FinetuneConfig(TrainRunConfig):
    """Configuration of `vidinit finetune`."""

    source: str | None = None
    """Which source of a co-trained MODEL to go on with: its head, and by default its data."""
    eval: EvalConfig = Field(default_factory=EvalConfig)
    text: TextSection = Field(default_factory=TextSection)


class DistillConfig(TrainRunConfig):
    """Configuration of `vidinit distill`; `model` is the student, `data.train` the videos."""

    model: str = "r2plus1d-18"
    distill: DistillSection = Field(default_factory=DistillSection)


class CotrainConfig(TrainRunConfig):
    """Configuration of `vidinit cotrain`; the first source is the primary one."""

    eval: EvalConfig = Field(default_factory=EvalConfig)
    cotrain: CotrainSection = Field(default_factory=CotrainSection)
    sources: list[SourceConfig] = Field(default_factory=list)


COMMANDS: dict[str, type[RunConfig]] = {
    "cotrain": CotrainConfig,
    "distill": DistillConfig,
    "eval": EvaluateConfig,
    "finetune": FinetuneConfig,
}
