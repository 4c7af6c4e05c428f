"""Co-training: one trunk, several sources, images as clips of one frame (CoVeR-style).

Zhang et al., "Co-training Transformer with Videos and Images Improves Action Recognition", 2021.
With p_k the share of source k, h_k its head and f the trunk, the objective is

    L = sum over k of w_k * E_k [ CE( h_k( f(x) ), y ) ].

A step takes a batch of one source, drawn with share p_k (`use_one`; then w_k stands for it), or one
of every source at once (`use_all`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...data.label_spaces import LabelSpaces
from ...engine.task import Task
from ...zoo.base import VideoModel
from ...zoo.modify.freezing import batch_norms, hold_norms
from ..shared.heads import Heads
from ..shared.weighted_loss import DIVISOR, cross_entropy, share_right

PARTS = "parts"
"""The key of a batch that has a batch of every source in it, by source."""
NormPolicy = Literal["video_only_stats", "separate", "frozen"]


class CotrainTask(Task):
    """Cross-entropy of each source's batch on that source's head.

    Args:
        model: its trunk is shared; its head becomes the first source's.
        spaces: the heads, and which of their outputs are whose classes.
        image_sources: whose clips are of one frame.
        label_smoothing: share of the target spread over all classes of the head.
        weights: w_k of `use_all`, by source; 1 where it is missing.
        class_weights: of a source's own classes in its loss, by source; see
            `shared.weighted_loss`. A class of its head that is not its own counts 1.
        norms: of batch norms. ``video_only_stats``: image batches are normalized with their own
            statistics and do not move the running ones; ``separate``: each source has running ones;
            ``frozen``: nobody moves them, and all are normalized with them.
    """

    def __init__(
        self,
        model: VideoModel,
        spaces: LabelSpaces,
        *,
        image_sources: set[str],
        label_smoothing: float = 0.0,
        weights: Mapping[str, float] | None = None,
        class_weights: Mapping[str, Sequence[float]] | None = None,
        norms: NormPolicy = "video_only_stats",
    ) -> None:
        super().__init__(model)
        self.spaces = spaces
        self.image_sources = image_sources
        self.label_smoothing = label_smoothing
        self.weights = dict(weights or {})
        self.norms = norms
        sources = list(spaces.head)
        # The primary source's head is the model's own: the saved model is complete by itself, and
        # whatever takes a model takes a co-trained one.
        self.heads = Heads(model, {name: len(labels) for name, labels in spaces.classes.items()})
        self.statistics = SourceStatistics(model, sources[1:] if norms == "separate" else ())
        # Of a source whose classes are not simply its head's: they go with the task to its device.
        self._outputs = {s: f"outputs{n}" for n, s in enumerate(sources) if not spaces.is_whole(s)}
        for source, name in self._outputs.items():
            self.register_buffer(name, torch.tensor(spaces.outputs[source]), persistent=False)
        self._weighted = {s: f"weights{n}" for n, s in enumerate(class_weights or {})}
        for source, name in self._weighted.items():
            whole = torch.ones(len(spaces.classes[spaces.head[source]]))
            whole[spaces.outputs[source]] = torch.tensor((class_weights or {})[source])
            self.register_buffer(name, whole, persistent=False)
        model.classes = next(iter(spaces.classes.values()))

    def train(self, mode: bool = True) -> CotrainTask:
        """Train mode, but for frozen norms."""
        super().train(mode)
        if self.norms == "frozen":
            hold_norms(self.model)
        return self

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses by source.

        Args:
            batch: of one source, with ``clip``, ``label`` (``target`` where it was mixed) and
                ``source``; or with a batch of every source under `PARTS`, whose losses are
                weighted. That is one call: data-parallel training sees all of a step at once.
        """
        self.right = {}
        if PARTS in batch:
            return {
                source: self._loss(part) * self.weights.get(source, 1.0)
                for source, part in batch[PARTS].items()
            }
        # The heads of other sources are not touched, not even by a loss of zero: with gradients of
        # zero AdamW's momentum and decay would go on moving them.
        return {batch["source"]: self._loss(batch)}

    def logits(self, clip: Tensor, source: str) -> Tensor:
        """(B, 3, T, H, W) clips of a source to the logits of its head, (B, its outputs)."""
        with self.statistics_of(source):
            embedding = self.model.embed(clip)
        return self.heads.logits(self.model, embedding, self.spaces.head[source])

    def outputs_of(self, source: str) -> Tensor | None:
        """Which outputs of its head are a source's classes; None: all of them, in order."""
        name = self._outputs.get(source)
        return None if name is None else self.get_buffer(name)

    def _loss(self, batch: dict[str, Any]) -> Tensor:
        source = batch["source"]
        logits, outputs = self.logits(batch["clip"], source), self.outputs_of(source)
        label, target = batch["label"], batch.get("target")
        if outputs is not None:
            label = outputs[label]
            if target is not None:
                target = target.new_zeros(logits.shape).index_add_(1, outputs, target)
        if target is None:
            self.right[f"top1_{source}"] = share_right(logits, label)
        return cross_entropy(
            logits,
            label,
            target=target,
            label_smoothing=self.label_smoothing,
            weight=self.get_buffer(self._weighted[source]) if source in self._weighted else None,
            divisor=batch[DIVISOR][0] if DIVISOR in batch else None,
        )

    @contextlib.contextmanager
    def statistics_of(self, source: str) -> Any:
        """Inside, batch norms follow the policy for a batch of this source."""
        with contextlib.ExitStack() as stack:
            if self.norms == "separate":
                stack.enter_context(self.statistics.of(source))
            # Images have other statistics than videos, and the model is for videos.
            elif source in self.image_sources:
                stack.enter_context(unmoved_statistics(self.model))
            yield

    def classifier(self, source: str) -> nn.Module:
        """From clips to the logits of one source's own classes, in their order."""
        return _OneSource(self, source)

    def save_options(self) -> dict[str, Any]:
        """Arguments of `checkpoint.save_model` beside the model and the folder."""
        spaces = self.spaces
        return {
            "heads": self.heads.by_name(),
            "statistics": self.statistics.saved(),
            "head_classes": spaces.names,
            "merged": {
                source: {"head": head, "outputs": spaces.outputs[source]}
                for source, head in spaces.head.items()
                if head != source
            },
        }


class _OneSource(nn.Module):
    def __init__(self, task: CotrainTask, source: str) -> None:
        super().__init__()
        self.task, self.source = task, source

    def forward(self, clip: Tensor) -> Tensor:
        logits = self.task.logits(clip, self.source)
        outputs = self.task.outputs_of(self.source)
        return logits if outputs is None else logits[:, outputs]


class SourceStatistics(nn.Module):
    """Running statistics of batch norms for each of several sources; gains and biases are shared.

    Args:
        model: its own statistics are the first source's.
        sources: names of the others.
    """

    def __init__(self, model: nn.Module, sources: Sequence[str]) -> None:
        super().__init__()
        self._norms = batch_norms(model)  # a list of tuples: they are the model's, not this one's
        self.names = list(sources)
        for place in range(len(self.names)):
            for number, (_, norm) in enumerate(self._norms):
                for key, buffer in norm.named_buffers(recurse=False):
                    self.register_buffer(_key(place, number, key), buffer.detach().clone())

    @contextlib.contextmanager
    def of(self, source: str) -> Iterator[None]:
        """Inside, the model's batch norms have, and move, the statistics of this source."""
        if source not in self.names:
            yield
            return
        place = self.names.index(source)
        # The buffers themselves are exchanged, not their values, so that the source's are moved.
        found = [(norm, dict(norm._buffers)) for _, norm in self._norms]
        for number, (norm, own) in enumerate(found):
            for key in own:
                norm._buffers[key] = self._buffers[_key(place, number, key)]
        try:
            yield
        finally:
            for norm, own in found:
                norm._buffers.update(own)

    def saved(self) -> dict[str, dict[str, Tensor]]:
        """By source, the tensors that its model has in place of the first source's, by name."""
        return {
            source: {
                f"{name}.{key}": self._buffers[_key(place, number, key)]  # type: ignore[misc]
                for number, (name, norm) in enumerate(self._norms)
                for key in norm._buffers
            }
            for place, source in enumerate(self.names)
        }


def _key(place: int, number: int, key: str) -> str:
    return f"source{place}_norm{number}_{key}"


@contextlib.contextmanager
def unmoved_statistics(model: nn.Module) -> Iterator[None]:
    """Batch norms normalize with the batch's statistics but do not move their running ones."""
    kept = [(norm, norm.momentum) for _, norm in batch_norms(model)]
    for norm, _ in kept:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in kept:
            norm.momentum = momentum
