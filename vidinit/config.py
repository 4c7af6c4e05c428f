"""Typed run configuration: every setting, its default, its range, and what it means.

The text under each field is its help. `vidinit.configure` fills these classes from presets, files,
overrides and flags.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are checked when set."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class DataConfig(Section):
    """What is read, and how a clip is cut from it."""

    train: str | list[str] | None = None
    """A folder per class, a folder with train/ and val/, a list, tar shards; several are joined."""
    val: str | list[str] | None = None
    """Validation data in the same forms; default: val/ beside train/, else a split of train."""
    val_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of each class held out when there is no validation data."""
    root: str | None = None
    """Folder that the paths of a list are relative to; default: the folder of the list."""
    class_names: str | None = None
    """File with the class names in order, one a line, or as json or csv with ids."""
    split: int = Field(1, ge=1)
    """Which official split of UCF101 and HMDB51."""
    shots: int | None = Field(None, ge=1)
    """Train on this many clips of each class, chosen by train.seed; default: on all."""
    frames: int | None = Field(None, ge=1)
    """Frames of a clip; default: the model's."""
    stride: int | None = Field(None, ge=1)
    """Video frames from one clip frame to the next; default: the model's."""
    sampling: Literal["dense", "uniform", "all"] | None = None
    """Neighboring frames, one of each of equal segments (TSN), or all; default: the model's."""
    short: Literal["loop", "hold"] | None = None
    """A video shorter than a clip starts again, or its last frame is held; default: the model's."""
    size: int | None = Field(None, ge=16)
    """Side of the square crop in pixels; default: the model's."""
    batch_size: int = Field(8, ge=1)
    """Clips per process and step."""
    repeats: int = Field(1, ge=1)
    """Clips that are cut from one video at a time, augmented each on its own."""
    workers: int | None = Field(None, ge=0)
    """Decoding processes per training process; default: one less than the cores, 1 to 8."""
    deadline: float = Field(60.0, gt=0)
    """Seconds after which a decoder that gives no answer is killed and its file left out."""
    reader: Literal["auto", "decord", "pyav", "torchcodec"] = "auto"
    """What decodes; auto takes the fastest that is exact for the file."""
    decode_side: int | None = Field(None, ge=16)
    """Short side of the frames out of the decoder, in pixels; default: as the video is."""
    start: Literal["random", "center"] = "random"
    """Where a training clip begins in its video."""
    min_area: float = Field(0.25, gt=0, le=1)
    """Smallest share of the frame that a random crop covers; 1 takes the whole frame."""
    jitter: tuple[int, int] | None = None
    """Resize the short side to between these pixels and crop; default: crops by area."""
    crop_pct: float | None = Field(None, gt=0, le=1)
    """Crop side over short side at test time; default: the model's."""
    flip: bool | Literal["auto"] = "auto"
    """Mirror half of the training clips; auto: unless a class is named after left or right."""
    randaug: str = ""
    """RandAugment in timm's words, as rand-m7-n4-mstd0.5-inc1; empty for none."""
    color_jitter: float = Field(0.0, ge=0)
    """Largest change of brightness, contrast and saturation, as a share."""
    grayscale: float = Field(0.0, ge=0, le=1)
    """Share of the training clips without color."""
    erasing: float = Field(0.0, ge=0, le=1)
    """Share of the training clips of which a box is erased, the same in all frames."""
    mixup: float = Field(0.0, ge=0)
    """Alpha of mixup; 0 for none."""
    cutmix: float = Field(0.0, ge=0)
    """Alpha of cutmix; 0 for none. With both, each batch gets one of them."""
    max_bad: float = Field(0.05, ge=0, le=1)
    """Share of unreadable files above which a run refuses to start: 0.05, or 5%."""

    @field_validator("max_bad", mode="before")
    @classmethod
    def _percent(cls, value: object) -> object:
        if isinstance(value, str) and value.strip().endswith("%"):
            try:
                return float(value.strip()[:-1]) / 100
            except ValueError:
                return value
        return value


class TrainConfig(Section):
    """How the weights are changed."""

    epochs: int = Field(10, ge=1)
    """Passes over the training data."""
    lr: float = Field(0.01, gt=0)
    """Peak learning rate."""
    lr_batch: int | None = Field(None, ge=1)
    """Clips of a step that `lr` is meant for; it is scaled to the real number. Default: not."""
    optimizer: Literal["sgd", "adamw", "lamb"] = "sgd"
    """SGD with momentum, AdamW, or LAMB."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of SGD."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW and LAMB."""
    weight_decay: float = Field(1e-4, ge=0)
    """On weights of kernels and matrices."""
    decay_all: bool = False
    """Weight decay on biases, norms, tokens and position embeddings, too."""
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Learning rate of a layer over that of the next one; default: all alike."""
    head_lr_scale: float = Field(1.0, gt=0)
    """Learning rate of the head over that of the trunk."""
    temporal_lr_scale: float = Field(1.0, gt=0)
    """Learning rate of temporal kernels over that of the rest of the trunk."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Cosine to `min_lr`, multiplied by `lr_gamma` at each of `lr_steps`, or constant."""
    min_lr: float = Field(0.0, ge=0)
    """Where the cosine ends."""
    step_epochs: int = Field(10, ge=1)
    """Epochs between two steps of schedule `step`, where `lr_steps` are not given."""
    lr_steps: list[float] = Field(default_factory=list)
    """Epochs of the steps of schedule `step`."""
    lr_gamma: float = Field(0.1, gt=0, le=1)
    """Factor of each step of schedule `step`."""
    by_epoch: bool = False
    """Change the rate once an epoch instead of each step, but for the warm-up."""
    warmup_epochs: float = Field(0.0, ge=0)
    """Linear warm-up."""
    warmup_lr: float = Field(0.0, ge=0)
    """Where the warm-up begins."""
    loss: Literal["ce", "bce"] = "ce"
    """Cross-entropy over the classes, or a binary one of each class."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target spread over all classes."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Before the head."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Share of the clips for which the last residual branch is left out; earlier ones less."""
    clip_grad: float | None = Field(None, gt=0)
    """Largest norm of the gradient; default: not clipped."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients make one step."""
    freeze: Literal["none", "trunk"] | list[str] = "none"
    """Train everything, only the head on a frozen trunk, or all but these names (`stem*`)."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of the weights, which is then what is saved; 0 for none."""
    precise_bn: int = Field(0, ge=0)
    """Batches from which norms' statistics are taken anew before each evaluation; 0 for none."""
    patience: int | None = Field(None, ge=1)
    """Evaluations without a better one after which the run ends; default: it goes on."""
    seed: int = Field(0, ge=0)
    """Of weights, order, clips and crops."""
    log_every: int = Field(10, ge=1)
    """Steps between two lines of metrics.jsonl."""
    select: Literal["best", "last"] = "best"
    """Whose weights the model folder gets: the best epoch on validation, or the last."""
    save_steps: int | None = Field(None, ge=1)
    """Steps between two checkpoints inside an epoch; default: none."""
    save_minutes: float | None = Field(None, gt=0)
    """Minutes between two checkpoints inside an epoch; default: none."""
    keep: int = Field(2, ge=1)
    """Checkpoints that are kept, beside the best."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more compute."""
    compile: bool = False
    """torch.compile the trunk."""
    trackers: list[Literal["tensorboard", "wandb"]] = Field(default_factory=list)
    """Where metrics go beside metrics.jsonl."""


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
    root: str | None = None
    """As `data.root`."""
    class_names: str | None = None
    """As `data.class_names`."""
    kind: Literal["video", "image"] = "video"
    """Images are clips of one frame."""
    frames: int | None = Field(None, ge=1)
    """Frames of a clip; default: the model's, 1 for images."""
    batch_size: int | None = Field(None, ge=1)
    """Default: `data.batch_size`, times the clip's frames for images (equal cost)."""
    share: float | None = Field(None, gt=0)
    """Share of the steps, 0 to 1; default: what is left, by the steps it would take alone."""
    flip: bool | Literal["auto"] = "auto"
    """Mirror half of its clips; auto: unless a class is named after left or right."""
    sampling: Literal["dense", "uniform", "all"] | None = None
    """As `data.sampling`; default: that one."""


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
