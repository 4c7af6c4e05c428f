"""Losses of a batch with one head, with weights of the classes.

With weight w_c of class c, target t (N, C) of a clip (one-hot, smoothed, mixed) and its label y,

    cross-entropy = sum over n, c of w_c t_nc (-log p_nc) / sum over n of w_(y_n).

Of hard labels that is ``torch.nn.CrossEntropyLoss(weight=w)``. The divisor is that of the whole
step, over all its batches and processes: how a step is cut into these does not change its loss.
Mixing clips of a batch in pairs does not change it either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...zoo.pair import NOUN, VERB
from .on_device import soft_targets

DIVISOR = "divisor"
"""The key of a batch with the divisors of its weighted losses, one for each column of its labels;
where it is missing, the batch is the whole step."""


def cross_entropy(
    logits: Tensor,
    label: Tensor,
    *,
    target: Tensor | None = None,
    label_smoothing: float = 0.0,
    weight: Tensor | None = None,
    divisor: Tensor | None = None,
) -> Tensor:
    """The mean cross-entropy over the clips of a batch, weighted as the module says.

    Args:
        logits: (N, C).
        label: int64 (N,).
        target: float (N, C), of clips that were mixed, smoothed already.
        label_smoothing: share of the target spread over all classes, where there is none.
        weight: of the classes, float (C,); None: all count alike.
        divisor: a scalar; None: the sum of the weights of the labels.

    Returns:
        A scalar, float32.
    """
    logits = logits.float()
    if weight is None:
        if target is not None:
            return F.cross_entropy(logits, target)
        return F.cross_entropy(logits, label, label_smoothing=label_smoothing)
    if target is None and divisor is None:
        return F.cross_entropy(logits, label, weight=weight, label_smoothing=label_smoothing)
    total = weight[label].sum() if divisor is None else divisor
    if target is not None:
        return F.cross_entropy(logits, target, weight=weight, reduction="sum") / total
    losses = F.cross_entropy(
        logits, label, weight=weight, label_smoothing=label_smoothing, reduction="sum"
    )
    return losses / total


def classification_loss(
    logits: Tensor,
    batch: dict[str, Any],
    *,
    binary: bool,
    label_smoothing: float,
    weight: Tensor | None = None,
) -> Tensor:
    """The loss of a batch with one head.

    Args:
        logits: (N, C).
        batch: its ``target``, where clips were mixed, else its ``label``; see
            `finetune.task.ClassifyTask`.
        binary: the mean over clips and classes of a binary cross-entropy, not one over the classes.
        label_smoothing: share of the target spread over all classes.
        weight: of the classes, float (C,). Of a binary loss it multiplies what a class that is
            there costs, not what one costs that is not: torch's ``pos_weight``.

    Returns:
        A scalar, float32.
    """
    target = batch.get("target")
    if binary:
        if target is None:
            target = soft_targets(batch["label"], logits.shape[1], label_smoothing)
        return F.binary_cross_entropy_with_logits(logits.float(), target, pos_weight=weight)
    divisor = batch[DIVISOR][0] if DIVISOR in batch else None
    return cross_entropy(
        logits,
        batch["label"],
        target=target,
        label_smoothing=label_smoothing,
        weight=weight,
        divisor=divisor,
    )


@torch.no_grad()
def share_right(logits: Tensor | dict[str, Tensor], label: Tensor) -> Tensor:
    """The share of clips whose most likely class is right: their action, or one of their classes.

    Args:
        logits: (B, C), or of a pair those of its ``verb`` and ``noun``.
        label: int64 (B,), float (B, C) multi-hot, or int64 (B, 2) of a pair.

    Returns:
        A scalar, float32.
    """
    if isinstance(logits, dict):
        heads = torch.stack([logits[head].argmax(1) for head in (VERB, NOUN)], dim=1)
        return (heads == label).all(dim=1).float().mean()
    best = logits.argmax(1)
    if label.dim() == 2:
        return label.gather(1, best[:, None]).float().mean()
    return (best == label).float().mean()


def set_divisors(
    batches: Sequence[dict[str, Any]], weights: Sequence[Tensor], accelerator: Any
) -> None:
    """Give the batches of a step, of one source, the divisors of its weighted losses.

    All processes have to come by, each with its own batches of the step. The loop takes the mean
    over batches and processes, so a batch divides by its share of the sum of the weights.

    Args:
        batches: on the CPU, with ``label`` int64 (N,), or (N, 2) of pairs.
        weights: of the classes, on the CPU, for each column of the labels.
        accelerator: of the run.
    """
    whole = len(batches) == 1 and accelerator.num_processes == 1
    # A step all of whose clips have weight 0 costs 0, and not 0 / 0.
    if whole and all(weight.min() > 0 for weight in weights):
        return
    labels = torch.cat([batch["label"].view(len(batch["label"]), -1) for batch in batches])
    own = [weight[labels[:, k]].double().sum() for k, weight in enumerate(weights)]
    total = torch.stack(own).float().to(accelerator.device)
    if accelerator.num_processes > 1:
        total = accelerator.reduce(total, reduction="sum")
    share = total / (len(batches) * accelerator.num_processes)
    for batch in batches:
        batch[DIVISOR] = share.clamp(min=torch.finfo(torch.float32).tiny)
