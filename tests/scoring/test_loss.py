"""The loss of scored videos, and how many of them get one and the same answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vidinit.scoring.metrics import Scores

NAN = float("nan")


def test_the_loss_is_the_mean_surprise_of_the_label():
    found = np.array([[0.5, 0.5], [0.25, 0.75], [NAN, NAN], [0.9, 0.1]])
    scores = Scores(found, np.array([0, 1, 0, -1]), [("c.mp4", "cut off")])
    assert scores.loss() == pytest.approx((math.log(2) - math.log(0.75)) / 2)
    assert scores.most_predicted() == pytest.approx(2 / 3), "ties go to the first class"
    sure = Scores(np.array([[1.0, 0.0]]), np.array([1]), [])
    assert sure.loss() == pytest.approx(-math.log(1e-12)), "bounded"
    assert math.isnan(Scores(np.array([[0.5, 0.5]]), np.array([-1]), []).loss())


def test_several_labels_and_pairs():
    labels = np.array([[True, False]])
    multi = Scores(np.array([[0.8, 0.4]]), labels, [], kind="multi")
    assert multi.loss() == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    verbs, nouns = np.array([[0.5, 0.5]]), np.array([[0.1, 0.9]])
    pair = Scores(verbs, np.array([[0, 1]]), [], kind="pair", nouns=nouns)
    assert pair.loss() == pytest.approx(math.log(2) - math.log(0.9))
