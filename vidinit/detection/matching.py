"""Which detections are right, and the average precision that follows.

A detection is a box of a frame or a tube of a video; what is compared with what is for the callers
to say, as pairs and their IoU.
"""

from __future__ import annotations

import numpy as np

from .protocols import Protocol


def pairs_within(found: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of a detection and a true one of the same group.

    Args:
        found, truth: group of each, int64 (N,) and (M,).

    Returns:
        Positions in ``found``, rising, and in ``truth``, rising for each of ``found``.
    """
    order = np.argsort(truth, kind="stable")
    groups = truth[order]
    first = np.searchsorted(groups, found, side="left")
    counts = np.searchsorted(groups, found, side="right") - first
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    within = np.arange(total) - np.repeat(ends - counts, counts)
    return np.repeat(np.arange(len(found)), counts), order[np.repeat(first, counts) + within]


def right_ones(
    found: np.ndarray,
    truth: np.ndarray,
    iou: np.ndarray,
    count: int,
    thresholds: np.ndarray,
    protocol: Protocol,
) -> np.ndarray:
    """Which detections are right, at each threshold.

    Args:
        found, truth, iou: pairs of a detection and a true one that may be the same, and their IoU,
            (P,) each. Detections are numbered by falling score.
        count: how many detections there are.
        thresholds: least IoU of what is the same, above 0, (n,).
        protocol: says what may be matched with what.

    Returns:
        bool (n, count). Each true one makes at most one right; of equal IoU the first true one
        counts.
    """
    near = iou >= thresholds.min(initial=1.0)
    found, truth, iou = found[near], truth[near], iou[near]
    # By detection, the best pair first.
    order = np.lexsort((truth, -iou, found))
    found, truth, iou = found[order], truth[order], iou[order]
    right = np.zeros((len(thresholds), count), dtype=bool)
    for place, threshold in enumerate(thresholds):
        valid = iou >= threshold
        pick = _first_free if protocol.free else _best_of_all
        right[place, pick(found[valid], truth[valid])] = True
    return right


def _best_of_all(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Detections whose best true one has no better detection."""
    # By detection the best pair comes first: where that one is valid, it is the first valid one.
    own, place = np.unique(found, return_index=True)
    _, first = np.unique(truth[place], return_index=True)
    return np.asarray(own[first])


def _first_free(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Detections that get a true one if each in turn takes its best free one.

    All true ones prefer the detection of the higher score, so that the stable matching of Gale and
    Shapley is the same. Its rounds look at conflicts alone, of which there are few.
    """
    detections, start, counts = np.unique(found, return_index=True, return_counts=True)
    end = start + counts
    at = start.copy()  # the pair that each detection asks for next
    held: dict[int, int] = {}
    asking = np.arange(len(detections))
    while len(asking):
        wanted = truth[at[asking]]
        losers = []
        for one, true in zip(asking.tolist(), wanted.tolist(), strict=True):
            other = held.get(true)
            if other is None or one < other:  # detections are in the order of their score
                held[true] = one
                if other is not None:
                    losers.append(other)
            else:
                losers.append(one)
        asking = np.array(losers, dtype=np.int64)
        at[asking] += 1
        asking = np.sort(asking[at[asking] < end[asking]])
    return np.asarray(detections[np.sort(np.fromiter(held.values(), np.int64, len(held)))])


def average_precision(right: np.ndarray, total: int, protocol: Protocol) -> np.ndarray:
    """Average precision of one class.

    With precision p_i and recall r_i after the i-th detection it is sum_i (r_i - r_(i-1)) q_i,
    where q_i is the largest of p_i, p_(i+1), ... with the envelope, else the mean of p_(i-1) and
    p_i, with r_0 = 0 and p_0 = 1.

    Args:
        right: which detections are, by falling score: bool (..., n).
        total: how many true ones there are, at least 1.
        protocol: says which area is meant.

    Returns:
        float64 (...), 0 to 1.
    """
    precision = np.cumsum(right, axis=-1) / np.arange(1, right.shape[-1] + 1)
    if protocol.envelope:
        height = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    else:
        before = np.ones_like(precision)
        before[..., 1:] = precision[..., :-1]
        height = (before + precision) / 2
    return np.asarray((height * right).sum(axis=-1) / total)
