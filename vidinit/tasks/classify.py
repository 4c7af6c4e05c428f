"""Supervised classification: cross-entropy on a model's own head."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..zoo.base import VideoModel
from .task import Task


def freeze_trunk(model: VideoModel) -> None:
    """Only the head keeps its gradients."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head."))


class ClassifyTask(Task):
    """``{"loss": cross-entropy}`` of a batch's clips and labels.

    Args:
        model: the classifier.
        label_smoothing: share of the target spread over all classes.
        frozen_trunk: train the head alone; the trunk stays in eval mode.
    """

    def __init__(
        self, model: VideoModel, *, label_smoothing: float = 0.0, frozen_trunk: bool = False
    ) -> None:
        super().__init__(model)
        self.label_smoothing = label_smoothing
        self.frozen_trunk = frozen_trunk
        if frozen_trunk:
            freeze_trunk(model)

    def train(self, mode: bool = True) -> ClassifyTask:
        """Train mode, but for a frozen trunk, whose norms keep their statistics."""
        super().train(mode)
        if self.frozen_trunk:
            self.model.eval()
            self.model.dropout.train(mode)
        return self

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses of a batch with ``clip`` (B, 3, T, H, W) and ``label`` (B,)."""
        logits = self.model(batch["clip"])
        return {
            "loss": F.cross_entropy(
                logits.float(), batch["label"], label_smoothing=self.label_smoothing
            )
        }
