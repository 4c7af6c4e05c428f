"""The one training loop, on Accelerate."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ..config import TrainConfig
from ..console import say
from ..errors import Interrupted, VidinitError
from . import checkpoint_folders, sharding
from . import resume as checkpoints
from .accelerators import warn_of_slow_precision
from .averages import MovingAverage
from .collectives import StopRequest, from_main
from .job import Batch, FitResult, Job, LossLog, Trial
from .live import Epoch, Live
from .norms import SyncedNorms, precise_statistics, same_buffers
from .optimizer import lr_factor, make_optimizer, parameter_groups, peak_lr, set_lr
from .resume import Progress
from .run_folder import FolderLostError, RunFolder, free_name
from .trackers import Trackers


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Tensors of a batch, and of batches in it, on the device; everything else as it is."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(part) for key, part in value.items()}
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

    return {key: moved(value) for key, value in batch.items()}


def fit(
    job: Job, config: TrainConfig, run: RunFolder, accelerator: Any, *, resume: bool
) -> FitResult:
    """Train to the last epoch.

    Checkpoints are written after each epoch, inside them as configured, and on SIGINT, SIGTERM and
    SIGHUP.

    Raises:
        Interrupted: after a signal, once the state is saved.
        VidinitError: when the loss is no longer a number, or a checkpoint cannot be written.
        FolderLostError: when the run's folder is gone; the state is saved beside it, if possible.
    """
    return _Loop(job, config, run, accelerator).train(resume=resume)


def try_steps(job: Job, config: TrainConfig, run: RunFolder, accelerator: Any) -> list[Trial]:
    """The steps that a job has in its first epoch, by the code that `fit` repeats; none is saved.

    Args:
        job, config, accelerator: as for `fit`.
        run: a folder that is not written.

    Raises:
        VidinitError: when a loss is not a number.
    """
    return list(_Loop(job, config, run, accelerator).trials())


class _Loop:
    """The state of `fit`. A step is one of the optimizer, on the mean of one or more batches."""

    def __init__(self, job: Job, config: TrainConfig, run: RunFolder, accelerator: Any) -> None:
        self.job, self.config, self.run, self.accelerator = job, config, run, accelerator
        task = job.task
        warn_of_slow_precision(task.model, accelerator)
        self.steps = job.steps_per_epoch
        self.trained = sharding.to_train(task, accelerator)
        clips = job.clips_per_step * accelerator.num_processes
        self.peak = peak_lr(config.lr, config.lr_batch, clips)
        groups = parameter_groups(
            self.trained,
            config,
            heads=task.head_parameters(),
            temporal=task.temporal_parameters(),
            lr=self.peak,
        )
        self.wrapped, self.optimizer = sharding.prepare(
            self.trained,
            make_optimizer(groups, config),
            accelerator,
            config,
            clips=job.clips_per_batch,
        )
        synced = config.sync_bn and accelerator.num_processes > 1
        self.norms = SyncedNorms() if synced else contextlib.nullcontext()
        self.average = MovingAverage(task, config.ema) if config.ema else None
        self.progress = Progress(world=accelerator.num_processes)
        self.result = FitResult(self.progress)
        self.losses = LossLog(run, accelerator)
        self.means: dict[str, float] = {}
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
            if self.progress.finished and not from_main(self.accelerator, self._has_model):
                self._save_model_again()
        config, step = self.job.config, self.progress.step
        with (
            Trackers.open(
                self.config.trackers, self.run.root, config=config, step=step
            ) as trackers,
            StopRequest() as stop,
        ):
            self.run.trackers = trackers
            try:
                while self.progress.epoch < self.config.epochs and not self.progress.finished:
                    self._epoch(stop)
                    self._after_epoch()
                    self._stop_if_asked(stop, saved=True)
            except FolderLostError as error:
                raise self._saved_beside(error) from error
        self.result.progress, self.result.totals = self.progress, self.live.totals()
        return self.result

    def _saved_beside(self, error: FolderLostError) -> FolderLostError:
        """The same error, once the state is saved in a new folder beside the run's.

        Of several processes only the first one sees that the folder is gone: the others are in the
        middle of a step, and a checkpoint takes all of them.
        """
        root = self.run.root
        beside = free_name(root.with_name(f"{root.name}-saved"))
        if self.accelerator.num_processes > 1:
            return FolderLostError(f"{error.message}; the state could not be saved", error.hint)
        try:
            rescue = RunFolder.open(beside, config=self.run.config)
            checkpoints.save(
                self.accelerator,
                rescue.checkpoints,
                replace(self.progress, best=None, best_step=None),
                average=self.average,
            )
        except VidinitError as failed:
            return FolderLostError(
                f"{error.message}; the state could not be saved beside it ({failed.message})",
                error.hint,
            )
        return FolderLostError(
            f"{error.message}; the state at step {self.progress.step} is saved in {beside}",
            f"go on with: {checkpoints.resume_command(self.job.title, beside, 1)}",
        )

    def trials(self) -> Iterator[Trial]:
        """See `try_steps`."""
        self.wrapped.train()
        with self.live.epoch(1) as display:
            for group in display.batches(self.job.steps(0, 0)):
                began = perf_counter()
                total = self._step(group, display)
                losses = {name: float(value) for name, value in total.items()}  # device is done
                yield Trial(losses, perf_counter() - began, self._clips(group))

    def _restore(self) -> None:
        progress = checkpoints.restore(self.accelerator, self.run.checkpoints, self.average)
        if progress is None:
            say("no complete checkpoint yet: starting from step 0")
        else:
            self.progress = progress
            self.live.continue_from(progress.spent)
            say(f"resuming from epoch {progress.epoch}, step {progress.step}")
        self.run.drop_metrics_after(self.progress.step, inside=self.progress.step_in_epoch > 0)

    def _epoch(self, stop: StopRequest) -> None:
        """The rest of the current epoch."""
        progress = self.progress
        self.wrapped.train()
        start = progress.step_in_epoch
        with self.live.epoch(progress.epoch + 1, start) as display:
            groups = display.batches(self.job.steps(progress.epoch, start))
            for group in islice(groups, self.steps - start):
                self._step(group, display)
                inside = progress.step_in_epoch < self.steps
                saved = inside and checkpoints.due(progress, self.config, self.clock)
                if saved:
                    self._save()
                self._stop_if_asked(stop, saved=saved)
            groups.close()
        rates, means = self.live.rates(), self.losses.of_epoch(progress)
        self.means = means
        if rates:
            self.run.log(epoch=progress.epoch + 1, step=progress.step, **rates, **means)

    def _step(self, group: list[Batch], display: Epoch) -> dict[str, Tensor]:
        """One step of the optimizer on the mean loss of a group of batches; its loss terms."""
        progress, config, accelerator = self.progress, self.config, self.accelerator
        done = progress.epoch * self.steps + progress.step_in_epoch
        scale = self.job.lr_scale(group)
        set_lr(self.optimizer, lr_factor(done, self.steps, config) * scale)
        # None, not zero: AdamW would move a head that has no loss in this step, by its momentum and
        # its weight decay.
        self.optimizer.zero_grad(set_to_none=True)
        total: dict[str, Tensor] = {}
        right: dict[str, Tensor] = {}
        for number, batch in enumerate(group, start=1):
            last = number == len(group)
            ready = to_device(batch, accelerator.device)
            place = progress.step_in_epoch * self.job.batches_per_step + number - 1
            ready = self.job.on_device(ready, progress.epoch, place)
            with sharding.part_of_step(accelerator, self.wrapped, last=last):
                with accelerator.autocast(), self.norms:
                    losses = self.wrapped(ready)
                loss = torch.stack(list(losses.values())).sum() / len(group)
                accelerator.backward(loss)
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value.detach() / len(group)
            for name, value in self.trained.right.items():
                right[name] = right.get(name, 0) + value / len(group)
            progress.note(int(batch["skipped"].sum()), batch["bad"])
        if config.clip_grad is not None:
            accelerator.clip_grad_norm_(self.wrapped.parameters(), config.clip_grad)
        self.optimizer.step()
        # Of fp16: Accelerate skips a step whose gradients have overflowed.
        if self.average is not None and not self.optimizer.step_was_skipped:
            self.average.update()
        progress.step += 1
        progress.step_in_epoch += 1
        lr = self._shown_lr()
        self.losses.add(progress.step, total, right, [p for b in group for p in self.job.paths(b)])
        if progress.step % config.log_every == 0 or progress.step == 1:
            self.losses.write(progress, lr)
        display.step(self.losses.with_total(total), lr=lr, clips=self._clips(group))
        return total

    def _shown_lr(self) -> float:
        """The rate of the group whose peak is nearest to the one that was set.

        Heads, temporal kernels and early layers may have others; what is held has none.
        """
        moved = [group for group in self.optimizer.param_groups if group["peak_lr"]]
        groups = moved or self.optimizer.param_groups[:1]
        if len(groups) == 1:
            return float(groups[0]["lr"])
        nearest = min(groups, key=lambda group: abs(math.log(group["peak_lr"] / self.peak)))
        return float(nearest["lr"])

    def _clips(self, group: list[Batch]) -> int:
        """Of a step, of all processes."""
        clips = sum(len(batch["skipped"]) for batch in group)
        return clips * self.accelerator.num_processes

    def _after_epoch(self) -> None:
        """Evaluate where it is due, keep the model if it is wanted, save."""
        progress, config, job = self.progress, self.config, self.job
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        last = progress.epoch == config.epochs
        due = job.evaluate_every and (progress.epoch % job.evaluate_every == 0 or last)
        with self._weights_to_evaluate():
            if due or last:
                self._renew_statistics(progress.epoch)
            better = False
            if job.evaluate is not None and due:
                # Each process has statistics of its own clips, and all have to score alike.
                same_buffers(job.task, self.accelerator)
                metrics = self.result.metrics = job.evaluate()
                self.run.log(epoch=progress.epoch, step=progress.step, **metrics)
                shown = {**self.means, **metrics}
                values = "  ".join(f"{k} {v:.3f}" for k, v in shown.items())
                say(f"{job.title}  epoch {progress.epoch}/{config.epochs}  {values}")
                better = job.watch in metrics and progress.note_metric(metrics[job.watch])
                if config.patience is not None and progress.stale >= config.patience:
                    say(f"no better epoch in {progress.stale} evaluations: this was the last")
                    last = True
            wanted = better if config.select == "best" and progress.best is not None else last
            if wanted:
                self._save_model(self.result.metrics)
        progress.finished = last
        self._save()

    def _save_model(self, metrics: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            self.run.check()
            self.job.save_model(metrics)

    def _has_model(self) -> bool:
        return any(self.run.model.rglob("*.safetensors"))

    def _save_model_again(self) -> None:
        """Write the model of a finished run from the checkpoint that it was saved at."""
        step = self.progress.step
        if self.config.select == "best" and self.progress.best_step is not None:
            step = self.progress.best_step
            place = checkpoint_folders.folder_of(self.run.checkpoints, step)
            epoch = checkpoints.restore_one(self.accelerator, place, self.average).epoch
        else:
            epoch = self.progress.epoch
        say(f"{self.run.root}: its model is missing and is written again, from step {step}")
        rows = [r for r in self.run.read_metrics() if r["step"] == step and self.job.watch in r]
        metrics = {k: v for r in rows[-1:] for k, v in r.items() if k not in ("epoch", "step")}
        with self._weights_to_evaluate():
            self._renew_statistics(epoch)
            same_buffers(self.job.task, self.accelerator)
            self._save_model(metrics)

    @contextlib.contextmanager
    def _weights_to_evaluate(self) -> Iterator[None]:
        """Inside, the task has the weights that are evaluated and saved."""
        with (
            sharding.whole_weights(self.job.task, self.trained, self.accelerator),
            contextlib.nullcontext() if self.average is None else self.average.applied(),
        ):
            yield

    def _renew_statistics(self, epoch: int) -> None:
        """Take norms' statistics anew from clips of an epoch, where that is asked for."""
        if self.config.precise_bn:
            clips = self._norm_clips(epoch)
            precise_statistics(self.job.task.model, clips, self.accelerator)

    def _norm_clips(self, epoch: int) -> Iterator[Tensor]:
        """Clips of the first batches of an epoch, as many as are asked for."""
        job = self.job
        parts = (part for group in job.steps(epoch, 0) for b in group for part in job.parts(b))
        counted = (part for part in parts if job.for_norms(part))
        for place, batch in enumerate(islice(counted, self.config.precise_bn)):
            yield job.on_device(to_device(batch, self.accelerator.device), epoch, place)["clip"]

    def _save(self) -> None:
        self.losses.check(
            self.progress
        )  # a checkpoint with weights that are no numbers is never written
        self.progress.spent = self.live.spent()
        self.run.check()
        checkpoints.save(
            self.accelerator,
            self.run.checkpoints,
            self.progress,
            keep=self.config.keep,
            average=self.average,
        )
        self.clock.restart()

    def _stop_if_asked(self, stop: StopRequest, *, saved: bool) -> None:
        number = stop.agreed(self.accelerator)
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
