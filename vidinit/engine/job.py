"""The input of the training loop, its outcome, and the log of its losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import VidinitError
from .resume import Progress
from .run_folder import RunFolder
from .task import Task

Batch = dict[str, Any]


@dataclass
class Job:
    """Everything `fit.fit` needs.

    Attributes:
        title: the command, shown before the progress.
        task: what is trained.
        steps: from (epoch, first step) to the batches of each step of the rest of that epoch.
        steps_per_epoch: how many an epoch has, the same in every process.
        batches_per_step: the most that a step takes.
        clips_per_batch: of one process.
        clips_per_step: of one process; what the learning rate is scaled to.
        save_model: writes the model folder, with the metrics of that epoch.
        on_device: from (batch on the device, epoch, step of the epoch) to what the task takes.
        paths: the files a batch was made of.
        evaluate: metrics after an epoch, computed by all processes; None for none.
        evaluate_every: epochs between two evaluations.
        watch: the metric that decides which epoch is best; higher is better.
        scored: videos that `evaluate` scores; None where it is not known.
        lr_scale: learning rate of a step over that of the schedule.
        parts: the batches of clips of one shape that a batch is made of.
        for_norms: which of these count where norms' statistics are taken anew.
        advice: for a training that waits for its data; see `engine.live.Live`.
        config: of the whole run, plain values, for trackers.
    """

    title: str
    task: Task
    steps: Callable[[int, int], Iterable[list[Batch]]]
    steps_per_epoch: int
    batches_per_step: int
    clips_per_batch: int
    clips_per_step: int
    save_model: Callable[[dict[str, float]], None]
    on_device: Callable[[Batch, int, int], Batch]
    paths: Callable[[Batch], list[str]]
    evaluate: Callable[[], dict[str, float]] | None = None
    evaluate_every: int = 1
    watch: str = "top1"
    scored: int | None = None
    lr_scale: Callable[[list[Batch]], float] = lambda group: 1.0
    parts: Callable[[Batch], list[Batch]] = lambda batch: [batch]
    for_norms: Callable[[Batch], bool] = lambda batch: True
    advice: Callable[[float], str] | None = None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass
class FitResult:
    """Outcome of `fit.fit`.

    Attributes:
        progress: where the run ended.
        totals: seconds, clips per second and share of waiting; see `engine.live.Live.totals`.
        metrics: of the last evaluation.
    """

    progress: Progress
    totals: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass
class Trial:
    """Outcome of a step of `fit.try_steps`.

    Attributes:
        losses: mean of each loss term over the batches of the step, on this process.
        seconds: from the first batch's way to the device until the step is done.
        clips: of all processes.
    """

    losses: dict[str, float]
    seconds: float
    clips: int


_NAMED = 8  # files that an error names


class LossLog:
    """The losses of the steps since the last check, and the shares of clips that were right.

    They stay on the device until then: reading a number in each step would make the host wait for
    the device, and the device then for the host, step by step. A loss that is no number is
    therefore found a few steps late, but always before a checkpoint is written.

    Args:
        run: whose metrics.jsonl gets them.
        accelerator: the losses of its processes are averaged.
    """

    def __init__(self, run: RunFolder, accelerator: Any) -> None:
        self.run, self.accelerator = run, accelerator
        self._steps: list[tuple[int, dict[str, Tensor], dict[str, Tensor], list[str]]] = []

    def add(
        self, step: int, losses: dict[str, Tensor], right: dict[str, Tensor], paths: list[str]
    ) -> None:
        """Keep the losses of a step and its `Task.right`, scalar tensors by name, and its files."""
        self._steps.append((step, losses, right, paths))

    @staticmethod
    def with_total(losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sum, and its terms where there are several."""
        if len(losses) == 1:
            return {"loss": next(iter(losses.values()))}
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def write(self, progress: Progress, lr: float) -> None:
        """Write the means of the losses of the steps since the last line; all processes call it.

        Raises:
            VidinitError: see `check`.
        """
        self.check(progress)
        means = _means(progress.since_line)
        progress.since_line = {}
        self.run.log(
            epoch=progress.epoch + 1, step=progress.step, loss=means.pop("loss"), lr=lr, **means
        )

    def of_epoch(self, progress: Progress) -> dict[str, float]:
        """Means over the epoch that ends, ``train_loss`` and ``train_<metric>``; all call it.

        Raises:
            VidinitError: see `check`.
        """
        self.check(progress)
        means = _means(progress.since_epoch)
        progress.since_epoch = {}
        return {f"train_{name}": value for name, value in means.items()}

    def check(self, progress: Progress) -> None:
        """Read the losses of the steps since the last check; all processes call it.

        Args:
            progress: its sums get them.

        Raises:
            VidinitError: the losses of one are no numbers; it names the step, the terms, the files.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return
        kept = [
            value
            for _, losses, right, _ in steps
            for part in (losses, right)
            for value in part.values()
        ]
        own = torch.stack([value.detach().float() for value in kept])  # one way to the host
        found = iter(own.tolist())
        for step, losses, right, paths in steps:
            values = {name: next(found) for name in losses}
            for _ in right:
                next(found)
            if not all(map(math.isfinite, values.values())):
                raise _no_number(step, values, paths)
        if self.accelerator.num_processes > 1:
            own = self.accelerator.reduce(own.to(self.accelerator.device), reduction="mean")
        found = iter(own.tolist())
        for _, losses, right, _ in steps:
            terms = {name: next(found) for name in losses}
            shares = {name: next(found) for name in right}
            named = {f"loss_{name}": value for name, value in terms.items() if name != "loss"}
            total = {"loss": sum(terms.values())}
            _add(progress.since_line, {**total, **named})
            _add(progress.since_epoch, {**total, **shares})


def _no_number(step: int, values: dict[str, float], paths: list[str]) -> VidinitError:
    terms = ", ".join(f"{name} {value:g}" for name, value in values.items())
    files = list(dict.fromkeys(paths))
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return VidinitError(
        f"the loss became {sum(values.values()):g} at step {step} ({terms}), on the clips "
        f"of {', '.join(files[:_NAMED])}{more}",
        "lower train.lr, or set train.clip_grad=1",
    )


def _add(sums: dict[str, list[float]], values: dict[str, float]) -> None:
    """Add the values of a step to sums, which count their steps."""
    for name, value in values.items():
        total, count = sums.get(name, (0.0, 0))
        sums[name] = [total + value, count + 1]


def _means(sums: dict[str, list[float]]) -> dict[str, float]:
    return {name: total / count for name, (total, count) in sums.items()}
