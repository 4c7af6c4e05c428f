"""Features of clips: which are neighbors, and all of them in a plane by t-SNE."""

from __future__ import annotations

import numpy as np

# As van der Maaten and Hinton have them, but for the exaggeration and the learning rate, which are
# those of Belkina et al., "Automated optimized parameters for t-distributed stochastic neighbor
# embedding", 2019.
_STEPS, _EARLY = 1000, 250
_EXAGGERATION = 12.0
_MOMENTUM = (0.5, 0.8)  # early, and later
_LEAST_RATE, _LEAST_GAIN = 50.0, 0.01
_START = 1e-4  # standard deviation of the first coordinate at the beginning
_HALVINGS = 60  # of the interval in which a bandwidth lies
_FEWEST = 4
_ROWS = 1024  # of a matrix of similarities that is in memory at once


def unit(features: np.ndarray) -> np.ndarray:
    """Features (N, C) at length 1, float64; those that are zero stay so."""
    features = np.asarray(features, dtype=np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def nearest_labels(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label of each clip's nearest other clip, by cosine: a classifier without training.

    Args:
        features: (N, C), N at least 2.
        labels: int (N,).

    Returns:
        int (N,). Of equally near clips the first one counts.
    """
    if len(features) < 2:
        raise ValueError(f"a clip needs another one to be near to, got {len(features)}")
    units, nearest = unit(features), []
    for start in range(0, len(units), _ROWS):
        likeness = units[start : start + _ROWS] @ units.T
        rows = np.arange(len(likeness))
        likeness[rows, start + rows] = -np.inf
        nearest.append(likeness.argmax(axis=1))
    return labels[np.concatenate(nearest)]


def tsne(features: np.ndarray, *, perplexity: float = 30.0) -> np.ndarray:
    """Exact t-SNE to two dimensions.

    van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008. It begins with the first
    two principal components, so nothing is random. Time and memory go by N^2: 1000 clips take some
    seconds.

    Args:
        features: (N, C), N at least 4.
        perplexity: about how many neighbors of a clip count; at most a third of the others.

    Returns:
        float32 (N, 2), centered.

    Raises:
        ValueError: too few clips, or features that are not finite.
    """
    features = np.asarray(features, dtype=np.float64)
    if len(features) < _FEWEST or not np.isfinite(features).all():
        raise ValueError(
            f"t-SNE takes at least {_FEWEST} clips of finite features, got {features.shape}"
        )
    centered = features - features.mean(axis=0)
    joint = joint_probabilities(centered, perplexity).astype(np.float32)
    points = _principal(centered).astype(np.float32)
    rate = max(len(points) / _EXAGGERATION / 4, _LEAST_RATE)
    speed, gains = np.zeros_like(points), np.ones_like(points)
    for step in range(_STEPS):
        early = step < _EARLY
        slope = gradient(joint * _EXAGGERATION if early else joint, points)
        downhill = np.sign(speed) != np.sign(slope)
        gains = np.where(downhill, gains + 0.2, gains * 0.8).clip(_LEAST_GAIN)
        speed = _MOMENTUM[not early] * speed - rate * gains * slope
        points = points + speed
        points -= points.mean(axis=0)
        if (spread := float(points.std(axis=0).max())) < _START:
            # Exaggeration draws all together where there are no clusters. So near, the gradient is
            # linear in the points, and their scale means nothing: it must not be lost to rounding.
            points *= _START / max(spread, 1e-30)
            speed *= _START / max(spread, 1e-30)
    return points


def joint_probabilities(features: np.ndarray, perplexity: float) -> np.ndarray:
    """Similarities of clips, as the probabilities p_ij of the paper.

    Each clip has a Gaussian of its own, as wide as its neighbors are far: the entropy of p_j|i is
    the logarithm of the perplexity. p_ij = (p_j|i + p_i|j) / 2N.

    Args:
        features: float64 (N, C).
        perplexity: above 1; N - 1 over 3 where that is less, but at least 2.

    Returns:
        float64 (N, N), symmetric, zeros on the diagonal, sum 1.
    """
    count = len(features)
    target = np.log(max(2.0, min(perplexity, (count - 1) / 3)))
    away = _squared_distances(features)
    np.fill_diagonal(away, np.inf)
    away -= away.min(axis=1, keepdims=True)  # no factor changes, and no row is all zeros
    np.fill_diagonal(away, 0)
    others = 1.0 - np.eye(count)
    low, high = np.zeros(count), np.full(count, np.inf)
    precision = 1 / np.maximum(away.sum(axis=1) / (count - 1), 1e-12)
    near = others
    for _ in range(_HALVINGS):
        near = np.exp(-away * precision[:, None]) * others
        total = near.sum(axis=1)
        entropy = np.log(total) + precision * (near * away).sum(axis=1) / total
        wide = entropy > target
        low, high = np.where(wide, precision, low), np.where(wide, high, precision)
        precision = np.where(np.isinf(high), 2 * precision, (low + high) / 2)
    near = near / near.sum(axis=1, keepdims=True)
    return (near + near.T) / (2 * count)


def gradient(joint: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Gradient of KL(P || Q), Q being Student's t of the distances in the plane.

    4 sum_j (p_ij - q_ij) (y_i - y_j) / (1 + |y_i - y_j|^2): equation 5 of the paper.

    Args:
        joint: P, (N, N).
        points: y, (N, 2), of the same type.

    Returns:
        (N, 2).
    """
    heavy = _squared_distances(points)
    heavy += 1
    np.reciprocal(heavy, out=heavy)
    np.fill_diagonal(heavy, 0)
    force = heavy * (-1 / heavy.sum())
    force += joint
    force *= heavy
    return 4 * (force.sum(axis=1, keepdims=True) * points - force @ points)


def _squared_distances(points: np.ndarray) -> np.ndarray:
    lengths = np.square(points).sum(axis=1)
    found = points @ points.T
    found *= -2
    found += lengths[:, None]
    found += lengths
    return np.maximum(found, 0, out=found)


def _principal(centered: np.ndarray) -> np.ndarray:
    """The first two principal components, (N, 2), small, with signs that do not change."""
    left, sizes, _ = np.linalg.svd(centered, full_matrices=False)
    points = np.zeros((len(centered), 2))
    points[:, : min(2, len(sizes))] = (left * sizes)[:, :2]
    columns = np.arange(2)
    largest = points[np.abs(points).argmax(axis=0), columns]
    points *= np.where(largest < 0, -1, 1)
    return points * (_START / max(float(points[:, 0].std()), 1e-12))
