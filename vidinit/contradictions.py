"""Settings that are right each by itself and wrong together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from .config import CotrainConfig, FinetuneConfig, RunConfig, TrainConfig, TrainRunConfig


def contradictions(config: RunConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """What does not go together in a configuration whose values are all in range.

    ``train.select=best`` without evaluation is none: the last weights are then kept.

    Args:
        config: of any command.

    Yields:
        The keys that contradict each other, and how, as a sentence without a full stop.
    """
    if not isinstance(config, TrainRunConfig):
        return
    train = config.train
    yield from _schedule(train)
    yield from _synced(train)
    if config.data.modality == "flow":
        yield from _flow(config)
    if train.probes:
        yield from _probes(config)
    if train.patience is None:
        return
    counts = f"train.patience={train.patience} counts evaluations"
    if not isinstance(config, (FinetuneConfig, CotrainConfig)):
        yield ("train.patience",), f"{counts}, and this command makes none"
    elif config.eval.every == 0:
        yield ("train.patience", "eval.every"), f"{counts}, and eval.every=0 makes none"


def _probes(config: TrainRunConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """Probes keep the whole trunk as it is, and have nothing to do with one another."""
    train = config.train
    if not isinstance(config, FinetuneConfig):
        yield ("train.probes",), "train.probes are for vidinit finetune"
        return
    if isinstance(train.freeze, list):
        text = "train.probes freeze the whole trunk, train.freeze names parts of it"
        yield ("train.probes", "train.freeze"), text
    for name, off in (("drop_path", 0), ("precise_bn", 0), ("layer_decay", None)):
        if (value := getattr(train, name)) != off:
            text = f"train.{name}={value:g} is for a trunk that is trained, train.probes freeze it"
            yield ("train.probes", f"train.{name}"), text
    if train.compile and any(text.startswith("dist") for text in train.probes):
        text = "train.compile does not reach the outputs of blocks, which probe dist reads"
        yield ("train.probes", "train.compile"), text
    if config.text.model or config.text.file:
        yield ("train.probes", "text.model", "text.file"), "train.probes have heads of their own"
    if len(train.probes) == 1:
        return
    if train.clip_grad is not None:
        text = f"train.clip_grad={train.clip_grad:g} clips by the gradients of all train.probes"
        yield ("train.probes", "train.clip_grad"), f"{text}, which must not know of one another"
    if train.optimizer == "lamb":
        text = "train.optimizer=lamb goes by the gradients of all train.probes"
        yield ("train.probes", "train.optimizer"), f"{text}, which must not know of one another"


def _flow(config: TrainRunConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """Optical flow has no colors, and images have none of it."""
    for name in config.data.recolored:
        text = f"data.{name} is for RGB, and data.modality=flow has no colors"
        yield (f"data.{name}", "data.modality"), text
    if isinstance(config, CotrainConfig):
        for source in config.sources:
            if source.kind == "image":
                text = f"source '{source.name}' has images, and images have no optical flow"
                yield ("data.modality", "sources"), text


def _synced(train: TrainConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is compiled or computed again is out of the reach of `engine.synced_norms`."""
    for name in ("compile", "checkpointing"):
        if train.sync_bn and getattr(train, name):
            text = f"train.sync_bn does not work with train.{name}"
            yield ("train.sync_bn", f"train.{name}"), text


def _schedule(train: TrainConfig) -> Iterator[tuple[tuple[str, ...], str]]:
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
