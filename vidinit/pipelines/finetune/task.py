"""Supervised classification: one class a clip, any number of them, or a verb and a noun."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ...data.rows import LabelKind
from ...engine.task import Task
from ...errors import UsageError
from ...zoo.base import VideoModel
from ...zoo.pair import NOUN, VERB, PairModel
from ..shared.heads import new_head
from ..shared.on_device import soft_targets


class ClassifyTask(Task):
    """Losses of a batch's clips and labels, by the kind of the labels.

    ``single``: cross-entropy, or with ``loss="bce"`` as ``multi``: the mean over clips and classes
    of the binary cross-entropy. ``pair``: cross-entropies of ``verb`` and ``noun``.

    Args:
        model: the classifier; it remembers the kind. Of a pair its own head gets the verbs.
        kind: of the labels.
        nouns: names of the second classes of a pair.
        noun_head: a trained head for them; default: a new one.
        label_smoothing: share of the target spread over all classes.
        frozen_trunk: train the heads alone; the trunk stays in eval mode.
        loss: ``ce``, or ``bce`` for a ``single`` label as one of several (timm's A2 recipe).

    Raises:
        UsageError: a binary loss of a pair.
    """

    def __init__(
        self,
        model: VideoModel,
        *,
        kind: LabelKind = "single",
        nouns: Sequence[str] | None = None,
        noun_head: nn.Linear | None = None,
        label_smoothing: float = 0.0,
        frozen_trunk: bool = False,
        loss: Literal["ce", "bce"] = "ce",
    ) -> None:
        super().__init__(model)
        if loss == "bce" and kind == "pair":
            raise UsageError("train.loss=bce is not for two labels a clip", "leave it at ce")
        if (kind == "pair") != (nouns is not None):
            raise ValueError(f"labels of kind {kind} with nouns {nouns}")
        model.label_kind = kind
        self.kind = kind
        self.nouns = list(nouns or ())
        if kind == "pair":
            self.heads = nn.ModuleDict({NOUN: noun_head or new_head(model, len(self.nouns))})
        self.binary = loss == "bce" or kind == "multi"
        self.label_smoothing = label_smoothing
        self.frozen_trunk = frozen_trunk
        if frozen_trunk:
            freeze_trunk(model)

    def train(self, mode: bool = True) -> ClassifyTask:
        """Train mode, but for a frozen trunk, whose norms keep their statistics."""
        super().train(mode)
        if self.frozen_trunk:
            self.model.eval()
            self.model.dropout.train(mode)  # it stands before the head, which does learn
        return self

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            batch: ``clip`` (B, 3, T, H, W), normalized, and ``label``: int64 (B,) of a ``single``
                label, float (B, C) multi-hot of ``multi``, int64 (B, 2) of a ``pair``. Mixed clips
                come with ``target``, float (B, C), see `shared.on_device.soft_targets`, which then
                stands for the label.
        """
        logits = self.classifier()(batch["clip"])
        if self.kind == "pair":
            verb, noun = batch["label"].unbind(dim=1)
            return {
                VERB: self._cross_entropy(logits[VERB], verb),
                NOUN: self._cross_entropy(logits[NOUN], noun),
            }
        loss = classification_loss(
            logits, batch, binary=self.binary, label_smoothing=self.label_smoothing
        )
        return {"loss": loss}

    def _cross_entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), label, label_smoothing=self.label_smoothing)

    def classifier(self) -> nn.Module:
        """From clips to logits: the model, or for pairs a `PairModel` that shares its weights."""
        if self.kind != "pair":
            return self.model
        return PairModel(self.model, self.heads[NOUN], self.nouns)  # type: ignore[arg-type]

    def save_options(self) -> dict[str, Any]:
        """Arguments of `checkpoint.save_model` beside the model and the folder."""
        classifier = self.classifier()
        return classifier.save_options() if isinstance(classifier, PairModel) else {}


def freeze_trunk(model: VideoModel) -> None:
    """Only the head keeps its gradients."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head."))


def classification_loss(
    logits: Tensor, batch: dict[str, Any], *, binary: bool, label_smoothing: float
) -> Tensor:
    """The loss of a batch with one head.

    Args:
        logits: (B, C).
        batch: its ``target``, where clips were mixed, else its ``label``; see `ClassifyTask`.
        binary: a binary cross-entropy of each class, not one over the classes.
        label_smoothing: share of the target spread over all classes.

    Returns:
        A scalar, float32.
    """
    target = batch.get("target")
    if binary:
        if target is None:
            target = soft_targets(batch["label"], logits.shape[1], label_smoothing)
        return F.binary_cross_entropy_with_logits(logits.float(), target)
    if target is not None:
        return F.cross_entropy(logits.float(), target)
    return F.cross_entropy(logits.float(), batch["label"], label_smoothing=label_smoothing)
