"""Two models on the same videos, compared video by video."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import DataError
from .metrics import Scores, class_precisions, gain_intervals
from .predictions import Predictions


def compare(
    here: Predictions, there: Predictions, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Compare a model (``here``) with another (``there``) on the videos that both have scores of.

    Videos are the same if their absolute paths and segments are; classes if their names are.

    Args:
        here, there: predictions of the two, each with its own average over views.
        resamples, seed: of the bootstrap, see `metrics.gain_intervals`.

    Returns:
        ``model``, ``views`` and ``average`` of the other; ``videos`` compared; ``only_here`` and
        ``only_there``, how many only one has, and ``unscored``, how many both have and not both
        have scores of; ``metrics``, by name ``{here, there, gain, interval}``; ``mcnemar``, see
        `mcnemar`; ``classes``, a list of ``{class, videos, here, there, gain, interval}`` by
        accuracy (of pairs: of the verb; of several labels: by average precision), the largest gain
        first.

    Raises:
        DataError: labels of different kinds, or of different names for the same video, or no video
            that both have scores of.
    """
    places = check_comparable(here, there)
    both = [pair for pair in places if here.views[pair[0]] and there.views[pair[1]]]
    if not both:
        raise DataError(
            f"no video has scores of both {here.model} and {there.model}",
            "see which ones are missing, and why, in their results",
        )
    ours = _subset(here.scores(), [one for one, _ in both])
    theirs = _subset(there.scores(), [other for _, other in both])
    if ours.kind == "multi":
        theirs = _classes_in_order(theirs, here, there)
    spread, precisions = gain_intervals(ours, theirs, resamples=resamples, seed=seed)
    values = ours.metrics(), theirs.metrics()
    return {
        "model": there.model,
        "views": there.layout,
        "average": there.average,
        "videos": len(both),
        "only_here": len(here.rows) - len(places),
        "only_there": len(there.rows) - len(places),
        "unscored": len(places) - len(both),
        "metrics": {
            name: {**_gain(value, values[1][name]), "interval": spread.get(name)}
            for name, value in values[0].items()
        },
        "mcnemar": mcnemar(ours.hits()["top1"], theirs.hits()["top1"]),
        "classes": _gains_by_class(here.classes, ours, theirs, precisions),
    }


def check_comparable(here: Predictions, there: Predictions) -> list[tuple[int, int]]:
    """Places of the videos that both have, with scores or without.

    Raises:
        DataError: labels of different kinds, or of different names for the same video, or no video
            that both have.
    """
    if here.rows.kind != there.rows.kind:
        raise DataError(
            f"predictions of {there.model} are of labels of kind '{there.rows.kind}', these of "
            f"'{here.rows.kind}'",
            "compare evaluations on the same data",
        )
    places = _match(here, there)
    if not places:
        raise DataError(
            f"{here.data} and {there.data}, which {here.model} and {there.model} were scored on, "
            "have no video in common",
            "compare evaluations on the same files; they are matched by path and segment",
        )
    for one, other in places:
        _check_labels(here, there, one, other)
    return places


def _match(here: Predictions, there: Predictions) -> list[tuple[int, int]]:
    """Places of the videos that both have; one that is there twice is matched twice."""
    places = {key: place for place, key in enumerate(_numbered(there.keys))}
    return [(place, places[key]) for place, key in enumerate(_numbered(here.keys)) if key in places]


def _numbered(keys: Sequence[Hashable]) -> list[Hashable]:
    """Each key with how often it occurred before it."""
    seen: Counter[Hashable] = Counter()
    out: list[Hashable] = []
    for key in keys:
        out.append((key, seen[key]))
        seen[key] += 1
    return out


def _check_labels(here: Predictions, there: Predictions, one: int, other: int) -> None:
    ours, theirs = _label_names(here, one), _label_names(there, other)
    if ours != theirs:
        raise DataError(
            f"{here.rows.rows[one].path} is {' '.join(ours) or 'unlabelled'} here and "
            f"{' '.join(theirs) or 'unlabelled'} in the predictions of {there.model}",
            "compare evaluations with the same labels",
        )


def _label_names(predictions: Predictions, row: int) -> list[str]:
    """The names of a video's labels."""
    label, names = predictions.rows.rows[row].label, predictions.classes
    if label is None:
        return []
    if isinstance(label, int):
        return [names[label]]
    if predictions.rows.kind == "pair":
        return [names[label[0]], (predictions.rows.nouns or ())[label[1]]]
    return sorted(names[one] for one in label)


def _subset(scores: Scores, videos: list[int]) -> Scores:
    """The scores of some videos."""
    nouns = None if scores.nouns is None else scores.nouns[videos]
    return replace(
        scores,
        probabilities=scores.probabilities[videos],
        labels=scores.labels[videos],
        missing=[],
        nouns=nouns,
    )


def _classes_in_order(scores: Scores, here: Predictions, there: Predictions) -> Scores:
    """Scores of several labels a video with the classes in the order of the others."""
    places = {name: place for place, name in enumerate(there.classes)}
    if set(places) != set(here.classes):
        name = min(set(places) ^ set(here.classes))
        raise DataError(
            f"only one of {here.model} and {there.model} has a class '{name}'",
            "compare models of the same classes",
        )
    order = [places[name] for name in here.classes]
    return replace(
        scores, probabilities=scores.probabilities[:, order], labels=scores.labels[:, order]
    )


def _gain(here: float, there: float) -> dict[str, float]:
    return {"here": here, "there": there, "gain": here - there}


def _gains_by_class(
    names: list[str], here: Scores, there: Scores, precisions: np.ndarray
) -> list[dict[str, Any]]:
    """The gain of each class that has videos, the largest first."""
    rows = []
    if here.kind == "multi":
        whole = np.ones(len(here.labels), dtype=np.int64)
        one, other = class_precisions(here)(whole), class_precisions(there)(whole)
        for place, name in enumerate(names):
            if count := int(here.labels[:, place].sum()):
                gain = _gain(float(one[place]), float(other[place]))
                interval = precisions[place].tolist() if len(precisions) else None
                rows.append({"class": name, "videos": count, **gain, "interval": interval})
    else:
        metric = "top1" if here.kind == "single" else "top1_verb"
        labels = here.labels.reshape(len(here.labels), -1)[:, 0]
        right, left = here.hits()[metric], there.hits()[metric]
        for place in np.unique(labels[labels >= 0]).tolist():
            ours, others = right[labels == place], left[labels == place]
            gain = _gain(float(ours.mean()), float(others.mean()))
            interval = paired_interval(ours, others)
            rows.append({"class": names[place], "videos": len(ours), **gain, "interval": interval})
    return sorted(rows, key=lambda row: -float(row["gain"]))


def mcnemar(here: np.ndarray, there: np.ndarray) -> dict[str, Any]:
    """McNemar's test, in its exact form, of whether one of two models is right more often.

    If both were right equally often, each video that only one of them has right would be a coin
    toss: the p-value is that of the binomial distribution, two-sided (Dietterich, Neural
    Computation 1998, on why this test).

    Args:
        here, there: 1 where a video is right, else 0, (videos,); not a number is left out.

    Returns:
        Counts ``both``, ``here`` and ``there`` (right there alone), ``neither``, and ``p_value``.
    """
    known = ~(np.isnan(here) | np.isnan(there))
    one, other = here[known] > 0, there[known] > 0
    ours, theirs = int((one & ~other).sum()), int((other & ~one).sum())
    tosses = ours + theirs
    tail = sum(math.comb(tosses, k) for k in range(min(ours, theirs) + 1))
    return {
        "both": int((one & other).sum()),
        "here": ours,
        "there": theirs,
        "neither": int((~one & ~other).sum()),
        "p_value": min(1.0, 2 * tail / 2**tosses),
    }


def paired_interval(here: np.ndarray, there: np.ndarray) -> list[float]:
    """95 % interval of the difference of two accuracies on the same videos.

    Wald's interval with one more video in each of the four cells, which holds with few videos and
    no differences, too (Bonett and Price, Journal of Educational and Behavioral Statistics 2012).

    Args:
        here, there: 1 where a video is right, else 0, (videos,).
    """
    count = len(here) + 2
    ours = (float(((here > 0) & (there == 0)).sum()) + 1) / count
    theirs = (float(((there > 0) & (here == 0)).sum()) + 1) / count
    spread = 1.96 * math.sqrt((ours + theirs - (ours - theirs) ** 2) / count)
    return [max(-1.0, ours - theirs - spread), min(1.0, ours - theirs + spread)]
