"""Co-training: one trunk, a head per source, images as clips of one frame (CoVeR-style).

Zhang et al., "Co-training Transformer with Videos and Images Improves Action Recognition", 2021.
Every step takes one batch of one source (`use_one`); over an epoch each source gets an exact number
of steps, in an order that is a function of (seed, epoch) and the same on all processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.views import SCHEDULE, rng
from ..zoo.base import VideoModel
from .heads import Heads
from .task import Task


def step_counts(shares: Sequence[float], steps: int) -> list[int]:
    """Whole numbers of steps in proportion to the shares, summing to ``steps``.

    Largest remainders are rounded up, so each count is within one of its exact share.
    """
    total = float(sum(shares))
    exact = [share / total * steps for share in shares]
    counts = [int(value) for value in exact]
    by_rest = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_rest[: steps - sum(counts)]:
        counts[i] += 1
    return counts


def schedule(counts: Sequence[int], *, seed: int, epoch: int) -> np.ndarray:
    """Which source each step of an epoch takes: int64 (steps,), each source exactly its count."""
    order = np.repeat(np.arange(len(counts)), counts)
    return rng(seed, epoch, 0, stream=SCHEDULE).permutation(order)


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Batch norms normalize with the batch's statistics but do not move their running ones.

    Image batches have other statistics than clips; running averages over both are wrong for both.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm, norm.momentum) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in kept:
            norm.momentum = momentum


class CotrainTask(Task):
    """Cross-entropy of one source's batch on that source's head.

    Args:
        model: its trunk is shared; its head becomes the primary source's.
        classes: class names by source, the primary one first.
        image_sources: whose batches do not move the batch norms' running statistics.
        label_smoothing: share of the target spread over all classes of the source.
    """

    def __init__(
        self,
        model: VideoModel,
        classes: dict[str, list[str]],
        *,
        image_sources: set[str],
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(model)
        self.classes = classes
        self.image_sources = image_sources
        self.label_smoothing = label_smoothing
        self.heads = Heads(model, {name: len(labels) for name, labels in classes.items()})
        model.classes = next(iter(classes.values()))

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The loss of a batch with ``clip``, ``label`` and ``source``, under the source's name."""
        source = batch["source"]
        still = source in self.image_sources
        with frozen_statistics(self.model) if still else contextlib.nullcontext():
            embedding = self.model.embed(batch["clip"])
        logits = self.heads.logits(self.model, embedding, source)
        loss = F.cross_entropy(logits.float(), batch["label"], label_smoothing=self.label_smoothing)
        return {source: loss}

    def classifier(self, source: str) -> nn.Module:
        """From clips to the logits of one source."""
        return _OneHead(self, source)


class _OneHead(nn.Module):
    def __init__(self, task: CotrainTask, source: str) -> None:
        super().__init__()
        self.task, self.source = task, source

    def forward(self, clip: Tensor) -> Tensor:
        model = self.task.model
        return self.task.heads.logits(model, model.embed(clip), self.source)
