"""Neighbors by feature, and t-SNE against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from vidinit.measure.embedding import gradient, joint_probabilities, nearest_labels, tsne, unit


def clusters(sizes: list[int], *, width: int = 20, apart: float = 8.0, seed: int = 0):
    """Gaussian clusters in many dimensions: features (N, width), labels (N,)."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(len(sizes), width))
    centers *= apart / np.linalg.norm(centers, axis=1, keepdims=True)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return centers[labels] + rng.normal(size=(len(labels), width)) * 0.5, labels


def divergence(joint: np.ndarray, points: np.ndarray) -> float:
    """KL(P || Q), pair by pair as the paper writes it."""
    count = len(points)
    heavy = {
        (i, j): 1 / (1 + float(((points[i] - points[j]) ** 2).sum()))
        for i in range(count)
        for j in range(count)
        if i != j
    }
    total = sum(heavy.values())
    return sum(joint[pair] * np.log(joint[pair] / (q / total)) for pair, q in heavy.items())


def test_the_nearest_other_clip_by_cosine():
    features = np.array([[1, 0], [10, 1], [0, 3], [0.1, 1], [-1, 0.2]])
    labels = np.array([0, 1, 2, 3, 4])
    assert nearest_labels(features, labels).tolist() == [1, 0, 3, 2, 2]
    assert unit(np.zeros((2, 3))).tolist() == [[0] * 3] * 2
    found, labels = clusters([600, 500])  # more than one block of rows
    assert (nearest_labels(found, labels) == labels).all()
    other = np.random.default_rng(1).permutation(labels)
    assert 0.4 < (nearest_labels(found, other) == other).mean() < 0.6
    with pytest.raises(ValueError, match="another one"):
        nearest_labels(np.ones((1, 4)), np.zeros(1))


def test_each_clip_has_as_many_neighbors_as_the_perplexity_says():
    features, _ = clusters([30, 30])
    joint = joint_probabilities(features, 7.0)
    assert joint.sum() == pytest.approx(1) and (joint == joint.T).all()
    assert (np.diag(joint) == 0).all() and (joint >= 0).all()
    # p_j|i by trying bandwidths one after the other.
    conditional = np.zeros((60, 60))
    for i in range(60):
        others = np.arange(60) != i
        away = np.square(features[i] - features[others]).sum(axis=1)
        near = np.exp(-(away - away.min()) / np.geomspace(1e-2, 1e2, 3000)[:, None])
        near /= near.sum(axis=1, keepdims=True)
        entropy = -(near * np.log(near + 1e-300)).sum(axis=1)
        conditional[i, others] = near[np.abs(entropy - np.log(7)).argmin()]
    wanted = (conditional + conditional.T) / 120
    assert joint == pytest.approx(wanted, rel=0.02, abs=1e-6)
    few = joint_probabilities(features[:7], 30.0)  # six others: a perplexity of two
    assert np.isfinite(few).all() and few.sum() == pytest.approx(1)


def test_the_gradient_is_that_of_the_divergence():
    features, _ = clusters([6, 5])
    joint = joint_probabilities(features, 3.0)
    points = np.random.default_rng(2).normal(size=(11, 2))
    found, step = gradient(joint, points), 1e-5
    for place in [(0, 0), (4, 1), (10, 0)]:
        ahead, back = points.copy(), points.copy()
        ahead[place] += step
        back[place] -= step
        slope = (divergence(joint, ahead) - divergence(joint, back)) / (2 * step)
        assert found[place] == pytest.approx(slope, rel=1e-5)


def test_clusters_stay_apart_in_the_plane():
    features, labels = clusters([40, 30, 20, 30])
    points = tsne(features)
    assert points.shape == (120, 2) and points.dtype == np.float32
    assert points.mean(axis=0) == pytest.approx(0, abs=1e-3)
    away = np.square(points[:, None] - points[None]).sum(axis=2)
    np.fill_diagonal(away, np.inf)
    assert (labels[away.argmin(axis=1)] == labels).all()
    centers = np.stack([points[labels == k].mean(axis=0) for k in range(4)])
    spread = max(points[labels == k].std(axis=0).max() for k in range(4))
    between = np.linalg.norm(centers[:, None] - centers[None], axis=2)[np.triu_indices(4, 1)]
    assert between.min() > 2 * spread
    assert (tsne(features) == points).all(), "nothing is random"


def test_noise_has_no_clusters_and_fills_the_plane():
    features, labels = clusters([70, 70], apart=0.0)
    points = tsne(features)
    wide, narrow = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    assert narrow > 0.6 * wide, "exaggeration has not drawn it together for good"
    joint = joint_probabilities(features, 30.0)
    assert divergence(joint, points) < 0.75 * divergence(joint, 1e-4 * points)
    away = np.square(points[:, None] - points[None]).sum(axis=2)
    np.fill_diagonal(away, np.inf)
    assert (labels[away.argmin(axis=1)] == labels).mean() < 0.75


def test_few_and_equal_clips():
    assert np.isfinite(tsne(np.eye(4))).all()
    assert np.isfinite(tsne(np.ones((6, 3)))).all()
    twice = np.repeat(clusters([5, 5])[0], 2, axis=0)
    assert np.isfinite(tsne(twice)).all()
    assert np.isfinite(tsne(np.arange(10.0)[:, None])).all(), "one feature"
    with pytest.raises(ValueError, match="at least 4"):
        tsne(np.eye(3))
    with pytest.raises(ValueError, match="finite"):
        tsne(np.full((5, 2), np.nan))
