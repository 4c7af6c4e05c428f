"""A run up to its first step, which is taken and forgotten: nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...checkpoint import model_folder, read_card
from ...config import RunConfig, TrainRunConfig
from ...console import say
from ...data.sources.classes import read_class_names
from ...engine import sharding
from ...engine.fit import try_steps
from ...engine.job import Batch, Job, Trial
from ...engine.run_folder import RunFolder
from ...errors import VidinitError
from ...measure.memory import MB, TrainingMemory, free_memory
from ...zoo.names import CLASSES
from .batch_size import step_memory
from .clips import Checked, CheckedSplit
from .init_from import initial_folder
from .random_clips import noise_rows


def random_split(config: RunConfig, what: str = "data") -> CheckedSplit:
    """Random clips for data that is not there, with the classes of ``data.class_names``.

    Without such a file they have the model's classes, or as many as it has; a model of the zoo has
    400.

    Args:
        config: of the run.
        what: is missing, for the message.
    """
    classes = _classes(config)
    say(f"no {what}: a dry run with random clips of {len(classes)} classes")
    rows = noise_rows(classes)
    return CheckedSplit(rows, None, Checked(rows, {}))


def random_videos() -> Checked:
    """Random clips without labels, for videos that are not there."""
    say("no videos: a dry run with random clips")
    return Checked(noise_rows(None), {})


def _classes(config: RunConfig) -> list[str]:
    if config.data.class_names is not None:
        return list(read_class_names(config.data.class_names).names)
    same = getattr(config, "init_from", None) == config.model
    folder = model_folder(str(initial_folder(config.model)) if same else config.model)
    if folder is None:
        return [str(n) for n in range(CLASSES)]
    card = read_card(folder)
    return card.classes or [str(n) for n in range(card.num_classes)]


def rehearse(
    job: Job,
    config: TrainRunConfig,
    run: RunFolder,
    accelerator: Any,
    *,
    clips: int | None,
    kinds: Mapping[str, list[Batch]] | None = None,
) -> dict[str, Any]:
    """Estimate the memory of a run and take its first step.

    Args:
        job: as `engine.fit.fit` would get it.
        config: of the run.
        run: a folder that is not written.
        accelerator: of the run.
        clips: of the training data; None for random clips, which make no epoch.
        kinds: by name, the batches of a step of each kind, where there are several. They are timed.

    Returns:
        ``{model, params, trained, head, batch, shapes, memory_mb, clips, steps_per_epoch, epochs,
        seconds, clips_per_second, losses, step_seconds}``. ``memory_mb`` is None where weights are
        sharded, the steps where there is no data; ``step_seconds`` is
        the time of a step of each kind.

    Raises:
        VidinitError: the step does not fit into memory.
    """
    task, train = job.task, config.train
    batches = next(iter(job.steps(0, 0)))
    batch = len(batches[0]["skipped"])
    memory = None
    if sharding.kind(accelerator) == "whole":
        memory = step_memory(job, batches[0], train, accelerator)
        _check_fit(memory, batch, accelerator.device)
    numbers = {name: p.numel() for name, p in task.named_parameters()}
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    # Random clips make no epoch that could be said to take so long.
    steps = 1 if clips is None else job.steps_per_epoch
    kinds = kinds or {}
    # Each kind twice: in the first step of a kind, kernels are chosen and memory is fetched.
    groups = [batches, *(group for group in kinds.values() for _ in range(2))]
    job = replace(job, steps=lambda epoch, start: iter(groups), steps_per_epoch=steps)
    with _shapes(job) as shapes:
        trial, *others = _some_steps(job, config, run, accelerator, memory)
    return {
        "model": config.model,
        "params": sum(numbers.values()),
        "trained": trained,
        "head": sum(numbers[name] for name in task.head_parameters()),
        "batch": batch,
        "shapes": shapes,
        "memory_mb": None if memory is None else memory.as_mb(batch),
        "clips": clips,
        "steps_per_epoch": None if clips is None else steps,
        "epochs": train.epochs,
        "seconds": trial.seconds,
        "clips_per_second": trial.clips / trial.seconds,
        "losses": trial.losses,
        "step_seconds": {
            name: again.seconds for name, again in zip(kinds, others[1::2], strict=True)
        },
    }


def _check_fit(memory: TrainingMemory, clips: int, device: torch.device) -> None:
    """Refuse a step that a CPU's memory cannot hold: the kernel would end the process.

    A GPU says by itself that it is full.
    """
    needed, free = memory.total(clips) - memory.weights, free_memory(device)
    if device.type == "cpu" and needed > free:
        raise _too_large(memory, clips, f"and {free / MB:.0f} MB are free")


def _some_steps(
    job: Job,
    config: TrainRunConfig,
    run: RunFolder,
    accelerator: Any,
    memory: TrainingMemory | None,
) -> list[Trial]:
    try:
        return try_steps(job, config.train, run, accelerator)
    except torch.cuda.OutOfMemoryError as error:
        raise _too_large(memory, job.clips_per_batch, "and the GPU has not so much") from error


def _too_large(memory: TrainingMemory | None, clips: int, why: str) -> VidinitError:
    takes = "" if memory is None else f": it takes about {memory.total(clips) / MB:.0f} MB"
    return VidinitError(
        f"a step on {clips} clips does not fit into memory{takes}, {why}",
        "lower data.batch_size (auto finds one that fits), or set train.checkpointing=true",
    )


@contextmanager
def _shapes(job: Job) -> Iterator[dict[str, list[int]]]:
    """Filled inside: the shapes of the first clips the model gets, and of the heads' outputs."""
    shapes: dict[str, list[int]] = {}

    def see(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], result: Any) -> None:
            if isinstance(result, Tensor):
                shapes.setdefault(name, list(result.shape))

        return hook

    def see_clip(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        parts = job.parts(inputs[0])
        for part in parts:
            name = "clip" if len(parts) == 1 else f"clip of {part['source']}"
            shapes.setdefault(name, list(part["clip"].shape))

    task = job.task
    hooks = [task.register_forward_pre_hook(see_clip)]
    for name, head in task.classifiers().items():
        label = f"logits of {name}" if name else "logits"
        hooks.append(head.register_forward_hook(see(label)))
    try:
        yield shapes
    finally:
        for hook in hooks:
            hook.remove()
