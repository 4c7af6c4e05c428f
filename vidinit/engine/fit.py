"""The one training loop, on Accelerate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..config import RunConfig, TrainConfig
from ..errors import Interrupted, UsageError, VidinitError
from ..report.progress import TrainingBar, say
from ..tasks.task import Task
from . import resume as checkpoints
from .optim import lr_factor, make_optimizer, parameter_groups, set_lr
from .resume import Progress
from .run_folder import RunFolder
from .signals import StopRequest

Batch = dict[str, Any]


@dataclass
class Job:
    """Everything `fit` needs.

    Attributes:
        title: shown before the bar.
        task: what is trained.
        batches: from (epoch, first step) to the batches of the rest of that epoch.
        steps_per_epoch: how many batches an epoch has, the same in every process.
        evaluate: metrics after an epoch, computed by all processes; None for none.
        watch: the metric that decides which epoch is best; higher is better.
        save_model: writes the model folder, with the metrics of that epoch.
        evaluate_every: epochs between two evaluations.
    """

    title: str
    task: Task
    batches: Callable[[int, int], Iterable[Batch]]
    steps_per_epoch: int
    save_model: Callable[[dict[str, float]], None]
    evaluate: Callable[[], dict[str, float]] | None = None
    watch: str = "top1"
    evaluate_every: int = 1


@dataclass
class FitResult:
    """Outcome of `fit`: see `Progress`; ``metrics`` are the last evaluation's."""

    progress: Progress
    metrics: dict[str, float] = field(default_factory=dict)


def make_accelerator(config: RunConfig, *, seed: int = 0, find_unused: bool = False) -> Any:
    """Accelerate for the configured device and precision, alone or in a launched group.

    Raises:
        UsageError: for a device that is not there.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, set_seed

    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no CUDA device is available", "use --device cpu")
    if config.device == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: no Apple GPU is available", "use --device cpu")
    mixed = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[config.precision]
    accelerator = Accelerator(
        cpu=config.device == "cpu" or not (torch.cuda.is_available() or config.device == "mps"),
        mixed_precision=mixed,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=find_unused)],
    )
    set_seed(seed)
    return accelerator


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Tensors of a batch on the device; everything else as it is."""
    return {
        k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()
    }


def fit(
    job: Job, config: TrainConfig, run: RunFolder, accelerator: Any, *, resume: bool
) -> FitResult:
    """Train to the last epoch, with a checkpoint after each and on SIGINT or SIGTERM.

    Raises:
        Interrupted: after a signal, once the state is saved.
        VidinitError: when the loss is no longer a number.
    """
    task = job.task
    groups = parameter_groups(
        task, config, heads=task.head_parameters(), temporal=task.temporal_parameters()
    )
    wrapped, optimizer = accelerator.prepare(task, make_optimizer(groups, config))
    progress, result = Progress(world=accelerator.num_processes), FitResult(Progress())
    if resume:
        found = checkpoints.restore(accelerator, run.checkpoints)
        if found is None:
            say("no complete checkpoint yet: starting from step 0")
        else:
            progress = found
            progress.world = accelerator.num_processes
            say(f"resuming from epoch {progress.epoch}, step {progress.step}")
        run.drop_metrics_after(progress.step)
    with StopRequest() as stop:
        for epoch in range(progress.epoch, config.epochs):
            _epoch(job, wrapped, optimizer, config, run, accelerator, progress, epoch, stop)
            progress.epoch, progress.step_in_epoch = epoch + 1, 0
            last = progress.epoch == config.epochs
            due = job.evaluate_every and (progress.epoch % job.evaluate_every == 0 or last)
            if job.evaluate is not None and due:
                same_buffers(task, accelerator)
                result.metrics = job.evaluate()
                run.log(epoch=progress.epoch, step=progress.step, **result.metrics)
                shown = "  ".join(f"{k} {v:.3f}" for k, v in result.metrics.items())
                say(f"{job.title}  epoch {progress.epoch}/{config.epochs}  {shown}")
            value = result.metrics.get(job.watch)
            better = value is not None and (progress.best is None or value > progress.best)
            if better:
                progress.best = value
            wanted = better if config.select == "best" and value is not None else last
            if wanted and accelerator.is_main_process:
                job.save_model(result.metrics)
            progress.finished = last
            checkpoints.save(accelerator, run.checkpoints, progress)
            _leave_if_asked(stop, accelerator, run, progress, saved=True)
    result.progress = progress
    return result


def same_buffers(module: nn.Module, accelerator: Any) -> None:
    """The main process's buffers everywhere: it is its batch norms' statistics that are saved."""
    if accelerator.num_processes > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)


def _epoch(
    job: Job,
    wrapped: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    run: RunFolder,
    accelerator: Any,
    progress: Progress,
    epoch: int,
    stop: StopRequest,
) -> None:
    wrapped.train()
    start = progress.step_in_epoch
    title = f"{job.title}  epoch {epoch + 1}/{config.epochs}"
    shown: float | None = None
    with TrainingBar(title, job.steps_per_epoch, start) as bar:
        for batch in job.batches(epoch, start):
            set_lr(optimizer, lr_factor(progress.step, job.steps_per_epoch, config))
            optimizer.zero_grad(set_to_none=True)
            with accelerator.autocast():
                losses = wrapped(to_device(batch, accelerator.device))
            loss = torch.stack(list(losses.values())).sum()
            accelerator.backward(loss)
            if config.clip_grad is not None:
                accelerator.clip_grad_norm_(wrapped.parameters(), config.clip_grad)
            optimizer.step()
            progress.step += 1
            progress.step_in_epoch += 1
            progress.skipped += int(batch["skipped"].sum())
            progress.bad.extend(bad for bad in batch["bad"] if bad not in progress.bad)
            clips = len(batch["index"]) * accelerator.num_processes
            if progress.step % config.log_every == 0 or progress.step == 1:
                shown = _log_losses(losses, optimizer, run, progress, epoch + 1)
            bar.advance(shown, clips)
            _leave_if_asked(stop, accelerator, run, progress, saved=False)


def _log_losses(
    losses: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    run: RunFolder,
    progress: Progress,
    epoch: int,
) -> float:
    values = {name: float(value.detach()) for name, value in losses.items()}
    total = sum(values.values())
    run.log(
        epoch=epoch,
        step=progress.step,
        loss=total,
        lr=max(group["lr"] for group in optimizer.param_groups),
        **{f"loss_{name}": value for name, value in values.items() if name != "loss"},
    )
    if not math.isfinite(total):
        raise VidinitError(
            f"the loss became {total} at step {progress.step} ({values})",
            "lower train.lr, or set train.clip_grad=1",
        )
    return total


def _leave_if_asked(
    stop: StopRequest, accelerator: Any, run: RunFolder, progress: Progress, *, saved: bool
) -> None:
    number = stop.number or 0
    if accelerator.num_processes > 1:  # a signal may have reached one process only
        flag = torch.tensor([number], device=accelerator.device)
        number = int(accelerator.reduce(flag, reduction="sum").max())
        number = stop.number or (15 if number else 0)
    if not number or progress.finished:
        return
    if not saved:
        checkpoints.save(accelerator, run.checkpoints, progress)
    raise Interrupted(
        f"stopped by a signal at step {progress.step}; the state is saved in {run.checkpoints}",
        "run the same command with --resume to go on",
        signal_number=number,
    )
