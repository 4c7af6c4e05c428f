from __future__ import annotations

import numpy as np
import pytest

from vidinit.scoring.metrics import WATCH, average_precision, multi_label, pair_label, single_label
from vidinit.zoo.probabilities import best_actions


def by_definition(scores, positive) -> float:
    """Precision and recall at every threshold, one at a time."""
    area, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [p for s, p in zip(scores, positive, strict=True) if s >= threshold]
        recall = sum(taken) / sum(positive)
        area += (recall - before) * sum(taken) / len(taken)
        before = recall
    return area


def with_ties(rng, videos: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    scores = rng.integers(0, 8, (videos, classes)) / 8
    labels = rng.random((videos, classes)) < 0.3
    labels[0] = True
    return scores, labels


def test_average_precision_of_known_rankings():
    # Positives at ranks 1 and 3 of four: (1/1 + 2/3) / 2.
    ranked = np.array([0.8, 0.4, 0.35, 0.1])
    assert average_precision(ranked, np.array([1, 0, 1, 0], bool)) == pytest.approx(5 / 6)
    assert average_precision(ranked, np.array([0, 0, 0, 1], bool)) == pytest.approx(1 / 4)
    assert average_precision(ranked, np.array([1, 1, 0, 0], bool)) == 1
    # Equal scores say nothing of an order: a quarter of what is taken is right.
    assert average_precision(np.zeros(4), np.array([1, 0, 0, 0], bool)) == pytest.approx(1 / 4)
    # Two thresholds: first 1 of 2 (half of the positives), then 2 of 4.
    tied = np.array([0.9, 0.9, 0.2, 0.2])
    assert average_precision(tied, np.array([1, 0, 0, 1], bool)) == pytest.approx(1 / 2)


def test_average_precision_is_its_definition_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, labels = with_ties(rng, 30, 1)
        want = by_definition(scores[:, 0].tolist(), labels[:, 0].tolist())
        assert average_precision(scores[:, 0], labels[:, 0]) == pytest.approx(want, abs=1e-12)


def test_average_precision_is_that_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.metrics").average_precision_score
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores, labels = with_ties(rng, 40, 5)
        ours = multi_label(scores, labels)["map"]
        assert ours == pytest.approx(theirs(labels, scores, average="macro"), abs=1e-12)


def test_classes_that_do_not_occur_do_not_count():
    scores = np.array([[0.9, 0.2, 0.5], [0.8, 0.7, 0.6], [0.1, 0.3, 0.7]])
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], bool)
    found = multi_label(scores, labels)
    # Class 0: ranks 1 and 3; class 1: rank 1; class 2 has no video.
    assert found["map"] == pytest.approx((5 / 6 + 1) / 2)
    assert found["top1"] == pytest.approx(1 / 3)
    assert found["top5"] == 1


def test_hits_are_of_the_videos_with_a_label():
    scores = np.tile(np.arange(8, 0, -1) / 8, (4, 1))
    labels = np.zeros((4, 8), bool)
    labels[0, [0, 7]] = labels[1, [4, 6]] = labels[2, [5]] = True
    found = multi_label(scores, labels)
    assert (found["top1"], found["top5"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_single_label():
    scores = np.array([[0.6, 0.4, 0.0], [0.5, 0.5, 0.0], [0.3, 0.7, 0.0]])
    found = single_label(scores, np.array([0, 1, 1]))
    assert found["top1"] == pytest.approx(2 / 3), "of equals the smaller id wins"
    assert found["mean_class_accuracy"] == pytest.approx((1 + 0.5) / 2)


def brute_force(verbs, nouns, k):
    product = verbs[:, :, None] * nouns[:, None, :]
    order = np.argsort(-product.reshape(len(verbs), -1), axis=1)[:, :k]
    return np.stack([order // nouns.shape[1], order % nouns.shape[1]], axis=2), product


def test_actions_are_ranked_by_the_product():
    rng = np.random.default_rng(2)
    verbs, nouns = rng.dirichlet(np.ones(9), 50), rng.dirichlet(np.ones(13), 50)
    want, product = brute_force(verbs, nouns, 5)
    ids, probabilities = best_actions(verbs, nouns, 5)
    assert (ids == want).all()
    picked = np.take_along_axis(product.reshape(50, -1), want @ [13, 1], axis=1)
    assert np.array_equal(probabilities, picked)
    few, _ = best_actions(verbs[:1, :2], nouns[:1, :2], 5)
    assert sorted(map(tuple, few[0].tolist())) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_pairs():
    rng = np.random.default_rng(3)
    verbs, nouns = rng.dirichlet(np.ones(6), 200), rng.dirichlet(np.ones(7), 200)
    labels = np.stack([rng.integers(0, 6, 200), rng.integers(0, 7, 200)], axis=1)
    found = pair_label(verbs, nouns, labels)
    ranked, _ = brute_force(verbs, nouns, 5)
    right = (ranked == labels[:, None]).all(axis=2)
    both = (verbs.argmax(1) == labels[:, 0]) & (nouns.argmax(1) == labels[:, 1])
    assert found["top1"] == found["top1_action"] == right[:, 0].mean() == both.mean() > 0
    assert found["top5"] == found["top5_action"] == right.any(axis=1).mean() > found["top1"]
    for name, scores, label in (("verb", verbs, labels[:, 0]), ("noun", nouns, labels[:, 1])):
        alone = single_label(scores, label)
        assert (found[f"top1_{name}"], found[f"top5_{name}"]) == (alone["top1"], alone["top5"])


@pytest.mark.parametrize("kind", ["single", "multi", "pair"])
def test_no_video_is_no_hit(kind):
    none = np.zeros((0, 3))
    found = {
        "single": lambda: single_label(none, np.zeros(0, int)),
        "multi": lambda: multi_label(none, np.zeros((0, 3), bool)),
        "pair": lambda: pair_label(none, none, np.zeros((0, 2), int)),
    }[kind]()
    assert WATCH[kind] in found and {"top1", "top5"} <= set(found)
    assert set(found.values()) == {0.0}
