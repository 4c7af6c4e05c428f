"""What a training loop is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..tasks.task import Task
from .resume import Progress

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
        lr_scale: learning rate of a step over that of the schedule.
        parts: the batches of clips of one shape that a batch is made of.
        for_norms: which of these count where norms' statistics are taken anew.
        advice: what to say when the training waits for its data; see `report.live.Live`.
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
        totals: seconds, clips per second and share of waiting; see `report.live.Live.totals`.
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
