"""The losses of action detection: the classes of boxes, and where the boxes should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...engine.task import Task
from ...zoo.detector import Detector

DIVISOR = "boxes_of_step"
"""The key of a batch with the number of boxes that its losses are divided by."""


class DetectTask(Task):
    """Losses of a batch of clips with boxes.

    ``loss``: of a detector of kind ``multi`` the binary cross-entropy, a mean over boxes and
    classes (N x C), as PySlowFast has it; of ``single`` the cross-entropy over the classes and the
    background, a mean over boxes. Where the detector moves boxes, that is ``loss_classes``, and
    ``loss_boxes`` stands beside it: smooth L1 of the moves to the true boxes, summed over the four
    numbers, over the number of boxes (Fast R-CNN, https://arxiv.org/abs/1504.08083, section 2.3,
    with one rule for all classes); boxes without an action are not moved.

    A mean is one over the boxes of the whole step, of all its batches and processes: how a step is
    cut into these does not change its loss. A step without a box costs 0.

    A detector with proposals of its own learns from those and the true boxes, as
    `KeyFrameProposals.sample` draws them, nobody being one class more of kind ``single`` and no
    class of ``multi``. Means are then over the boxes drawn in a batch, and two losses more are the
    region proposal network's: ``loss_objectness``, the binary cross-entropy of anchors, and
    ``loss_proposals``, smooth L1 of their moves (Faster R-CNN, section 3.1.2; torchvision's).

    Args:
        detector: what is trained: its head, and its trunk but for what no box depends on.
        frozen_trunk: train the head alone; the trunk stays in eval mode.
    """

    def __init__(self, detector: Detector, *, frozen_trunk: bool = False) -> None:
        super().__init__(detector.trunk)
        self.heads = detector.head
        self.proposals = detector.proposals
        # Not a module of this one: it would hold the trunk and the head a second time.
        self._detector = (detector,)
        self.frozen_trunk = frozen_trunk
        detector.freeze_unused()
        if frozen_trunk:
            self.model.requires_grad_(False)

    @property
    def detector(self) -> Detector:
        """The detector, which is trained."""
        return self._detector[0]

    def train(self, mode: bool = True) -> DetectTask:
        """Train mode, but for norms that are frozen, and a frozen trunk."""
        super().train(mode)
        if self.frozen_trunk:
            self.model.eval()
        return self

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            batch: ``clip`` (B, 3, T, H, W), normalized; ``boxes`` and ``goals`` float (B, N, 4),
                ``targets`` float (B, N, C) and ``valid`` bool (B, N), as a `KeyframeDataset` gives
                them; and `DIVISOR`, where it is not the whole step.
        """
        valid = batch["valid"]
        boxes, targets = numbered(batch["boxes"], valid), batch["targets"][valid]
        goals = batch["goals"][valid]
        count = batch.get(DIVISOR, max(1, len(boxes)))
        losses: dict[str, Tensor] = {}
        if self.proposals is not None:
            number = torch.nonzero(valid)[:, 0]
            boxes, goals, targets, losses = self.proposals.sample(
                batch["clip"], self.detector.spec, goals, number, targets
            )
            count = max(1, len(boxes))
        logits, moves = self.detector.outputs(batch["clip"], boxes)
        logits = logits.float()
        does = targets.sum(dim=1) > 0
        if self.detector.kind == "multi":
            costs = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
            costs = costs / targets.shape[1]
        else:
            label = torch.where(does, targets.argmax(dim=1), targets.shape[1])
            costs = F.cross_entropy(logits, label, reduction="sum")
        if moves is None:
            return {"loss": costs / count}
        # A box that lost its area has no scale that a move could be measured by.
        sides = torch.cat([boxes[:, 3:] - boxes[:, 1:3], goals[:, 2:] - goals[:, :2]], dim=1)
        moved = does & (sides > 1).all(dim=1)
        wanted = self.detector.deltas_to(boxes[moved], goals[moved])
        far = F.smooth_l1_loss(moves[moved].float(), wanted, reduction="sum")
        return {"classes": costs / count, "boxes": far / count, **losses}

    def head_parameters(self) -> set[str]:
        """Names of the parameters of the head on boxes, and of the one that proposes them."""
        new = ("heads.", "proposals.proposer.")
        return {name for name, _ in self.named_parameters() if name.startswith(new)}

    def classifiers(self) -> dict[str, nn.Module]:
        """The layer that gives the logits of boxes."""
        return {"": self.detector.head.classify}


def numbered(boxes: Tensor, valid: Tensor) -> Tensor:
    """(B, N, 4) boxes as (M, 5): the valid ones, with the number of their clip before."""
    clip = torch.nonzero(valid)[:, :1].to(boxes.dtype)
    return torch.cat([clip, boxes[valid]], dim=1)


def set_divisors(batches: Sequence[dict[str, Any]], accelerator: Any) -> None:
    """Give the batches of a step what each of them divides its losses by.

    All processes have to come by, each with its own batches of the step. The loop takes the mean
    over batches and processes, so that a batch divides by its share of the boxes of all.
    """
    if len(batches) == 1 and accelerator.num_processes == 1:
        return
    total = torch.tensor(float(sum(int(batch["valid"].sum()) for batch in batches)))
    total = total.to(accelerator.device)
    if accelerator.num_processes > 1:
        total = accelerator.reduce(total, reduction="sum")
    share = total.clamp(min=1) / (len(batches) * accelerator.num_processes)
    for batch in batches:
        batch[DIVISOR] = share
