"""Optimizer, parameter groups and learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..config import TrainConfig


def parameter_groups(
    task: nn.Module, config: TrainConfig, *, heads: set[str], temporal: set[str]
) -> list[dict[str, object]]:
    """Groups by (learning-rate scale, weight decay); every trained parameter in exactly one.

    Args:
        task: whose parameters are trained.
        config: gives the scales and the decay.
        heads: names of the parameters of heads.
        temporal: names of the parameters of temporal kernels.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in task.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0
        if name in heads:
            scale = config.head_lr_scale
        elif name in temporal:
            scale = config.temporal_lr_scale
        decay = config.weight_decay if parameter.dim() > 1 else 0.0  # norms and biases: none
        groups.setdefault((scale, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": config.lr * scale, "weight_decay": decay}
        for (scale, decay), parameters in groups.items()
    ]


def make_optimizer(groups: list[dict[str, object]], config: TrainConfig) -> torch.optim.Optimizer:
    """The configured optimizer over the groups."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=0.9)


def lr_factor(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Share of the peak learning rate at a step (0 is the first): a pure function of the step."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "step":
        return 0.1 ** (step // (config.step_epochs * steps_per_epoch))
    total = config.epochs * steps_per_epoch
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Each group's own peak rate times the factor."""
    for group in optimizer.param_groups:
        group.setdefault("peak_lr", group["lr"])
        group["lr"] = group["peak_lr"] * factor
