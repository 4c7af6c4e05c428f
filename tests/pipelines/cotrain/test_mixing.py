"""How often each source is drawn, and when (facts on co-training, F15)."""

from __future__ import annotations

import numpy as np
import pytest

from vidinit.errors import UsageError
from vidinit.pipelines.cotrain.mixing import mixture, schedule, step_counts

SIZES = [240, 169, 791, 1281]  # thousands of rows of K400, SSv2, MiT and ImageNet


@pytest.mark.parametrize(
    ("alpha", "want"),
    [
        (1.0, [97, 68, 319, 516]),
        (0.5, [168, 141, 304, 387]),
        (0.0, [250, 250, 250, 250]),
    ],
)
def test_step_counts_of_known_mixtures(alpha, want):
    assert step_counts(mixture([None] * 4, SIZES, alpha=alpha), 1000) == want


def test_step_counts_are_exact_for_any_shares():
    rng = np.random.default_rng(0)
    for _ in range(50):
        shares = rng.random(int(rng.integers(1, 7))) + 0.01
        counts = step_counts(list(shares), 1000)
        assert sum(counts) == 1000
        assert np.abs(np.array(counts) - shares / shares.sum() * 1000).max() < 1


def test_schedule_is_a_function_of_seed_and_epoch():
    a = schedule([5, 3, 2], seed=1, epoch=4)
    assert np.bincount(a).tolist() == [5, 3, 2]
    assert (a == schedule([5, 3, 2], seed=1, epoch=4)).all()
    assert any((a != schedule([5, 3, 2], seed=1, epoch=e)).any() for e in (5, 6))


def test_shares_are_given_or_follow_the_steps_alone():
    assert mixture([None, None], [30, 10]) == [0.75, 0.25]
    assert mixture([None, 0.6, None], [30, 500, 10]) == pytest.approx([0.3, 0.6, 0.1])
    assert mixture([None, 0.6, None], [90, 500, 10], alpha=0.5) == pytest.approx([0.3, 0.6, 0.1])
    assert mixture([2.0, 1.0], [30, 10]) == pytest.approx([2 / 3, 1 / 3])
    with pytest.raises(UsageError, match="leave nothing"):
        mixture([1.0, None], [30, 10])
