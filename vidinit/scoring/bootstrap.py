"""How far figures would move with other videos: the bootstrap (Efron, Ann. Statist. 1979)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..data.views import BOOTSTRAP, rng
from .scores import Scores

Weighted = Callable[[np.ndarray], dict[str, float]]


def intervals(scores: Scores, *, resamples: int, seed: int = 0) -> dict[str, list[float]]:
    """95 % percentile intervals of the metrics of `Scores.metrics`.

    Args:
        scores: of videos; the readable ones are drawn from.
        resamples: how often as many videos are drawn as there are, with replacement; 0 for none.
        seed: of the draws.

    Returns:
        [low, high] by metric; nothing where there are no videos or no resamples.
    """
    metrics = weighted_metrics(scores)
    found = [metrics(weights) for weights in draws(int(scores.readable.sum()), resamples, seed)]
    return _between(found)


def gains(
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
    found, classes = [], []
    for weights in draws(len(here.labels), resamples, seed):
        one, other = (function(weights) for function in metrics)
        found.append({name: one[name] - other[name] for name in one})
        if each is not None:
            classes.append(each[0](weights) - each[1](weights))
    if not classes:
        return _between(found), np.zeros((0, 2))
    return _between(found), np.nanpercentile(np.array(classes), (2.5, 97.5), axis=0).T


def draws(videos: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each video is drawn, int64 (videos,), once for each resample."""
    for number in range(resamples if videos else 0):
        drawn = rng(seed, 0, number, stream=BOOTSTRAP).integers(0, videos, videos)
        yield np.bincount(drawn, minlength=videos)


def weighted_metrics(scores: Scores) -> Weighted:
    """The metrics of scores as a function of how often each readable video counts."""
    keep = scores.readable
    hits = {name: hit[keep] for name, hit in scores.hits().items()}
    labels = scores.labels[keep]
    precisions = class_precisions(scores) if scores.kind == "multi" else None

    def metrics(weights: np.ndarray) -> dict[str, float]:
        found = {}
        if precisions is not None:
            each = precisions(weights)
            found["map"] = float(np.nanmean(each)) if not np.isnan(each).all() else 0.0
        for name, hit in hits.items():
            counted = weights @ ~np.isnan(hit)
            found[name] = float(weights @ np.nan_to_num(hit) / counted) if counted else 0.0
        if scores.kind == "single":
            _, classes = np.unique(labels, return_inverse=True)
            drawn = np.bincount(classes, weights)
            right = np.bincount(classes, weights * hits["top1"])
            there = drawn > 0
            found["mean_class_accuracy"] = float(np.mean(right[there] / drawn[there]))
        return found

    return metrics


def class_precisions(scores: Scores) -> Callable[[np.ndarray], np.ndarray]:
    """Average precisions as a function of how often each readable video counts.

    Returns:
        From weights to float64 (classes,) as `scores.average_precision` defines them; not a number
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
        taken, right = np.cumsum(counted, axis=0), np.cumsum(counted * true, axis=0)
        with np.errstate(invalid="ignore"):
            share = np.nan_to_num(right / taken)
            at = np.take_along_axis(share, last, axis=0)
            return np.asarray((counted * true * at).sum(axis=0) / right[-1])

    return precisions


def _between(found: list[dict[str, float]]) -> dict[str, list[float]]:
    return {
        name: np.percentile([one[name] for one in found], (2.5, 97.5)).tolist()
        for name in (found[0] if found else ())
    }
