"""Parameter groups, the optimizer over them, and the schedule of its learning rate."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase

import torch
from torch import nn

from ..config import TrainConfig
from ..zoo.images.networks import timm_module
from .task import Rates, Task

_MODEL = "model."  # prefix, in a task, of the parameters of the network

# How the names of learned tokens, of position and time embeddings, and of tables of biases end.
_UNDECAYED = ("token", "tokens", "embed", "embedding", "embeddings", "bias_table", "logit_scale")


def parameter_groups(
    task: Task,
    config: TrainConfig,
    *,
    heads: set[str],
    temporal: set[str],
    lr: float | None = None,
) -> list[dict[str, object]]:
    """Groups by (learning-rate scale, weight decay); every trained parameter in exactly one.

    The scale of a trunk parameter in layer i of L blocks (stem and embeddings 0, blocks 1 to L,
    final norm and heads L + 1; see `VideoModel.layer_ids`) is layer_decay^(L + 1 - i), the
    layer-wise decay of BEiT (Bao et al., 2022). Temporal kernels have that of the layer they stand
    in, times ``temporal_lr_scale``; heads have ``head_lr_scale``. The rates of single
    parameters (`Task.own_rates`) go before all scales.

    Without ``decay_all`` there is no weight decay on norms, biases, one-dimensional parameters,
    tokens, position and time embeddings, and what timm's networks exempt themselves.

    Args:
        task: whose parameters are trained.
        config: gives the scales and the decay.
        heads: names of the parameters of heads.
        temporal: names of the parameters of temporal kernels.
        lr: peak rate that the scales refer to; default: ``config.lr``. See `peak_lr`.

    Raises:
        UsageError: layer-wise decay in a network whose layers are not known.
    """
    peak = config.lr if lr is None else lr
    layers, own = layer_scales(task, config.layer_decay), task.own_rates()
    exempt = [] if config.decay_all else _exempt(task)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in task.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = layers.get(name, 1.0)
        if name in heads:
            scale *= config.head_lr_scale
        elif name in temporal:
            scale *= config.temporal_lr_scale
        decays = config.decay_all or not (_is_undecayed(name, parameter) or _matches(exempt, name))
        rates = own.get(name, Rates())
        if rates.lr is not None:
            scale = rates.lr / config.lr
        decay = config.weight_decay if rates.weight_decay is None else rates.weight_decay
        key = scale, decay if decays else 0.0
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr": peak * scale, "weight_decay": decay}
        for (scale, decay), parameters in groups.items()
    ]


def layer_scales(task: Task, layer_decay: float | None) -> dict[str, float]:
    """Learning-rate scale by parameter name, of all parameters of the task's model.

    Args:
        task: its model gives the layers.
        layer_decay: d in d^(L + 1 - i); None for none, and an empty result.

    Raises:
        UsageError: when the layers of the network are not known.
    """
    if layer_decay is None:
        return {}
    layers = task.model.layer_ids()
    last = max(layers.values())
    return {f"{_MODEL}{name}": layer_decay ** (last - i) for name, i in layers.items()}


def _is_undecayed(name: str, parameter: nn.Parameter) -> bool:
    leaf = name.rpartition(".")[2]
    return parameter.dim() <= 1 or leaf == "bias" or leaf.endswith(_UNDECAYED)


def _exempt(task: nn.Module) -> list[str]:
    """Names, with wildcards, that timm's networks say are not to be decayed."""
    patterns = []
    for prefix, module in task.named_modules():
        own = getattr(module, "no_weight_decay", None)
        if callable(own):
            patterns += [f"{prefix}.{name}" for name in own()]
    return patterns


def _matches(patterns: list[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def make_optimizer(groups: list[dict[str, object]], config: TrainConfig) -> torch.optim.Optimizer:
    """The configured optimizer over the groups.

    ``sgd`` is plain momentum, not Nesterov's (timm's ``sgd`` is). ``lamb`` is timm's (You et al.,
    2020) with its defaults: eps 1e-6, the gradient's norm over all parameters clipped to 1 in each
    step whether or not ``clip_grad`` is set, trust ratios only where there is weight decay.
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)
    if config.optimizer == "lamb":
        timm_module()  # one clear error where torch and torchvision do not match
        from timm.optim import Lamb

        made: torch.optim.Optimizer = Lamb(groups, lr=config.lr, betas=config.betas)
        return made
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)


def peak_lr(lr: float, lr_batch: int | None, clips: int) -> float:
    """The peak learning rate for a step of ``clips`` clips: lr * clips / lr_batch.

    Goyal et al., "Accurate, Large Minibatch SGD", 2017. Without ``lr_batch`` it is ``lr``. The
    clips are those of one optimizer step, of all processes and accumulated batches.
    """
    return lr if lr_batch is None else lr * clips / lr_batch


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
            return _warmup(step, warmup, config)
        return _schedule(step, warmup, steps_per_epoch, config)
    factor = _schedule(step // steps_per_epoch * steps_per_epoch, 0, steps_per_epoch, config)
    return factor * _warmup(step, warmup, config) if step < warmup else factor


def _warmup(step: int, warmup: float, config: TrainConfig) -> float:
    low = config.warmup_lr / config.lr
    ahead = 0 if config.warmup_lr else 1
    return low + (1 - low) * ((step + ahead) / (warmup + ahead))


def _schedule(step: int, start: float, steps_per_epoch: int, config: TrainConfig) -> float:
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
    """Set each group's learning rate to its peak rate times the factor.

    The peak is kept in the group, and so in checkpoints: a resumed run goes on with its own.
    """
    for group in optimizer.param_groups:
        group.setdefault("peak_lr", group["lr"])
        group["lr"] = group["peak_lr"] * factor
