"""Does a data set need time? A frozen trunk's accuracy with the frames in order and shuffled.

Beside them stands the accuracy of a linear head on the mean of the features. Where shuffling costs
nothing, the classes can be told without the order of the frames, and a model of motion is a model
of appearance there (Sevilla-Lara et al., "Only Time Can Tell", WACV 2021).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .comparison import mcnemar, paired_interval
from .metrics import Scores, wilson

SHUFFLED, MEAN_POOL = "shuffle", "mean_pool"
"""Names of the two in the results of a pass over the videos; the first is a temporal test."""

NAMES = {
    MEAN_POOL: "mean of the features",
    "ordered": "frames in order",
    "shuffled": "frames shuffled",
}
"""The accuracies in words, in the order in which they are shown."""

DIGITS = 6


def time_test(ordered: Scores, shuffled: Scores, mean_pool: Scores | None = None) -> dict[str, Any]:
    """The three accuracies on the same videos, what they differ by, and a sentence of verdict.

    Accuracy is top-1; of several labels a video whether the most probable class is one of them, of
    pairs whether both are right.

    Args:
        ordered: of the model, with the frames as they are.
        shuffled: of the same model and clips, with the frames of each clip in another order.
        mean_pool: of a linear head on the mean of the same trunk's features; ``ordered`` itself
            where the model is one.

    Returns:
        ``{videos, ordered, shuffled, mean_pool, verdict}``: ``ordered`` is ``{top1, interval}``
        (Wilson's, 95 %); the others have ``change``, from ``ordered`` to them,
        ``change_interval`` (`paired_interval`) and ``p_value`` (McNemar), too. Without a
        ``mean_pool`` that is None.
    """
    right = ordered.hits()["top1"]
    keep = ~np.isnan(right)
    own = right[keep]
    out: dict[str, Any] = {"videos": len(own), "ordered": _accuracy(own)}
    out["shuffled"] = _beside(own, shuffled.hits()["top1"][keep])
    out["mean_pool"] = None
    if mean_pool is not None:
        out["mean_pool"] = _beside(own, mean_pool.hits()["top1"][keep])
    out["verdict"] = _verdict(
        out,
        blind=_same_answers(ordered, shuffled),
        plain=mean_pool is ordered,
        chance=_chance(ordered),
    )
    return out


def _accuracy(right: np.ndarray) -> dict[str, Any]:
    rate = float(right.mean()) if len(right) else 0.0
    return {"top1": _rounded(rate), "interval": _ends(wilson(rate, len(right)))}


def _beside(ordered: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """An accuracy with what it differs by from the ordered one."""
    found = _accuracy(other)
    return {
        **found,
        "change": _rounded(float(other.mean() - ordered.mean()) if len(other) else 0.0),
        "change_interval": _ends(paired_interval(other, ordered)),
        "p_value": float(f"{mcnemar(other, ordered)['p_value']:.6g}"),
    }


def _same_answers(ordered: Scores, shuffled: Scores) -> bool:
    """True where no probability moves: the model cannot see order at all."""
    keep = ordered.readable
    pairs = [(ordered.probabilities, shuffled.probabilities)]
    if ordered.nouns is not None and shuffled.nouns is not None:
        pairs.append((ordered.nouns, shuffled.nouns))
    return all(np.abs(one[keep] - other[keep]).max(initial=0.0) < 1e-4 for one, other in pairs)


def _chance(scores: Scores) -> float:
    """Accuracy of a guess: the share of the most frequent class; of several labels 0."""
    if scores.kind == "multi":
        return 0.0
    labels = scores.labels[scores.readable]
    if not len(labels):
        return 0.0
    return float(np.unique(labels, axis=0, return_counts=True)[1].max() / len(labels))


def _verdict(test: dict[str, Any], *, blind: bool, plain: bool, chance: float) -> str:
    """One sentence on what the figures say, and one on the mean of the features."""
    videos, ordered, shuffled = test["videos"], test["ordered"], test["shuffled"]
    if not videos:
        return "no video was scored, so nothing is known"
    lost, (low, high) = -shuffled["change"], [-end for end in shuffled["change_interval"][::-1]]
    spread = f"{_points(lost)} points, 95 %: {_points(low)} to {_points(high)}"
    if ordered["interval"][0] <= chance:
        said = (
            f"no verdict: {_percent(ordered['top1'])} may be no better than guessing one class "
            f"({_percent(chance)}) on {videos} videos"
        )
    elif blind:
        said = (
            "this model does not see order: its answers are the same with the frames shuffled, so "
            "what it gets right can be told without order"
        )
    elif low > 0:
        said = f"order matters: shuffled frames cost {spread}"
    elif high < 0:
        said = f"order does not help: shuffled frames score higher, by {_flipped(lost, low, high)}"
    else:
        said = (
            f"these classes can be told without order, as far as {videos} videos show: shuffled "
            f"frames cost {spread}"
        )
    if test["mean_pool"] is None:
        return said
    if plain:
        return f"{said}; it is the mean of the features itself"
    gain = -test["mean_pool"]["change"]
    low, high = [-end for end in test["mean_pool"]["change_interval"][::-1]]
    ends = f"95 %: {_points(low)} to {_points(high)}"
    if low > 0:
        return f"{said}; it is {_points(gain)} points above the mean of the features ({ends})"
    if high < 0:
        return f"{said}; it is {_points(-gain)} points below the mean of the features ({ends})"
    return f"{said}; the mean of the features does as well ({_points(gain)} points, {ends})"


def _flipped(lost: float, low: float, high: float) -> str:
    return f"{_points(-lost)} points, 95 %: {_points(-high)} to {_points(-low)}"


def _points(fraction: float) -> str:
    """A difference in percentage points; never a zero with a sign."""
    return f"{round(100 * fraction, 1) + 0.0:.1f}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _rounded(value: float) -> float:
    return round(value, DIGITS) + 0.0


def _ends(interval: tuple[float, float] | list[float]) -> list[float]:
    return [_rounded(end) for end in interval]


def lines_of(test: dict[str, Any]) -> list[str]:
    """The figures and the verdict as lines of text for a terminal."""
    lines = []
    for key, name in NAMES.items():
        if (values := test[key]) is not None:
            low, high = values["interval"]
            lines.append(f"  {name:<20} top-1 {values['top1']:.3f} (95 %: {low:.3f} to {high:.3f})")
    return [*lines, f"  {test['verdict']}"]
