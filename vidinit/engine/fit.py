"""The one training loop, on Accelerate."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..config import RunConfig, TrainConfig
from ..errors import Interrupted, UsageError
from ..report.live import Epoch, Live
from ..report.progress import say
from ..tasks.task import Task
from . import resume as checkpoints
from .averages import MovingAverage
from .losses import LossLog
from .norms import precise_statistics
from .optim import make_optimizer, parameter_groups
from .resume import Progress
from .run_folder import RunFolder
from .schedule import lr_factor, scaled_lr, set_lr
from .signals import StopRequest
from .trackers import Trackers

Batch = dict[str, Any]


@dataclass
class Job:
    """Everything `fit` needs.

    Attributes:
        title: the command, shown before the progress.
        task: what is trained.
        batches: from (epoch, first batch) to the batches of the rest of that epoch.
        batches_per_epoch: how many an epoch has, the same in every process.
        clips_per_batch: of one process.
        save_model: writes the model folder, with the metrics of that epoch.
        on_device: from (batch on the device, epoch, step of the epoch) to what the task takes.
        paths: the files a batch was made of.
        evaluate: metrics after an epoch, computed by all processes; None for none.
        evaluate_every: epochs between two evaluations.
        watch: the metric that decides which epoch is best; higher is better.
        for_norms: which batches count where norms' statistics are taken anew.
        advice: what to say when the training waits for its data; see `report.live.Live`.
        config: of the whole run, plain values, for trackers.
    """

    title: str
    task: Task
    batches: Callable[[int, int], Iterable[Batch]]
    batches_per_epoch: int
    clips_per_batch: int
    save_model: Callable[[dict[str, float]], None]
    on_device: Callable[[Batch, int, int], Batch]
    paths: Callable[[Batch], list[str]]
    evaluate: Callable[[], dict[str, float]] | None = None
    evaluate_every: int = 1
    watch: str = "top1"
    for_norms: Callable[[Batch], bool] = lambda batch: True
    advice: Callable[[float], str] | None = None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass
class FitResult:
    """Outcome of `fit`.

    Attributes:
        progress: where the run ended.
        totals: seconds, clips per second and share of waiting; see `report.live.Live.totals`.
        metrics: of the last evaluation.
    """

    progress: Progress
    totals: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def make_accelerator(config: RunConfig, *, seed: int = 0, find_unused: bool = False) -> Any:
    """Accelerate for the configured device and precision, alone or in a launched group.

    Raises:
        UsageError: for a device that is not there.
    """
    from accelerate import Accelerator
    from accelerate.utils import (
        DistributedDataParallelKwargs,
        InitProcessGroupKwargs,
        set_seed,
    )

    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no CUDA device is available", "use --device cpu")
    if config.device == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: no Apple GPU is available", "use --device cpu")
    mixed = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[config.precision]
    accelerator = Accelerator(
        cpu=config.device == "cpu" or not (torch.cuda.is_available() or config.device == "mps"),
        mixed_precision=mixed,
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=find_unused),
            # The others wait while the first process checks a large data set for the first time.
            InitProcessGroupKwargs(timeout=timedelta(hours=2)),
        ],
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
    """Train to the last epoch.

    Checkpoints are written after each epoch, inside them as configured, and on SIGINT or SIGTERM.

    Raises:
        Interrupted: after a signal, once the state is saved.
        VidinitError: when the loss is no longer a number, or a checkpoint cannot be written.
    """
    return _Loop(job, config, run, accelerator).train(resume=resume)


class _Loop:
    """The state of `fit`. A step is one of the optimizer, of ``config.accumulate`` batches."""

    def __init__(self, job: Job, config: TrainConfig, run: RunFolder, accelerator: Any) -> None:
        self.job, self.config, self.run, self.accelerator = job, config, run, accelerator
        task = job.task
        self.clips = job.clips_per_batch * accelerator.num_processes
        self.steps = max(1, job.batches_per_epoch // config.accumulate)
        groups = parameter_groups(
            task,
            config,
            heads=task.head_parameters(),
            temporal=task.temporal_parameters(),
            lr=scaled_lr(config, self.clips * config.accumulate),
        )
        self.wrapped, self.optimizer = accelerator.prepare(task, make_optimizer(groups, config))
        self.average = MovingAverage(task, config.ema) if config.ema else None
        if self.average is not None:
            accelerator.register_for_checkpointing(self.average)
        self.progress = Progress(world=accelerator.num_processes)
        self.result = FitResult(self.progress)
        self.losses = LossLog(run, accelerator)
        self.clock = checkpoints.Clock(accelerator)
        self.live = Live(
            job.title,
            epochs=config.epochs,
            steps=self.steps,
            device=accelerator.device,
            advice=job.advice,
        )

    def train(self, *, resume: bool) -> FitResult:
        if resume:
            self._restore()
        config, step = self.job.config, self.progress.step
        with (
            Trackers.open(
                self.config.trackers, self.run.root, config=config, step=step
            ) as trackers,
            StopRequest() as stop,
        ):
            self.run.trackers = trackers
            while self.progress.epoch < self.config.epochs and not self.progress.finished:
                self._epoch(stop)
                self._after_epoch()
                self._leave_if_asked(stop, saved=True)
        self.result.progress, self.result.totals = self.progress, self.live.totals()
        return self.result

    def _restore(self) -> None:
        found = checkpoints.restore(self.accelerator, self.run.checkpoints)
        if found is None:
            say("no complete checkpoint yet: starting from step 0")
        else:
            self.progress = found
            say(f"resuming from epoch {found.epoch}, step {found.step}")
        self.run.drop_metrics_after(self.progress.step, inside=self.progress.step_in_epoch > 0)

    def _epoch(self, stop: StopRequest) -> None:
        """The rest of the current epoch."""
        progress, size = self.progress, self.config.accumulate
        self.wrapped.train()
        start = progress.step_in_epoch
        with self.live.epoch(progress.epoch + 1, start) as shown:
            batches = shown.batches(self.job.batches(progress.epoch, start * size))
            while progress.step_in_epoch < self.steps:
                group = list(islice(batches, size))
                if not group:
                    break
                self._step(group, shown)
                inside = progress.step_in_epoch < self.steps
                saved = inside and checkpoints.due(progress, self.config, self.clock)
                if saved:
                    self._save()
                self._leave_if_asked(stop, saved=saved)
            batches.close()
        rates = self.live.rates()
        if rates:
            self.run.log(epoch=progress.epoch + 1, step=progress.step, **rates)

    def _step(self, group: list[Batch], shown: Epoch) -> None:
        """One step of the optimizer on the mean loss of a group of batches."""
        progress, config, accelerator = self.progress, self.config, self.accelerator
        done = progress.epoch * self.steps + progress.step_in_epoch
        set_lr(self.optimizer, lr_factor(done, self.steps, config))
        self.optimizer.zero_grad(set_to_none=True)
        total: dict[str, Tensor] = {}
        for number, batch in enumerate(group, start=1):
            last = number == len(group)
            ready = to_device(batch, accelerator.device)
            place = progress.step_in_epoch * config.accumulate + number - 1
            ready = self.job.on_device(ready, progress.epoch, place)
            with contextlib.nullcontext() if last else accelerator.no_sync(self.wrapped):
                with accelerator.autocast():
                    losses = self.wrapped(ready)
                loss = torch.stack(list(losses.values())).sum() / len(group)
                accelerator.backward(loss)
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value.detach() / len(group)
            progress.note(int(batch["skipped"].sum()), batch["bad"])
        if config.clip_grad is not None:
            accelerator.clip_grad_norm_(self.wrapped.parameters(), config.clip_grad)
        self.optimizer.step()
        if self.average is not None and not self.optimizer.step_was_skipped:
            self.average.update()
        progress.step += 1
        progress.step_in_epoch += 1
        lr = max(group["lr"] for group in self.optimizer.param_groups)
        self.losses.add(progress.step, total, lambda: [p for b in group for p in self.job.paths(b)])
        if progress.step % config.log_every == 0 or progress.step == 1:
            self.losses.write(progress.epoch + 1, lr)
        shown.step(self.losses.shown(total), lr=lr, clips=self.clips * len(group))

    def _after_epoch(self) -> None:
        """Evaluate where it is due, keep the model if it is wanted, save."""
        progress, config, job = self.progress, self.config, self.job
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        last = progress.epoch == config.epochs
        due = job.evaluate_every and (progress.epoch % job.evaluate_every == 0 or last)
        with contextlib.nullcontext() if self.average is None else self.average.applied():
            if config.precise_bn and (due or last):
                precise_statistics(job.task.model, self._for_norms(), self.accelerator)
            better = False
            if job.evaluate is not None and due:
                same_buffers(job.task, self.accelerator)
                metrics = self.result.metrics = job.evaluate()
                self.run.log(epoch=progress.epoch, step=progress.step, **metrics)
                told = "  ".join(f"{k} {v:.3f}" for k, v in metrics.items())
                say(f"{job.title}  epoch {progress.epoch}/{config.epochs}  {told}")
                better = job.watch in metrics and progress.judge(metrics[job.watch])
                if config.patience is not None and progress.stale >= config.patience:
                    say(f"no better epoch in {progress.stale} evaluations: this was the last")
                    last = True
            wanted = better if config.select == "best" and progress.best is not None else last
            if wanted and self.accelerator.is_main_process:
                job.save_model(self.result.metrics)
        progress.finished = last
        self._save()

    def _for_norms(self) -> Iterator[Tensor]:
        """Clips of the first batches of the coming epoch, as many as are asked for."""
        job, epoch = self.job, self.progress.epoch
        batches = (batch for batch in job.batches(epoch, 0) if job.for_norms(batch))
        for place, batch in enumerate(islice(batches, self.config.precise_bn)):
            yield job.on_device(to_device(batch, self.accelerator.device), epoch, place)["clip"]

    def _save(self) -> None:
        self.losses.check()
        keep = self.config.keep
        checkpoints.save(self.accelerator, self.run.checkpoints, self.progress, keep=keep)
        self.clock.restart()

    def _leave_if_asked(self, stop: StopRequest, *, saved: bool) -> None:
        number = stop.number or 0
        if self.accelerator.num_processes > 1:  # a signal may have reached one process only
            flag = torch.tensor([number], device=self.accelerator.device)
            number = int(self.accelerator.reduce(flag, reduction="sum").max())
            number = stop.number or (15 if number else 0)
        if not number or self.progress.finished:
            return
        if not saved:
            self._save()
        command = checkpoints.resume_command(
            self.job.title, self.run.root, self.accelerator.num_processes
        )
        raise Interrupted(
            f"stopped by a signal at step {self.progress.step}; the state is saved in "
            f"{self.run.checkpoints}",
            f"go on with: {command}",
            signal_number=number,
        )


def same_buffers(module: nn.Module, accelerator: Any) -> None:
    """The main process's buffers everywhere: it is its batch norms' statistics that are saved."""
    if accelerator.num_processes > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)
