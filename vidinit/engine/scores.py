"""Probabilities of videos, and what they say of a model. Numpy only."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..data.rows import LabelKind, Rows
from .metrics import action_hits, best_actions, multi_label, pair_label, ranks, single_label

Average = Literal["softmax", "logits"]
"""What is averaged over the views of a video."""


def averaged(
    logits: np.ndarray,
    sizes: Sequence[int],
    *,
    kind: LabelKind = "single",
    average: Average = "softmax",
) -> np.ndarray:
    """Probabilities of videos from what a model said of their views.

    Args:
        logits: (..., V, K), those of several heads one after the other.
        sizes: number of logits of each head, K in all.
        kind: of the labels: classes of ``multi`` have a probability each (sigmoid), the others of
            a head share one (softmax).
        average: ``softmax``: the mean of the views' probabilities, which is what most papers'
            code does; ``logits``: the probabilities of the mean of the views' logits.

    Returns:
        float64 (..., K), not a number where a logit is none.
    """
    values = logits.astype(np.float64)
    if average == "logits":
        values = values.mean(axis=-2, keepdims=True)
    heads = np.split(values, np.cumsum(sizes)[:-1], axis=-1)
    to_probabilities = _sigmoid if kind == "multi" else _softmax
    with np.errstate(invalid="ignore"):
        each = [to_probabilities(head) for head in heads]
    return np.concatenate(each, axis=-1).mean(axis=-2)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(-np.abs(logits))  # at most 1
    return np.where(logits >= 0, 1.0, powers) / (1 + powers)


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

    def hits(self) -> dict[str, np.ndarray]:
        """Which videos are right, by the metrics that are a share of them.

        Returns:
            float64 (videos,) by name, 1 or 0, not a number for those that do not count: without
            scores, and of ``multi`` without a label.
        """
        keep = self.readable
        found = _hits(self.kind, self.probabilities[keep], self._nouns(keep), self.labels[keep])
        whole = {name: np.full(len(keep), np.nan) for name in found}
        for name, hit in found.items():
            whole[name][keep] = hit
        if self.kind == "multi":
            for hit in whole.values():
                hit[~self.labels.any(axis=1)] = np.nan
        return whole

    def _nouns(self, keep: np.ndarray) -> np.ndarray:
        return np.zeros((int(keep.sum()), 0)) if self.nouns is None else self.nouns[keep]

    def heads(self) -> dict[str, Scores]:
        """The ``verb`` and the ``noun`` of a ``pair`` as single labels; nothing of other kinds."""
        if self.nouns is None:
            return {}
        return {
            "verb": Scores(self.probabilities, self.labels[:, 0], self.missing),
            "noun": Scores(self.nouns, self.labels[:, 1], self.missing),
        }

    def confusion(self) -> np.ndarray:
        """Counts of ``single`` labels, int64 (true class, predicted class).

        Raises:
            ValueError: for other kinds, where one class is not taken for another.
        """
        if self.kind != "single":
            raise ValueError(f"there is no confusion matrix of {self.kind} labels")
        classes = self.probabilities.shape[1]
        matrix = np.zeros((classes, classes), dtype=np.int64)
        keep = self.readable & (self.labels >= 0)
        np.add.at(matrix, (self.labels[keep], self.probabilities[keep].argmax(axis=1)), 1)
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


def _hits(
    kind: LabelKind, scores: np.ndarray, nouns: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Which of the videos are right, bool (videos,), by metric."""
    if kind == "pair":
        pairs = action_hits(scores, nouns, labels)
        each = {f"_{name}": hit for name, hit in pairs.items()} | {"": pairs["action"]}
    elif kind == "multi":
        each = {"": np.take_along_axis(labels, ranks(scores)[:, :5], axis=1)}
    else:
        each = {"": ranks(scores)[:, :5] == labels[:, None]}
    counted = [(k, name, hit[:, :k]) for name, hit in each.items() for k in (1, 5)]
    return {f"top{k}{name}": np.asarray(best.any(axis=1)) for k, name, best in counted}


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


def labels_of(rows: Rows, num_classes: int) -> np.ndarray:
    """The labels of rows as `Scores` has them, which say what they are."""
    if rows.kind == "single":
        return np.array([-1 if r.label is None else r.label for r in rows.rows], dtype=np.int64)
    if rows.kind == "pair":
        pairs = [(-1, -1) if row.label is None else row.label for row in rows.rows]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)
    hot = np.zeros((len(rows), num_classes), dtype=bool)
    for video, row in enumerate(rows.rows):
        hot[video, list(row.label or ())] = True  # type: ignore[arg-type]
    return hot
