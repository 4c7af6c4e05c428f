"""The costs of each objective, measured by a dry run: seconds and memory of a step."""

from __future__ import annotations

from typing import Any

from ...config import TrainConfig
from ...engine import sharding
from ...engine.job import Batch, Job
from ...measure.memory import MB
from ..shared.batch_size import step_memory
from .task import ALONE, ONLY, DistillTask


def kinds(job: Job, task: DistillTask) -> dict[str, list[Batch]]:
    """The batches of a step of the student alone and of each objective by itself, by name.

    Empty where outputs are all that is learned.
    """
    names = [one.name for one in task.each()]
    if names == ["logits"]:
        return {}
    group = next(iter(job.steps(0, 0)))
    return {name: [{**batch, ONLY: name} for batch in group] for name in (ALONE, *names)}


def told(
    rehearsed: dict[str, Any], job: Job, found: dict[str, list[Batch]], train: TrainConfig, on: Any
) -> dict[str, Any]:
    """The result of a dry run with ``objectives``: {name: {seconds, activations_mb}}.

    Args:
        rehearsed: of `shared.dry_run.rehearse`, with the times of ``found``.
        job: of the run.
        found: of `kinds`.
        train: settings of the training.
        on: the accelerator.
    """
    objectives = {}
    for name, group in found.items():
        memory = None
        if sharding.kind(on) == "whole":
            clips = len(group[0]["skipped"])
            memory = round(step_memory(job, group[0], train, on).activations(clips) / MB, 1)
        seconds = rehearsed["step_seconds"][name]
        objectives[name] = {"seconds": seconds, "activations_mb": memory}
    return {**rehearsed, "objectives": objectives} if objectives else rehearsed
