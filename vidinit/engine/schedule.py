"""The learning rate of a step."""

from __future__ import annotations

import math

import torch

from ..config import TrainConfig
from ..report.summary import peak_lr


def scaled_lr(config: TrainConfig, batch: int) -> float:
    """The configured peak learning rate for a step of ``batch`` clips, see `peak_lr`.

    Args:
        config: gives both.
        batch: clips of one optimizer step, of all processes and accumulated batches.
    """
    return peak_lr(config.lr, config.lr_batch, batch)


def lr_factor(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Share of the peak learning rate at a step: a pure function of it.

    ``min_lr`` and ``warmup_lr`` are rates beside ``lr``; groups with another rate, and a rate
    scaled to the batch, have them scaled alike.

    The warm-up is a straight line from ``warmup_lr`` at step 0 to the peak at step W; from zero it
    goes through (step + 1) / (W + 1), so that no step is lost to a rate of zero. The cosine begins
    where the warm-up ends. Steps of schedule ``step`` count from the start.

    ``by_epoch`` is mmcv's schedule: the rate is that of the epoch's first step, the cosine runs
    over all epochs, and the warm-up, step by step, multiplies it.

    Args:
        step: optimizer steps done before; 0 is the first.
        steps_per_epoch: optimizer steps of an epoch.
        config: of the schedule.
    """
    warmup = config.warmup_epochs * steps_per_epoch
    if not config.by_epoch:
        if step < warmup:
            return _ramp(step, warmup, config)
        return _course(step, warmup, steps_per_epoch, config)
    factor = _course(step // steps_per_epoch * steps_per_epoch, 0, steps_per_epoch, config)
    return factor * _ramp(step, warmup, config) if step < warmup else factor


def _ramp(step: int, warmup: float, config: TrainConfig) -> float:
    low = config.warmup_lr / config.lr
    ahead = 0 if config.warmup_lr else 1
    return low + (1 - low) * ((step + ahead) / (warmup + ahead))


def _course(step: int, start: float, steps_per_epoch: int, config: TrainConfig) -> float:
    """The schedule without warm-up; a cosine begins at step ``start``."""
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "step":
        if config.lr_steps:
            done = sum(step >= epoch * steps_per_epoch for epoch in config.lr_steps)
        else:
            done = step // (config.step_epochs * steps_per_epoch)
        return config.lr_gamma**done
    low = config.min_lr / config.lr
    total = config.epochs * steps_per_epoch
    cosine = 0.5 * (1 + math.cos(math.pi * (step - start) / max(total - start, 1)))
    return low + (1 - low) * cosine


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Each group's own peak rate times the factor."""
    for group in optimizer.param_groups:
        group.setdefault("peak_lr", group["lr"])
        group["lr"] = group["peak_lr"] * factor
