"""Scores of videos, shared out among processes, and what they say of a model."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..data.loading.datasets import EvalDataset
from ..data.loading.loader import eval_loader
from ..data.pixels.batch import normalize
from ..data.rows import LabelKind, Rows
from ..data.views import Sampling
from ..zoo.base import ClipSpec
from .metrics import best_actions, multi_label, pair_label, single_label
from .together import of_all

if TYPE_CHECKING:
    from ..data.loading.watchdog import Quarantine

_NO_NUMBER = "the model's scores of it are not numbers"


@dataclass
class Scores:
    """Probabilities per video, averaged over its views.

    Attributes:
        probabilities: float64 (videos, classes), in the order of the rows; NaN where missing. Of a
            ``pair`` they are the verbs'.
        labels: int64 (videos,), -1 for none; of ``multi`` bool (videos, classes); of a ``pair``
            int64 (videos, 2).
        missing: (path, reason) of videos that have no scores; they are not counted.
        kind: of the labels.
        nouns: the second probabilities of a ``pair``, float64 (videos, nouns).
    """

    probabilities: np.ndarray
    labels: np.ndarray
    missing: list[tuple[str, str]]
    kind: LabelKind = "single"
    nouns: np.ndarray | None = None

    @property
    def readable(self) -> np.ndarray:
        """Which videos have scores: bool (videos,)."""
        return ~np.isnan(self.probabilities).any(axis=1)

    def metrics(self) -> dict[str, float]:
        """Fractions of the videos that have scores, 0 to 1; all of them have ``top1`` and ``top5``.

        ``single``: also mean_class_accuracy. ``multi``: ``map``, and top1 and top5 are hit@1 and
        hit@5. ``pair``: top1 and top5 are the action's, also by themselves (``top1_action``,
        ``top1_verb``, ``top1_noun``, and ``top5_``). See `metrics`.
        """
        keep = self.readable
        scores, labels = self.probabilities[keep], self.labels[keep]
        if self.kind == "multi":
            return multi_label(scores, labels)
        if self.nouns is not None:
            return pair_label(scores, self.nouns[keep], labels)
        return single_label(scores, labels)

    def confusion(self) -> np.ndarray:
        """Counts, int64 (true class, predicted class); of the verbs of a ``pair``.

        Raises:
            ValueError: for ``multi``, where one class is not taken for another.
        """
        if self.kind == "multi":
            raise ValueError("there is no confusion of several classes a video")
        classes = self.probabilities.shape[1]
        matrix = np.zeros((classes, classes), dtype=np.int64)
        keep = self.readable
        labels = self.labels[keep] if self.nouns is None else self.labels[keep, 0]
        np.add.at(matrix, (labels, self.probabilities[keep].argmax(axis=1)), 1)
        return matrix

    def predictions(
        self, classes: Sequence[str], nouns: Sequence[str] = ()
    ) -> Iterator[tuple[str, str, str]]:
        """(label, prediction, probability) of each video as predictions.csv has them.

        The prediction is the most probable class; of a ``pair`` the most probable action, as its
        verb, a space and its noun. Several labels of a video stand in one cell, apart by ``|``.
        What is not known is empty.
        """
        for i, ok in enumerate(self.readable):
            label = self._label(i, classes, nouns)
            if not ok:
                yield label, "", ""
            elif self.nouns is None:
                best = int(self.probabilities[i].argmax())
                yield label, classes[best], f"{self.probabilities[i, best]:.6f}"
            else:
                ids, product = best_actions(self.probabilities[i : i + 1], self.nouns[i : i + 1], 1)
                verb, noun = map(int, ids[0, 0])
                yield label, f"{classes[verb]} {nouns[noun]}", f"{product[0, 0]:.6f}"

    def _label(self, video: int, classes: Sequence[str], nouns: Sequence[str]) -> str:
        if self.kind == "multi":
            return "|".join(classes[i] for i in np.flatnonzero(self.labels[video]).tolist())
        first, *second = np.atleast_1d(self.labels[video]).tolist()
        if first < 0:
            return ""
        return f"{classes[first]} {nouns[second[0]]}" if second else classes[first]


def confusion_of(folder: Path, classes: list[str]) -> np.ndarray:
    """Counts (true class, predicted class) from an evaluation folder's predictions.csv."""
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["prediction"]:
                matrix[classes.index(row["label"]), classes.index(row["prediction"])] += 1
    return matrix


def wilson(rate: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a fraction measured on ``count`` videos (Wilson's score interval)."""
    if count == 0:
        return 0.0, 1.0
    spread = z * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    center = rate + z**2 / (2 * count)
    scale = 1 + z**2 / count
    return float((center - spread) / scale), float((center + spread) / scale)


def views_of(
    rows: Rows,
    spec: ClipSpec,
    *,
    clips: int = 1,
    crops: Literal[1, 3] = 1,
    reader: str = "auto",
    decode_side: int | None = None,
) -> EvalDataset:
    """The views of videos that a model with this specification is to see."""
    return EvalDataset(
        rows,
        sampling=Sampling(spec.frames, spec.stride, spec.sampling, spec.short),
        size=spec.size,
        crop_pct=spec.crop_pct,
        interpolation="bicubic" if spec.interpolation == "bicubic" else "bilinear",
        clips=clips,
        crops=crops,
        flow=spec.flow,
        reader=reader,
        decode_side=decode_side,
    )


@torch.no_grad()
def probabilities_of(model: nn.Module, views: Tensor, spec: ClipSpec) -> Tensor:
    """What a model in eval mode says of videos, averaged over their views.

    Args:
        model: from normalized clips to logits, or to logits by head; a `VideoModel` of ``multi``
            labels gives each class a probability of its own (sigmoid), all others share one
            (softmax).
        views: uint8 (B, V, T, S, S, C), on the model's device.
        spec: how the clips are normalized.

    Returns:
        float64 (B, classes), the heads' classes one after the other.
    """
    outputs = model(normalize(views.flatten(0, 1), spec.mean, spec.std))
    heads = outputs.values() if isinstance(outputs, dict) else [outputs]
    if getattr(model, "label_kind", "single") == "multi":
        each = [logits.double().sigmoid() for logits in heads]
    else:
        each = [logits.double().softmax(dim=1) for logits in heads]
    return torch.cat(each, dim=1).unflatten(0, views.shape[:2]).mean(dim=1)


def score(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    *,
    num_classes: int,
    **options: Any,
) -> Scores:
    """Score every video once, whatever the number of processes; all of them return the same.

    Args:
        model: from clips (B, 3, T, H, W) to logits; for rows of pairs a `tasks.heads.PairModel`.
        rows: labelled videos.
        spec: how clips are cut and normalized.
        accelerator: gives the device, the precision and the processes.
        num_classes: number of logits; of the verbs' where labels are pairs.
        options: as for `said_of`.
    """
    found = said_of(model, rows, spec, accelerator, **options)
    return _scores(rows, num_classes, found)


def score_each(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    *,
    names: Sequence[str],
    num_classes: int,
    **options: Any,
) -> dict[str, Scores]:
    """`score` of several classifiers over one pass.

    Args:
        model: from clips (B, 3, T, H, W) to logits (B, num_classes) of each, by name.
        rows, spec, accelerator: as for `score`; the rows are no pairs.
        names: of the classifiers, in the model's order.
        num_classes: number of logits of each.
        options: as for `said_of`.
    """
    found = said_of(model, rows, spec, accelerator, **options)
    return {
        name: _scores(rows, num_classes, found, start=number * num_classes)
        for number, name in enumerate(names)
    }


def said_of(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    *,
    clips: int = 1,
    crops: Literal[1, 3] = 1,
    batch_size: int = 8,
    workers: int = 0,
    deadline: float = 60.0,
    reader: str = "auto",
    decode_side: int | None = None,
    quarantine: Quarantine | None = None,
) -> list[tuple[int, np.ndarray | str]]:
    """What a model says of every video, once, whatever the number of processes.

    Args:
        model: as `probabilities_of` takes it.
        rows: videos.
        spec: how clips are cut and normalized.
        accelerator: gives the device, the precision and the processes.
        clips, crops: views of a video; its probabilities are averaged over them.
        batch_size: clips of one forward pass, about.
        workers: decoding processes.
        deadline: seconds after which a decoder that gives no answer is killed.
        reader: what decodes, as `data.readers.open_video` takes it.
        decode_side: short side of the frames out of the decoder, in pixels.
        quarantine: files that are not to be tried, and where those are noted that hang or crash.

    Returns:
        (row, its probabilities, float64, or why it has none), the same on all processes.
    """
    dataset = views_of(rows, spec, clips=clips, crops=crops, reader=reader, decode_side=decode_side)
    loader = eval_loader(
        dataset,
        # Videos of which all frames are taken have different lengths and fit in no batch.
        batch_size=1 if spec.sampling == "all" else max(1, batch_size // (clips * crops)),
        workers=workers,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        deadline=deadline,
        quarantine=quarantine,
    )
    was_training = model.training
    model.eval()
    mine: list[tuple[int, np.ndarray | str]] = []
    for batch in loader:
        with accelerator.autocast():
            values = probabilities_of(model, batch["views"].to(accelerator.device), spec)
        for index, error, found in zip(
            batch["index"].tolist(), batch["error"], values.cpu().numpy(), strict=True
        ):
            mine.append((index, found if error is None else error))
    model.train(was_training)
    return [item for part in of_all(accelerator, mine) for item in part]


def _scores(
    rows: Rows, num_classes: int, found: list[tuple[int, np.ndarray | str]], *, start: int = 0
) -> Scores:
    """Scores from what `said_of` found, which are the probabilities from ``start`` on."""
    width = num_classes + len(rows.nouns or ())
    values = np.full((len(rows), width), np.nan)
    missing = []
    for index, result in sorted(found, key=lambda item: item[0]):
        numbers = result if isinstance(result, str) else result[start : start + width]
        if isinstance(numbers, str) or not np.isfinite(numbers).all():
            reason = numbers if isinstance(numbers, str) else _NO_NUMBER
            missing.append((rows.rows[index].path, reason))
        else:
            values[index] = numbers
    return Scores(
        values[:, :num_classes],
        _labels(rows, num_classes),
        missing,
        rows.kind,
        values[:, num_classes:] if rows.kind == "pair" else None,
    )


def _labels(rows: Rows, num_classes: int) -> np.ndarray:
    """The labels of rows as `Scores` has them."""
    if rows.kind == "single":
        return np.array([-1 if r.label is None else r.label for r in rows.rows], dtype=np.int64)
    if rows.kind == "pair":
        pairs = [(-1, -1) if row.label is None else row.label for row in rows.rows]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)
    hot = np.zeros((len(rows), num_classes), dtype=bool)
    for video, row in enumerate(rows.rows):
        hot[video, list(row.label or ())] = True  # type: ignore[arg-type]
    return hot
