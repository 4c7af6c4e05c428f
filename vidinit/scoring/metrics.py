"""Probabilities of videos, their metrics, and how sure these are.

Numpy only: saved predictions are read and scored again without importing torch.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.rows import LabelKind, Rows
from ..data.views import BOOTSTRAP, rng
from ..zoo.probabilities import best_actions, ranks

# Of pairs top1 is that of the action: see `pair_label`.
WATCH: dict[LabelKind, str] = {"single": "top1", "multi": "map", "pair": "top1"}
"""The metric that decides which epoch of a training is best."""
CHOICE = "choice"
"""The same one on training clips that were held out to choose among several probes, and epochs."""


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
        """True where a video has scores: bool (videos,)."""
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

    def logged(self) -> dict[str, float]:
        """The metrics that a training logs: no top-5 of five classes or fewer, which is 1."""
        found = self.metrics()
        if self.nouns is None and self.probabilities.shape[1] <= 5:
            del found["top5"]
        return found

    def loss(self) -> float:
        """The mean over the videos of -log p of the label, p the mean probability of its views.

        ``multi``: the mean over videos and classes of the binary cross-entropy. ``pair``: the sum
        of those of verb and noun. Videos without a label do not count; not a number where none has
        one.
        """
        if self.nouns is not None:
            return sum(head.loss() for head in self.heads().values())
        keep = self.readable
        scores, labels = np.clip(self.probabilities[keep], 1e-12, 1.0), self.labels[keep]
        if self.kind == "multi":
            others = np.clip(1 - self.probabilities[keep], 1e-12, 1.0)
            each = -np.log(np.where(labels, scores, others))
        else:
            known = np.flatnonzero(labels >= 0)
            each = -np.log(scores[known, labels[known]])
        return float(each.mean()) if each.size else float("nan")

    def most_predicted(self) -> float:
        """Share of the videos whose most likely class is the one that most of them get, 0 to 1.

        Of a ``pair`` it is the verb's.
        """
        best = self.probabilities[self.readable].argmax(axis=1)
        return float(np.bincount(best).max() / len(best)) if len(best) else 0.0

    def hits(self) -> dict[str, np.ndarray]:
        """Videos that are right, by the metrics that are a share of them.

        Returns:
            float64 (videos,) by name, 1 or 0, not a number for those that do not count: without
            scores, and of ``multi`` without a label.
        """
        keep = self.readable
        hits = _hits(self.kind, self.probabilities[keep], self._nouns(keep), self.labels[keep])
        padded = {name: np.full(len(keep), np.nan) for name in hits}
        for name, hit in hits.items():
            padded[name][keep] = hit
        if self.kind == "multi":
            for hit in padded.values():
                hit[~self.labels.any(axis=1)] = np.nan
        return padded

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


def labels_of(rows: Rows, num_classes: int) -> np.ndarray:
    """The labels of rows in the form of `Scores.labels`."""
    if rows.kind == "single":
        return np.array([-1 if r.label is None else r.label for r in rows.rows], dtype=np.int64)
    if rows.kind == "pair":
        pairs = [(-1, -1) if row.label is None else row.label for row in rows.rows]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)
    hot = np.zeros((len(rows), num_classes), dtype=bool)
    for video, row in enumerate(rows.rows):
        hot[video, list(row.label or ())] = True  # type: ignore[arg-type]
    return hot


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
    labeled = labels.any(axis=1)
    hits = np.take_along_axis(labels[labeled], ranks(scores[labeled])[:, :5], axis=1)
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
    """True where the k-th best ``action``, ``verb`` or ``noun`` is the right one.

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


def _hits(
    kind: LabelKind, scores: np.ndarray, nouns: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Videos that are right, bool (videos,), by metric."""
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


def intervals(scores: Scores, *, resamples: int, seed: int = 0) -> dict[str, list[float]]:
    """95 % percentile intervals of the metrics of `Scores.metrics`, by the bootstrap.

    They say how far the metrics would move with other videos (Efron, Ann. Statist. 1979).

    Args:
        scores: of videos; the readable ones are drawn from.
        resamples: how often as many videos are drawn as there are, with replacement; 0 for none.
        seed: of the draws.

    Returns:
        [low, high] by metric; nothing where there are no videos or no resamples.
    """
    metrics, videos = weighted_metrics(scores), int(scores.readable.sum())
    return _percentiles([metrics(counts) for counts in resample_counts(videos, resamples, seed)])


def gain_intervals(
    here: Scores, there: Scores, *, resamples: int, seed: int = 0
) -> tuple[dict[str, list[float]], np.ndarray]:
    """95 % intervals of differences, ``here`` less ``there``; both see the same draws.

    Args:
        here, there: scores of the same videos, all of them readable.
        resamples, seed: as for `intervals`.

    Returns:
        [low, high] by metric, and of ``multi`` labels the intervals of each class's average
        precision, (classes, 2) in the order of ``here``; of other labels (0, 2).
    """
    metrics = weighted_metrics(here), weighted_metrics(there)
    each = (class_precisions(here), class_precisions(there)) if here.kind == "multi" else None
    differences, classes = [], []
    for weights in resample_counts(len(here.labels), resamples, seed):
        one, other = (function(weights) for function in metrics)
        differences.append({name: one[name] - other[name] for name in one})
        if each is not None:
            classes.append(each[0](weights) - each[1](weights))
    if not classes:
        return _percentiles(differences), np.zeros((0, 2))
    return _percentiles(differences), np.nanpercentile(np.array(classes), (2.5, 97.5), axis=0).T


def resample_counts(videos: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each video is drawn, int64 (videos,), for one resample after the other.

    Each resample has a generator of its own, so that a smaller number of them is the beginning of
    a larger one, and two models that are compared see the same draws.
    """
    for number in range(resamples if videos else 0):
        drawn = rng(seed, 0, number, stream=BOOTSTRAP).integers(0, videos, videos)
        yield np.bincount(drawn, minlength=videos)


WeightedMetrics = Callable[[np.ndarray], dict[str, float]]
"""Metrics as a function of how often each readable video counts, int64 (videos,)."""


def weighted_metrics(scores: Scores) -> WeightedMetrics:
    """`Scores.metrics`, prepared once for the bootstrap to compute again and again."""
    keep = scores.readable
    hits = {name: hit[keep] for name, hit in scores.hits().items()}
    labels = scores.labels[keep]
    precisions = class_precisions(scores) if scores.kind == "multi" else None

    def metrics(weights: np.ndarray) -> dict[str, float]:
        values = {}
        if precisions is not None:
            each = precisions(weights)
            values["map"] = float(np.nanmean(each)) if not np.isnan(each).all() else 0.0
        for name, hit in hits.items():
            counted = weights @ ~np.isnan(hit)
            values[name] = float(weights @ np.nan_to_num(hit) / counted) if counted else 0.0
        if scores.kind == "single":
            _, classes = np.unique(labels, return_inverse=True)
            drawn = np.bincount(classes, weights)
            right = np.bincount(classes, weights * hits["top1"])
            occurring = drawn > 0
            values["mean_class_accuracy"] = float(np.mean(right[occurring] / drawn[occurring]))
        return values

    return metrics


def class_precisions(scores: Scores) -> Callable[[np.ndarray], np.ndarray]:
    """Average precisions as a function of how often each readable video counts.

    Returns:
        From weights to float64 (classes,) as `average_precision` defines them; not a number
        for classes without a video.
    """
    keep = scores.readable
    values, positive = scores.probabilities[keep], scores.labels[keep]
    order = np.argsort(-values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    true = np.take_along_axis(positive, order, axis=0)
    # Videos of equal score are taken together: each is ranked where the last of them stands.
    places = np.arange(len(values))[:, None]
    ends = np.append(ordered[:-1] != ordered[1:], np.ones((1, values.shape[1]), bool), axis=0)
    last = np.minimum.accumulate(np.where(ends, places, len(values))[::-1], axis=0)[::-1]

    def precisions(weights: np.ndarray) -> np.ndarray:
        counted = weights[order]
        ranked, correct = np.cumsum(counted, axis=0), np.cumsum(counted * true, axis=0)
        with np.errstate(invalid="ignore"):
            share = np.nan_to_num(correct / ranked)
            at = np.take_along_axis(share, last, axis=0)
            return np.asarray((counted * true * at).sum(axis=0) / correct[-1])

    return precisions


def _percentiles(samples: list[dict[str, float]]) -> dict[str, list[float]]:
    return {
        name: np.percentile([one[name] for one in samples], (2.5, 97.5)).tolist()
        for name in (samples[0] if samples else ())
    }
