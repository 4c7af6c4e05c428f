"""Late fusion of two finished evaluations: the streams of a two-stream network.

Simonyan and Zisserman, "Two-Stream Convolutional Networks for Action Recognition in Videos", NIPS
2014: a network of RGB and one of optical flow are trained apart, and what they say is averaged.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import DataError, UsageError
from ..zoo.probabilities import Average, averaged
from .comparison import check_comparable
from .predictions import Predictions

_TINY = np.finfo(np.float64).tiny  # of a probability, so that it has a logarithm


def fuse(
    here: Predictions, there: Predictions, *, weight: float = 0.5, average: Average | None = None
) -> Predictions:
    """The weighted average of two predictions of the same videos, as predictions of one view each.

    With ``softmax`` the probabilities of each, averaged over its views, are averaged; with
    ``logits`` the logits are, over views and then over the two. The logits that come back are those
    of which the softmax (of several labels: the sigmoid) is the result.

    Args:
        here, there: the two; videos are the same if absolute paths and segments are, and classes if
            their names are, in whatever order.
        weight: of ``here``, 0 to 1; ``there`` has the rest.
        average: default: what both have recorded.

    Returns:
        In the order of ``here``. A video that one of them has no scores of has none, with the
        reason.

    Raises:
        UsageError: a weight out of range, or two kinds of average of which none is chosen.
        DataError: other videos, labels or classes.
    """
    if not 0 <= weight <= 1:
        raise UsageError(f"--weight {weight:g} is no share", "pass a number from 0 to 1")
    if average is None and here.average != there.average:
        raise UsageError(
            f"{here.model} was scored by the average of {here.average}, {there.model} of "
            f"{there.average}",
            "pass --average softmax or --average logits, for both",
        )
    how = average or here.average
    places = check_comparable(here, there)
    if len(places) < max(len(here.rows), len(there.rows)):
        raise DataError(
            f"{len(here.rows)} videos of {here.data} and {len(there.rows)} of {there.data} have "
            f"{len(places)} in common, as {_alone(here, there, places)} is in one of them alone",
            "fuse evaluations of the same files; they are matched by path and segment",
        )
    columns = _columns(here, there)
    order = [other for _, other in sorted(places)]
    both = (here.views > 0) & (there.views[order] > 0)
    ours, theirs = (_outputs(one, how) for one in (here, there))
    mixed = weight * ours + (1 - weight) * theirs[order][:, columns]
    reasons = {
        row: here.reasons.get(row) or f"{there.model}: {there.reasons[order[row]]}"
        for row in np.flatnonzero(~both).tolist()
    }
    return replace(
        here,
        logits=(mixed if how == "logits" else _as_logits(mixed, here))[both],
        views=both.astype(np.int64),
        reasons=reasons,
        undecoded=min(len(reasons), here.undecoded + there.undecoded),
        crops=1,
        layout="1x1",
        average=how,
        model=f"{here.model} + {there.model}",
    )


def _alone(here: Predictions, there: Predictions, places: list[tuple[int, int]]) -> str:
    """The path of a video that only one of the two has."""
    for side, predictions in enumerate((here, there)):
        known = {pair[side] for pair in places}
        rest = [n for n in range(len(predictions.rows)) if n not in known]
        if rest:
            return predictions.keys[rest[0]][0]
    raise AssertionError("all videos are in both")


def _columns(here: Predictions, there: Predictions) -> list[int]:
    """For each logit of one the place of the same class among those of the other."""
    found: list[int] = []
    for ours, theirs in (
        (here.classes, there.classes),
        (list(here.rows.nouns or ()), list(there.rows.nouns or ())),
    ):
        if set(ours) != set(theirs):
            name = min(set(ours) ^ set(theirs))
            raise DataError(
                f"only one of {here.model} and {there.model} has a class '{name}'",
                "fuse models of the same classes",
            )
        start, place = len(found), {name: number for number, name in enumerate(theirs)}
        found += [start + place[name] for name in ours]
    return found


def _outputs(predictions: Predictions, average: Average) -> np.ndarray:
    """Probabilities, or logits, of all videos over their views: float64 (videos, K)."""
    width = sum(predictions.sizes)
    values = np.full((len(predictions.rows), width), np.nan)
    for videos, logits in predictions.blocks():
        if average == "logits":
            values[videos] = logits.astype(np.float64).mean(axis=1)
        else:
            values[videos] = averaged(logits, predictions.sizes, kind=predictions.rows.kind)
    return values


def _as_logits(probabilities: np.ndarray, of: Predictions) -> np.ndarray:
    """Logits with these probabilities."""
    logs = np.log(np.maximum(probabilities, _TINY))
    if of.rows.kind != "multi":
        return logs
    return logs - np.log1p(-np.minimum(probabilities, 1 - np.finfo(np.float64).epsneg))
