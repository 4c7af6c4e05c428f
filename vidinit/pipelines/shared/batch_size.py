"""``data.batch_size=auto``: the largest batch that fits, by estimate or by real steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from ...config import TrainConfig, TrainRunConfig
from ...console import say
from ...data.loading.loader import TrainingClips, train_loader
from ...data.loading.quarantine import Quarantine
from ...engine import sharding
from ...engine.collectives import from_main, gather_all
from ...engine.fit import to_device
from ...engine.job import Batch, Job
from ...engine.optimizer import make_optimizer, parameter_groups
from ...engine.task import Task
from ...errors import UsageError, VidinitError
from ...measure.memory import MB, TrainingMemory, free_memory, training_memory, untouched
from ...zoo.base import COMPILED

# More clips a step than that make no CPU faster.
MOST_ON_CPU = 64
# What is left to decoding processes, libraries and the rest of the machine.
_SPARE_CPU, _SPARE_GPU = 0.25, 0.05
# A GPU is first asked for so much more than is free: an estimate may be too high.
_BOLD = 1.4
_SMALLER = "set train.checkpointing=true, or lower data.frames or data.size"
OnDevice = Any  # as `Job.on_device`


def choose_batch_size(
    config: TrainRunConfig,
    accelerator: Any,
    task: Task,
    dataset: TrainingClips,
    on_device: OnDevice,
    quarantine: Quarantine,
    *,
    resume: bool = False,
) -> None:
    """Put a number in the place of ``data.batch_size=auto``, the same one on all processes.

    On a GPU it is the largest with which steps of the optimizer really fit; elsewhere the largest
    that fits by the estimate, `MOST_ON_CPU` at most. It is no more than the data, and a multiple of
    ``data.repeats`` by a power of two or 3/4 of one. A resumed run keeps its number.

    Args:
        config: changed in place; nothing happens where it holds a number.
        accelerator: of the run.
        task: what is trained; left as it was, but on the device.
        dataset: the clips, of the primary source where there are several.
        on_device: as in `engine.fit.Job`.
        quarantine: of the data set.
        resume: go on with what the run's config.yaml says.

    Raises:
        UsageError: training is sharded, and no process could tell.
        VidinitError: not one clip fits.
    """
    data = config.data
    if data.batch_size != "auto":
        return
    known = from_main(accelerator, lambda: _recorded(config.out)) if resume else None
    if known is not None:
        data.batch_size = known
        return
    if sharding.kind(accelerator) != "whole":
        raise UsageError(
            "data.batch_size=auto cannot tell what fits when the weights are sharded",
            "set a number of clips",
        )
    repeats, world = data.repeats, accelerator.num_processes
    most = max(1, len(dataset) // world) * repeats
    if accelerator.device.type != "cuda":
        most = min(most, max(MOST_ON_CPU, repeats))
    if dataset.sampling.kind == "all":
        most = repeats  # clips of different lengths fit in no batch
    first = train_loader(
        dataset,
        batch_size=repeats,
        workers=min(1, data.workers if data.workers is not None else 1),
        seed=config.train.seed,
        epoch=0,
        rank=accelerator.process_index,
        world=world,
        deadline=data.deadline,
        quarantine=quarantine,
    )
    sample = Sample(task, next(iter(first)), on_device, accelerator)
    mine, why = _largest(sample, config.train, sizes(repeats, most))
    data.batch_size = min(gather_all(accelerator, mine))
    say(f"data.batch_size=auto: {data.batch_size} clips, {why}")


def _recorded(out: str | None) -> int | None:
    """The batch size of the run in a folder; None where it has not begun."""
    file = Path(out or "") / "config.yaml"
    if not file.is_file():
        return None
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    size = config.get("data", {}).get("batch_size") if isinstance(config, dict) else None
    return size if isinstance(size, int) else None


def sizes(unit: int, most: int) -> list[int]:
    """``unit`` times 1, 2, 3, 4, 6, 8, 12, 16, ..., up to ``most``; at least ``unit`` itself."""
    found, power = [unit], 2
    while unit * power <= most:
        found += [n for n in (unit * power, unit * power * 3 // 2) if n <= most]
        power *= 2
    return found


def _largest(sample: Sample, config: TrainConfig, choices: Sequence[int]) -> tuple[int, str]:
    """The largest of the sizes that fits, and in words why it is that one."""
    memory = sample.memory(config, choices[-1])
    free = free_memory(sample.device)
    on_gpu = sample.device.type == "cuda"
    room = free * (_BOLD if on_gpu else 1 - _SPARE_CPU)
    fitting = [n for n in choices if memory.total(n) - memory.weights <= room]
    if fitting and on_gpu:
        fitting = _tried(sample, config, memory, fitting)
    if not fitting:
        needed = memory.total(choices[0]) / MB
        raise VidinitError(
            f"a step on {choices[0]} clips does not fit: it takes about {needed:.0f} MB, "
            f"and {free / MB:.0f} MB are free",
            _SMALLER,
        )
    best = fitting[-1]
    reason = f"about {memory.total(best) / MB:.0f} MB in a step, {free / MB:.0f} MB were free"
    return best, f"{reason}{', tried' if on_gpu else ', by estimate'}"


def _tried(
    sample: Sample, config: TrainConfig, memory: TrainingMemory, choices: list[int]
) -> list[int]:
    """The sizes up to the largest with which real steps fit; none if not one does."""
    # Accelerate's `find_executable_batch_size` halves until something fits. Here the estimate says
    # where to begin, sizes lie closer and are multiples of data.repeats, and what is tried are two
    # steps, which are undone, not the training itself.
    from accelerate.utils.memory import should_reduce_batch_size

    for place in reversed(range(len(choices))):
        torch.cuda.empty_cache()
        try:
            sample.steps_fit(choices[place], config, memory)
        except Exception as error:
            if not should_reduce_batch_size(error):
                raise
        else:
            return choices[: place + 1]
    return []


def step_memory(job: Job, batch: Batch, config: TrainConfig, accelerator: Any) -> TrainingMemory:
    """The memory of training, estimated on a batch as the loader gives it."""
    sample = Sample(job.task, batch, job.on_device, accelerator)
    return sample.memory(config, len(batch["skipped"]))


class Sample:
    """A batch of any size, made of a few real clips, and the memory of a step on it.

    Args:
        task: what is trained; it is moved to the device.
        batch: some clips of the kind that is trained on, as the loader gives them.
        on_device: as in `engine.fit.Job`.
        accelerator: of the run.
    """

    def __init__(self, task: Task, batch: Batch, on_device: OnDevice, accelerator: Any) -> None:
        self.task, self.batch, self.accelerator = task, batch, accelerator
        self.on_device = on_device
        self.device: torch.device = accelerator.device
        task.to(self.device)

    def of(self, clips: int) -> Batch:
        """The clips again and again, until there are so many; on the device."""
        batch = _resized(self.batch, clips / len(self.batch["skipped"]))
        ready: Batch = self.on_device(to_device(batch, self.device), 0, 0)
        return ready

    def loss(self, clips: int) -> Tensor:
        """The loss of a batch of so many clips."""
        batch = self.of(clips)
        with self.accelerator.autocast():
            losses = self.task(batch)
        return torch.stack(list(losses.values())).sum()

    def memory(self, config: TrainConfig, most: int) -> TrainingMemory:
        """The memory of training with up to so many clips; without the compiler, which saves some.

        Raises:
            VidinitError: not even a few clips fit on the GPU.
        """
        with _uncompiled(self.task), _refusing(self.batch):
            return training_memory(
                self.task,
                config,
                self.loss,
                most=most,
                least=_least(self.batch),
                frozen=self.task.frozen_networks(),
            )

    def steps_fit(self, clips: int, config: TrainConfig, memory: TrainingMemory) -> None:
        """Take two steps of the optimizer, the second beside its states, and forget them.

        Raises:
            torch.cuda.OutOfMemoryError: they do not fit, or leave too little.
        """
        task = self.task
        # The moving average, and the buckets of gradients that processes exchange.
        extra = memory.average + memory.gradients * (self.accelerator.num_processes > 1)
        with untouched(task):
            task.train()
            ballast = torch.empty(extra, dtype=torch.uint8, device=self.device)
            groups = parameter_groups(task, config, heads=set(), temporal=set())
            optimizer = make_optimizer(groups, config)
            for _ in range(2):
                optimizer.zero_grad(set_to_none=True)
                self.loss(clips).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            del ballast
        free, whole = torch.cuda.mem_get_info(self.device)
        if free < _SPARE_GPU * whole:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Too little of it is left")


def _parts(batch: Batch) -> list[Batch]:
    """The batches that a batch is made of: itself, unless it holds one of each source."""
    inner = [part for value in batch.values() if isinstance(value, dict) for part in value.values()]
    return inner or [batch]


def _least(batch: Batch) -> int:
    """The fewest clips that have the batch's proportions: one of its smallest part."""
    return -(-len(batch["skipped"]) // min(len(part["skipped"]) for part in _parts(batch)))


def _resized(batch: Batch, share: float) -> Batch:
    """So many times the clips of a batch, and of each batch in it; at least one."""
    there = len(batch["skipped"])
    order = torch.arange(max(1, round(there * share))) % there

    def taken(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: _resized(part, share) for name, part in value.items()}
        return value[order] if isinstance(value, Tensor) else value

    return {key: taken(value) for key, value in batch.items()}


@contextlib.contextmanager
def _refusing(batch: Batch) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise VidinitError(
            f"a step on {_least(batch)} clips does not fit into the GPU's memory",
            _SMALLER,
        ) from error


@contextlib.contextmanager
def _uncompiled(task: Task) -> Iterator[None]:
    """Inside, a compiled trunk runs as it is written: each size would be compiled anew."""
    own = vars(task.model)
    compiled = {name: own.pop(name) for name in COMPILED if name in own}
    try:
        yield
    finally:
        own.update(compiled)
