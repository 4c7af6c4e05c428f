"""Settings of training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from .probe_text import named_probes
from .section import Section


class TrainConfig(Section):
    """Optimization of the weights."""

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
    temporal_lr_scale: float = Field(1.0, ge=0)
    """Learning rate of temporal kernels over that of the rest of the trunk; 0 holds them."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Cosine to `min_lr`, multiplied by `lr_gamma` at each of `lr_steps`, or constant."""
    min_lr: float = Field(0.0, ge=0)
    """Learning rate at the end of the cosine."""
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
    """Learning rate at the begin of the warm-up."""
    loss: Literal["ce", "bce"] = "ce"
    """Cross-entropy over the classes, or a binary one of each class."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target spread over all classes."""
    class_weights: str = "none"
    """Of the classes in the loss: none, auto (by inverse frequency), or a file of name: weight."""
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
    probes: list[str] = Field(default_factory=list)
    """On a frozen trunk: `ridge`, or `linear`, `attentive:lr=1e-3|3e-4`; the best one is saved."""
    probe_holdout: float = Field(0.1, ge=0, lt=1)
    """Share of the training clips that one of several probes is chosen on; 0 saves the first."""
    feature_cache: str | None = None
    """Folder that keeps what a frozen trunk gives probes of each clip, so that it is run once."""
    feature_views: int | None = Field(None, ge=1)
    """Epochs with clips of their own, which then come again; default: 1 with `feature_cache`."""
    feature_precision: Literal["fp32", "fp16"] = "fp32"
    """Of what a frozen trunk gives probes, in a run and in its cache: fp16 takes half the room."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of the weights, which is then what is saved; 0 for none."""
    precise_bn: int = Field(0, ge=0)
    """Batches from which norms' statistics are taken anew before each evaluation; 0 for none."""
    sync_bn: bool = False
    """Batch norms normalize over the batches of all processes, not each over its own."""
    patience: int | None = Field(None, ge=1)
    """Evaluations without a better one after which the run ends; default: it goes on."""
    seed: int = Field(0, ge=0)
    """Of weights, order, clips and crops."""
    log_every: int = Field(10, ge=1)
    """Steps between two lines of metrics.jsonl."""
    select: Literal["best", "last"] = "best"
    """Whose weights the model folder gets: the best evaluated epoch, if any, or the last."""
    save_steps: int | None = Field(None, ge=1)
    """Steps between two checkpoints inside an epoch; default: none."""
    save_minutes: float | None = Field(None, gt=0)
    """Minutes between two checkpoints inside an epoch; default: none."""
    keep: int = Field(2, ge=1)
    """Checkpoints that are kept, beside the best."""
    tap_cache: str | None = None
    """Folder that keeps what the tower of `dist` or `side4video` makes of unaugmented clips."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more compute."""
    compile: bool = False
    """torch.compile the trunk."""
    trackers: list[Literal["tensorboard", "wandb"]] = Field(default_factory=list)
    """Services that get the metrics, beside metrics.jsonl."""

    @field_validator("probes")
    @classmethod
    def _known_probes(cls, value: list[str]) -> list[str]:
        try:
            named_probes(value)
        except ValueError as error:
            raise PydanticCustomError("told", "{why}", {"why": str(error)}) from error
        return value
