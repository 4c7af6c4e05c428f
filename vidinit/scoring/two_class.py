"""One class against all others: precision, recall, F1, areas under curves, and a threshold.

Numpy only, as `metrics` is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError, suggest
from .metrics import Scores, average_precision, resample_counts, wilson

_POINTS = 400  # of a curve that is written down


@dataclass(frozen=True)
class Wish:
    """How the threshold is found; at most one of these is given.

    Attributes:
        threshold: itself, 0 to 1.
        precision: the lowest threshold of so high a precision, which has the highest recall.
        recall: of the thresholds of so high a recall that of the highest precision.
    """

    threshold: float | None = None
    precision: float | None = None
    recall: float | None = None


@dataclass(frozen=True)
class Operating:
    """Counts at each threshold there is, from the highest score down.

    Attributes:
        thresholds: the distinct scores, (N,); a video is found when it scores so much or more.
        found: how many videos are, (N,).
        true: how many of these have the class, (N,).
        positives, negatives: videos with the class and without.
    """

    thresholds: np.ndarray
    found: np.ndarray
    true: np.ndarray
    positives: int
    negatives: int

    @classmethod
    def of(cls, scores: np.ndarray, positive: np.ndarray) -> Operating:
        """From scores (videos,) and which videos have the class, bool (videos,)."""
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of equal scores
        true = np.cumsum(positive[order])[last]
        count = int(positive.sum())
        return cls(ordered[last], last + 1, true, count, len(positive) - count)

    @property
    def precision(self) -> np.ndarray:
        """Share of the found videos that have the class, (N,)."""
        return np.asarray(self.true / self.found)

    @property
    def recall(self) -> np.ndarray:
        """Share of the class's videos that are found, (N,)."""
        return np.asarray(self.true / max(self.positives, 1))

    @property
    def false_alarms(self) -> np.ndarray:
        """Share of the other videos that are found, (N,): the false positive rate."""
        return np.asarray((self.found - self.true) / max(self.negatives, 1))


def roc_area(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None
) -> float | None:
    """Area under the ROC curve.

    It is the probability that a video with the class scores more than one without, where equal
    scores count half (Hanley and McNeil, Radiology 1982).

    Args:
        scores: (videos,).
        positive: which have the class, bool (videos,).
        weights: how often each counts, (videos,); default: once.

    Returns:
        0 to 1; None where one of the two is missing.
    """
    counts = np.ones(len(scores)) if weights is None else weights.astype(float)
    return _area(np.unique(scores, return_inverse=True)[1], positive, counts)


def _area(place: np.ndarray, positive: np.ndarray, counts: np.ndarray) -> float | None:
    """`roc_area` from the place of each score among the distinct ones, int64 (videos,)."""
    with_class, without = counts * positive, counts * ~positive
    total = with_class.sum() * without.sum()
    if not total:
        return None
    hits, others = np.bincount(place, with_class), np.bincount(place, without)
    below = np.cumsum(others) - others
    return float((hits * (below + others / 2)).sum() / total)


def positive_class(
    labels: np.ndarray, classes: Sequence[str], name: str | None
) -> tuple[int, str] | None:
    """The class that is looked for, and why this one.

    Args:
        labels: class ids of the videos that count, int64 (videos,).
        classes: names.
        name: of the class; None: the rarer one of two, or the second where both are as frequent.

    Returns:
        Its id, and "named", "the rarer of the two" or "the second of the two"; None where there are
        not two classes and none is named.

    Raises:
        UsageError: there is no class of this name.
    """
    if name is not None:
        if name not in classes:
            hint = suggest(name, classes) or f"take one of {', '.join(classes[:10])}"
            raise UsageError(f"there is no class '{name}'", hint)
        return list(classes).index(name), "named"
    if len(classes) != 2:
        return None
    first, second = np.bincount(labels, minlength=2)[:2].tolist()
    if first == second:
        return 1, "the second of the two"
    return int(second < first), "the rarer of the two"


def two_class(
    scores: Scores,
    classes: Sequence[str],
    *,
    positive: str | None = None,
    wish: Wish | None = None,
    resamples: int = 0,
    seed: int = 0,
) -> dict[str, Any] | None:
    """How well one class is told from all others, at a threshold and over all thresholds.

    Args:
        scores: of videos with single labels.
        classes: names.
        positive: the class that is looked for, see `positive_class`.
        wish: how the threshold is found; default: 0.5.
        resamples, seed: for the interval of the area, as `metrics.intervals` takes them.

    Returns:
        ``{positive, because, videos, positives, threshold, reached, precision, recall, f1,
        false_alarms, accuracy, true_positives, false_positives, false_negatives, true_negatives,
        precision_interval, recall_interval, auc, auc_interval, average_precision, curve}``;
        ``reached`` is False where no threshold has the wanted precision, and then it is that of the
        highest. ``curve`` are points ``{threshold, precision, recall, false_alarms}``. None where
        `positive_class` is, no video counts, or the labels are not single.

    Raises:
        UsageError: there is no such class.
    """
    if scores.kind != "single":
        return None
    keep = scores.readable & (scores.labels >= 0)
    labels = scores.labels[keep]
    found = positive_class(labels, classes, positive)
    if found is None or not len(labels):
        return None
    place, because = found
    values, has_class = scores.probabilities[keep][:, place], labels == place
    curve = Operating.of(values, has_class)
    threshold, reached = choose_threshold(curve, wish or Wish())
    at = values >= threshold
    true, false = int((at & has_class).sum()), int((at & ~has_class).sum())
    missed = curve.positives - true
    precision = true / (true + false) if true + false else None
    recall = true / curve.positives if curve.positives else None
    return {
        "positive": classes[place],
        "because": because,
        "videos": len(labels),
        "positives": curve.positives,
        "threshold": threshold,
        "reached": reached,
        "precision": precision,
        "precision_interval": _interval(precision, true + false),
        "recall": recall,
        "recall_interval": _interval(recall, curve.positives),
        "f1": 2 * true / (2 * true + false + missed) if true + false + missed else None,
        "false_alarms": false / curve.negatives if curve.negatives else None,
        "accuracy": (true + curve.negatives - false) / len(labels),
        "true_positives": true,
        "false_positives": false,
        "false_negatives": missed,
        "true_negatives": curve.negatives - false,
        "auc": roc_area(values, has_class),
        "auc_interval": _area_interval(values, has_class, resamples, seed),
        "average_precision": average_precision(values, has_class) if curve.positives else None,
        "curve": _points(curve),
    }


def choose_threshold(curve: Operating, wish: Wish) -> tuple[float, bool]:
    """A threshold, and whether it has what is wished.

    It is rounded down to six digits, so that the scores it was chosen by are still found.
    """
    if wish.threshold is not None:
        return wish.threshold, True
    if wish.precision is not None:
        good = np.flatnonzero(curve.precision >= wish.precision)
        if len(good):
            return _down(curve.thresholds[good[-1]]), True
        return _down(curve.thresholds[int(curve.precision.argmax())]), False
    if wish.recall is not None:
        good = np.flatnonzero(curve.recall >= wish.recall)
        if not len(good):
            return 0.0, False
        return _down(curve.thresholds[good[int(curve.precision[good].argmax())]]), True
    return 0.5, True


def _down(value: float) -> float:
    return math.floor(value * 1e6) / 1e6


def _interval(rate: float | None, count: int) -> list[float] | None:
    return None if rate is None else list(wilson(rate, count))


def _area_interval(
    values: np.ndarray, positive: np.ndarray, resamples: int, seed: int
) -> list[float] | None:
    place = np.unique(values, return_inverse=True)[1]
    drawn = (
        _area(place, positive, counts) for counts in resample_counts(len(values), resamples, seed)
    )
    areas = [area for area in drawn if area is not None]  # a draw may have one class alone
    return None if not areas else [float(end) for end in np.percentile(areas, (2.5, 97.5))]


def _points(curve: Operating) -> list[dict[str, float]]:
    """The curve in a bounded number of points, the ends among them."""
    count = len(curve.thresholds)
    places = np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(int))
    names = ("thresholds", "precision", "recall", "false_alarms")
    columns: Mapping[str, list[float]] = {n: getattr(curve, n)[places].tolist() for n in names}
    return [
        {"threshold": t, "precision": p, "recall": r, "false_alarms": f}
        for t, p, r, f in zip(*(columns[name] for name in names), strict=True)
    ]
