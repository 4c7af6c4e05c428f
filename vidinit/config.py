"""Typed run configuration: every setting, its default, its range, and what it means.

The text under each field is its help. `vidinit.configure` fills these classes from presets, files,
overrides and flags.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are checked when set."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class DataConfig(Section):
    """What is read, and how a clip is cut from it."""

    train: str | None = None
    """Folder per class, folder with train/ and val/, or a list file of `path label` lines."""
    val: str | None = None
    """Validation data in the same forms; default: val/ beside train/, else a split of train."""
    val_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of each class held out when there is no validation data."""
    frames: int | None = Field(None, ge=1)
    """Frames of a clip; default: the model's."""
    stride: int | None = Field(None, ge=1)
    """Video frames from one clip frame to the next; default: the model's."""
    size: int | None = Field(None, ge=16)
    """Side of the square crop in pixels; default: the model's."""
    batch_size: int = Field(8, ge=1)
    """Clips per process and step."""
    workers: int | None = Field(None, ge=0)
    """Decoding processes per training process; default: one less than the cores, at most 8."""
    start: Literal["random", "center"] = "random"
    """Where a training clip begins in its video."""
    min_area: float = Field(0.25, gt=0, le=1)
    """Smallest share of the frame that a random crop covers; 1 takes the whole frame."""
    crop_pct: float | None = Field(None, gt=0, le=1)
    """Crop side over short side at test time; default: the model's."""
    flip: bool = True
    """Mirror half of the training clips; switch off where left and right are classes."""
    max_bad: float = Field(0.05, ge=0, le=1)
    """Share of unreadable files above which a run refuses to start."""


class TrainConfig(Section):
    """How the weights are changed."""

    epochs: int = Field(10, ge=1)
    """Passes over the training data."""
    lr: float = Field(0.01, gt=0)
    """Peak learning rate."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum 0.9, or AdamW."""
    weight_decay: float = Field(1e-4, ge=0)
    """On weights of kernels and matrices; never on biases and norms."""
    warmup_epochs: float = Field(0.0, ge=0)
    """Linear warm-up from zero."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Cosine to zero, divided by ten every `step_epochs`, or constant."""
    step_epochs: int = Field(10, ge=1)
    """Epochs between two divisions of schedule `step`."""
    head_lr_scale: float = Field(1.0, gt=0)
    """Learning rate of the head over that of the trunk."""
    temporal_lr_scale: float = Field(1.0, gt=0)
    """Learning rate of temporal kernels over that of the rest of the trunk."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target spread over all classes."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Before the head."""
    clip_grad: float | None = Field(None, gt=0)
    """Largest norm of the gradient; default: not clipped."""
    freeze: Literal["none", "trunk"] = "none"
    """Train everything, or only the head on a frozen trunk (in eval mode)."""
    seed: int = Field(0, ge=0)
    """Of weights, order, clips and crops."""
    log_every: int = Field(10, ge=1)
    """Steps between two lines of metrics.jsonl."""
    select: Literal["best", "last"] = "best"
    """Whose weights the model folder gets: the best epoch on validation, or the last."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more compute."""


class EvalConfig(Section):
    """How a video is scored."""

    every: int = Field(1, ge=0)
    """Epochs between two evaluations while training; 0 for none."""
    clips: int = Field(1, ge=1)
    """Clips spread over a video; their softmax outputs are averaged."""
    crops: Literal[1, 3] = 1
    """Crops of each clip: the center, or left, center and right."""


class DistillSection(Section):
    """Teachers and targets (DistInit, ICCV 2019)."""

    teachers: list[str] = Field(default_factory=lambda: ["imagenet"], min_length=1)
    """Short names, timm names, or NAME=FILE with local weights."""
    picks: int = Field(1, ge=1)
    """Random frames of the clip whose teacher logits are averaged."""
    temperature: float = Field(1.0, gt=0)
    """Of teacher and student softmax."""


class SourceConfig(Section):
    """One data set of a co-training."""

    name: str
    """Of its head and its metrics."""
    data: str
    """Folder or list, as `data.train`."""
    val: str | None = None
    """Validation data; default: as for `data.val`."""
    kind: Literal["video", "image"] = "video"
    """Images are clips of one frame."""
    frames: int | None = Field(None, ge=1)
    """Frames of a clip; default: the model's, 1 for images."""
    batch_size: int | None = Field(None, ge=1)
    """Default: `data.batch_size`, times the clip's frames for images (equal cost)."""
    share: float | None = Field(None, gt=0)
    """Share of the steps, 0 to 1; default: what is left, by the steps it would take alone."""
    flip: bool = True
    """Mirror half of its clips."""


class RunConfig(Section):
    """What all configured commands share."""

    model: str
    """Zoo name, model folder or run folder."""
    out: str | None = None
    """Folder to write; default: runs/<command>-<model>-<n>."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the forward pass; weights stay float32."""
    data: DataConfig = Field(default_factory=DataConfig)


class TrainRunConfig(RunConfig):
    """What all training commands share."""

    train: TrainConfig = Field(default_factory=TrainConfig)


class EvaluateConfig(RunConfig):
    """Configuration of `vidinit eval`; `data.val`, else `data.train`, is what is scored."""

    eval: EvalConfig = Field(default_factory=EvalConfig)
    head: str | None = None
    """Which head of a co-trained model; default: the primary source's."""
    seed: int = Field(0, ge=0)
    """Of the random weights of a zoo name."""


class FinetuneConfig(TrainRunConfig):
    """Configuration of `vidinit finetune`."""

    eval: EvalConfig = Field(default_factory=EvalConfig)


class DistillConfig(TrainRunConfig):
    """Configuration of `vidinit distill`; `model` is the student, `data.train` the videos."""

    model: str = "r2plus1d-18"
    distill: DistillSection = Field(default_factory=DistillSection)


class CotrainConfig(TrainRunConfig):
    """Configuration of `vidinit cotrain`; the first source is the primary one."""

    eval: EvalConfig = Field(default_factory=EvalConfig)
    sources: list[SourceConfig] = Field(default_factory=list)


COMMANDS: dict[str, type[RunConfig]] = {
    "cotrain": CotrainConfig,
    "distill": DistillConfig,
    "eval": EvaluateConfig,
    "finetune": FinetuneConfig,
}
