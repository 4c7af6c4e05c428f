"""Probabilities of videos, and what they say of a model. Numpy only."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.rows import LabelKind, Rows
from ..zoo.probabilities import best_actions, ranks


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


WATCH: dict[LabelKind, str] = {"single": "top1", "multi": "map", "pair": "top1"}
"""The metric that decides which epoch of a training is best."""


def single_label(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """top1, top5 and mean_class_accuracy (over the classes that occur), fractions of the videos.

    Args:
        scores: (videos, classes), higher is more likely.
        labels: class ids, int64 (videos,).
    """
    if not len(labels):
        return {"top1": 0.0, "top5": 0.0, "mean_class_accuracy": 0.0}
    order = ranks(scores)
    hit = order[:, 0] == labels
    per_class = [float(hit[labels == c].mean()) for c in np.unique(labels)]
    return {
        "top1": float(hit.mean()),
        "top5": float((order[:, :5] == labels[:, None]).any(axis=1).mean()),
        "mean_class_accuracy": float(np.mean(per_class)),
    }


def multi_label(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean average precision ``map``; ``top1`` and ``top5`` are hit@1 and hit@5.

    hit@k is the share of the videos, of those with a label, that have one of their labels among
    the k most likely classes.

    Args:
        scores: (videos, classes), higher is more likely.
        labels: which classes a video has, bool (videos, classes).
    """
    occurring = np.flatnonzero(labels.any(axis=0))
    if not len(occurring):
        return {"map": 0.0, "top1": 0.0, "top5": 0.0}
    precisions = [average_precision(scores[:, c], labels[:, c]) for c in occurring]
    labelled = labels.any(axis=1)
    hits = np.take_along_axis(labels[labelled], ranks(scores[labelled])[:, :5], axis=1)
    return {
        "map": float(np.mean(precisions)),
        "top1": float(hits[:, 0].mean()),
        "top5": float(hits.any(axis=1).mean()),
    }


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the precision-recall curve of one class, without interpolation.

    With the thresholds t_1 > t_2 > ... at the distinct scores, and P_n and R_n the precision and
    the recall of the videos scored t_n or more, AP = sum_n (R_n - R_{n-1}) P_n (scikit-learn's
    definition). Videos of equal score are taken together.

    Args:
        scores: (videos,), higher is more likely.
        positive: which of them have the class, bool (videos,); at least one.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of each distinct score
    true = np.cumsum(positive[order])[last]
    precision = true / (last + 1)
    return float(np.sum(np.diff(true, prepend=0) * precision) / true[-1])


def pair_label(verbs: np.ndarray, nouns: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracies of actions (``top1`` is ``top1_action``, ``top5`` likewise), verbs and nouns.

    Actions are ranked by the probability of the verb times that of the noun, and are right when
    both are (Damen et al., "Rescaling Egocentric Vision", IJCV 2022).

    Args:
        verbs: probabilities, (videos, verbs).
        nouns: probabilities, (videos, nouns).
        labels: ids of verb and noun, int64 (videos, 2).
    """
    names = ("action", "verb", "noun")
    if not len(labels):
        hits = {name: np.zeros((1, 5), dtype=bool) for name in names}
    else:
        hits = action_hits(verbs, nouns, labels)
    top1 = {name: float(hit[:, 0].mean()) for name, hit in hits.items()}
    top5 = {name: float(hit.any(axis=1).mean()) for name, hit in hits.items()}
    return {
        "top1": top1["action"],
        "top5": top5["action"],
        **{f"top1_{name}": value for name, value in top1.items()},
        **{f"top5_{name}": value for name, value in top5.items()},
    }


def action_hits(verbs: np.ndarray, nouns: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Whether the k-th best ``action``, ``verb`` and ``noun`` is the right one.

    Args:
        verbs, nouns, labels: as for `pair_label`.

    Returns:
        bool (videos, 5) by name; fewer columns where there are fewer.
    """
    best = best_actions(verbs, nouns, 5)[0]
    return {
        "action": (best == labels[:, None]).all(axis=2),
        "verb": ranks(verbs)[:, :5] == labels[:, :1],
        "noun": ranks(nouns)[:, :5] == labels[:, 1:],
    }
