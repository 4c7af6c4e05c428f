"""Supervised classification: one class a clip, any number of them, or a verb and a noun."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...data.rows import LabelKind
from ...engine.task import Task
from ...errors import UsageError
from ...zoo.base import VideoModel
from ...zoo.pair import NOUN, VERB, PairModel
from ..shared.heads import new_head
from ..shared.weighted_loss import DIVISOR, classification_loss, cross_entropy, share_right


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
        class_weights: of the classes, for each column of the labels (a pair has two, else there is
            one); see `shared.weighted_loss`. None: all count alike.

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
        class_weights: Sequence[Sequence[float]] | None = None,
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
        # Buffers, so that they go with the task to its device.
        for column, weights in enumerate(class_weights or ()):
            self.register_buffer(f"weights{column}", torch.tensor(weights), persistent=False)
        self._weighted = class_weights is not None
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
        self.right = {} if "target" in batch else {"top1": share_right(logits, batch["label"])}
        if self.kind == "pair":
            return {
                head: cross_entropy(
                    logits[head],
                    batch["label"][:, column],
                    label_smoothing=self.label_smoothing,
                    weight=self.weights(column),
                    divisor=batch[DIVISOR][column] if DIVISOR in batch else None,
                )
                for column, head in enumerate((VERB, NOUN))
            }
        loss = classification_loss(
            logits,
            batch,
            binary=self.binary,
            label_smoothing=self.label_smoothing,
            weight=self.weights(0),
        )
        return {"loss": loss}

    def weights(self, column: int) -> Tensor | None:
        """Weights of the classes of a column of the labels, float (C,); None for none."""
        return self.get_buffer(f"weights{column}") if self._weighted else None

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
