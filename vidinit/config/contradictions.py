"""Settings that are right each by itself and wrong together, of all trainings.

What is wrong is told as the keys that contradict each other, and how, as a sentence without a full
stop. A command's own contradictions stand beside its settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from .data import DataConfig
from .scoring import EvalConfig
from .train import TrainConfig

Contradiction = tuple[tuple[str, ...], str]
"""The keys that contradict each other, and how."""


def colors_of_flow(data: DataConfig) -> Iterator[Contradiction]:
    """Changes of color, where optical flow is seen, which has none."""
    if data.modality == "flow":
        for name in data.recolored:
            text = f"data.{name} is for RGB, and data.modality=flow has no colors"
            yield (f"data.{name}", "data.modality"), text


def patience_without_evaluations(
    train: TrainConfig, evaluations: EvalConfig | None
) -> Iterator[Contradiction]:
    """``train.patience`` where nothing is evaluated; ``evaluations`` is None if nothing can be."""
    if train.patience is None:
        return
    counts = f"train.patience={train.patience} counts evaluations"
    if evaluations is None:
        yield ("train.patience",), f"{counts}, and this command makes none"
    elif evaluations.every == 0:
        yield ("train.patience", "eval.every"), f"{counts}, and eval.every=0 makes none"


def synced_norms_out_of_reach(train: TrainConfig) -> Iterator[Contradiction]:
    """Norms that are synced inside what is compiled or computed again."""
    for name in ("compile", "checkpointing"):
        if train.sync_bn and getattr(train, name):
            text = f"train.sync_bn does not work with train.{name}"
            yield ("train.sync_bn", f"train.{name}"), text


def schedule_out_of_order(train: TrainConfig) -> Iterator[Contradiction]:
    """Rates, warmup and steps of the learning rate that cannot follow one another."""
    for name in ("min_lr", "warmup_lr"):
        rate = getattr(train, name)
        if rate > train.lr:
            keys = f"train.{name}", "train.lr"
            yield keys, f"train.{name}={rate:g} is above train.lr={train.lr:g}, the peak"
    if train.warmup_epochs > train.epochs:
        text = f"train.warmup_epochs={train.warmup_epochs:g} is more than train.epochs"
        yield ("train.warmup_epochs", "train.epochs"), f"{text}={train.epochs}"
    shown = "train.lr_steps=[" + ", ".join(f"{step:g}" for step in train.lr_steps) + "]"
    if any(later <= earlier for earlier, later in pairwise([0.0, *train.lr_steps])):
        yield ("train.lr_steps",), f"{shown} must ascend from above 0"
    if any(step > train.epochs for step in train.lr_steps):
        yield ("train.lr_steps", "train.epochs"), f"{shown} goes beyond train.epochs={train.epochs}"


def classes_evened_out_twice(data: DataConfig, train: TrainConfig) -> Iterator[Contradiction]:
    """Classes drawn equally often, and weighed by how often they are not."""
    if data.balance == "classes" and train.class_weights == "auto":
        text = "data.balance=classes draws rare classes as often as others, so that"
        keys = "data.balance", "train.class_weights"
        yield keys, f"{text} train.class_weights=auto would count them too much"


def classes_without_labels(data: DataConfig, train: TrainConfig) -> Iterator[Contradiction]:
    """Classes evened out by a training that reads no labels."""
    if data.balance != "none":
        yield ("data.balance",), f"data.balance={data.balance} goes by labels, which are not read"
    if train.class_weights != "none":
        text = f"train.class_weights={train.class_weights} are for a loss of labels"
        yield ("train.class_weights",), f"{text}, which are not read"
