"""Parameter groups and the optimizer over them."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from torch import nn

from ..config import TrainConfig
from ..tasks.task import Rates, Task
from ..zoo.image import timm_module

_MODEL = "model."  # of a task: the parameters that stand in a layer of the network
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
    in, times ``temporal_lr_scale``; heads have ``head_lr_scale``. What the task says of single
    parameters, see `Task.own_rates`, goes before all scales.

    Without ``decay_all`` there is no weight decay on norms, biases, one-dimensional parameters,
    tokens, position and time embeddings, and what timm's networks exempt themselves.

    Args:
        task: whose parameters are trained.
        config: gives the scales and the decay.
        heads: names of the parameters of heads.
        temporal: names of the parameters of temporal kernels.
        lr: peak rate that the scales refer to; default: ``config.lr``. See `scaled_lr`.

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
        decays = config.decay_all or not (_is_undecayed(name, parameter) or _any(exempt, name))
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
    found = []
    for prefix, module in task.named_modules():
        own = getattr(module, "no_weight_decay", None)
        if callable(own):
            found += [f"{prefix}.{name}" for name in own()]
    return found


def _any(patterns: list[str], name: str) -> bool:
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
