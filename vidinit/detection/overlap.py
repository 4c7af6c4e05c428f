"""Intersection over union of boxes, and the suppression of boxes that overlap a better one."""

from __future__ import annotations

import numpy as np


def box_iou(first: np.ndarray, second: np.ndarray, pixel: float = 0.0) -> np.ndarray:
    """Intersection over union of boxes, pair by pair.

    Args:
        first, second: x1, y1, x2, y2, float64 (..., 4), of shapes that broadcast. A box that ends
            before it begins is empty.
        pixel: added to each side, see `Protocol`.

    Returns:
        float64 (...); 0 where both are empty.
    """
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    shared = np.maximum(high - low + pixel, 0.0).prod(axis=-1)
    union = _areas(first, pixel) + _areas(second, pixel) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _areas(boxes: np.ndarray, pixel: float) -> np.ndarray:
    return np.asarray(np.maximum(boxes[..., 2:] - boxes[..., :2] + pixel, 0.0).prod(axis=-1))


def best_boxes(boxes: np.ndarray, scores: np.ndarray, most: float, keep: int) -> np.ndarray:
    """Boxes that overlap no better one that is kept (non-maximum suppression).

    Args:
        boxes: float64 (N, 4).
        scores: (N,); of equal ones the first is the better.
        most: IoU up to which two boxes stay.
        keep: how many at most.

    Returns:
        Positions of those that are kept, the best first.
    """
    if len(boxes) == 1:  # most frames of most videos
        return np.zeros(1, dtype=np.int64)
    order = np.argsort(-scores, kind="stable")
    ordered = boxes[order]
    hides = box_iou(ordered[:, None], ordered[None]) > most
    hidden = np.zeros(len(order), dtype=bool)
    kept: list[int] = []
    for place in range(len(order)):
        if not hidden[place] and len(kept) < keep:
            kept.append(place)
            hidden |= hides[place]
    return np.asarray(order[kept])
