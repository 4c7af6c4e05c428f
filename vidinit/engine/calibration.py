"""Whether a model is right as often as it says."""

from __future__ import annotations

from typing import Any

import numpy as np

from .scores import Scores


def calibration_of(scores: Scores, bins: int = 15) -> dict[str, Any] | None:
    """The expected calibration error and what it is made of.

    With n_b of the n videos in the b-th of equally wide bins of confidence (the probability of the
    predicted class), of accuracy a_b and mean confidence c_b, ECE = sum_b n_b / n |a_b - c_b| (Guo
    et al., "On Calibration of Modern Neural Networks", ICML 2017). A confidence on the border of
    two bins is in the lower one.

    Args:
        scores: of videos; unlabelled ones do not count.
        bins: how many.

    Returns:
        ``{ece, bins: [{low, high, videos, confidence, accuracy}]}``, the last two None in an empty
        bin; None where a video has several labels, or no video counts.
    """
    if scores.kind == "multi":
        return None
    keep = scores.readable & (scores.labels.reshape(len(scores.labels), -1)[:, 0] >= 0)
    if not keep.any():
        return None
    confidence = scores.probabilities[keep].max(axis=1)
    if scores.nouns is not None:  # the best action is the best verb with the best noun
        confidence = confidence * scores.nouns[keep].max(axis=1)
    right = scores.hits()["top1"][keep]
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found, error = [], 0.0
    for number in range(bins):
        mine = place == number
        count = int(mine.sum())
        mean = float(confidence[mine].mean()) if count else None
        accuracy = float(right[mine].mean()) if count else None
        if mean is not None and accuracy is not None:
            error += count / len(right) * abs(accuracy - mean)
        found.append(
            {
                "low": number / bins,
                "high": (number + 1) / bins,
                "videos": count,
                "confidence": mean,
                "accuracy": accuracy,
            }
        )
    return {"ece": error, "bins": found}
