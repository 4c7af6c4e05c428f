from __future__ import annotations

import numpy as np
import pytest

from vidinit.errors import UsageError
from vidinit.scoring.metrics import Scores
from vidinit.scoring.two_class import Operating, Wish, choose_threshold, roc_area, two_class


def scores_of(values: list[float], labels: list[int]) -> Scores:
    second = np.array(values)
    return Scores(np.stack([1 - second, second], axis=1), np.array(labels), [])


# Of "fall": 0.9 true, 0.8 false, 0.7 true, 0.7 false, 0.4 true, 0.2 false, 0.1 false.
VALUES, LABELS = [0.9, 0.8, 0.7, 0.7, 0.4, 0.2, 0.1], [1, 0, 1, 0, 1, 0, 0]
NAMES = ["walk", "fall"]


def test_figures_counted_by_hand() -> None:
    found = two_class(scores_of(VALUES, LABELS), NAMES)
    assert found is not None
    assert (found["positive"], found["because"]) == ("fall", "the rarer of the two")
    assert (found["threshold"], found["videos"], found["positives"]) == (0.5, 7, 3)
    counts = ("true_positives", "false_positives", "false_negatives", "true_negatives")
    assert [found[name] for name in counts] == [2, 2, 1, 2]
    assert found["precision"] == 2 / 4 and found["recall"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 1)) and found["false_alarms"] == 0.5
    assert found["accuracy"] == pytest.approx(4 / 7)
    # Pairs (with, without): 0.9 beats 4; 0.7 loses to 0.8, ties with 0.7, beats 2; 0.4 beats 2.
    assert found["auc"] == pytest.approx((4 + 2.5 + 2) / 12)
    # Thresholds 0.9, 0.8, 0.7, 0.4: recall rises by 1/3 each at precisions 1, 2/4 and 3/5.
    assert found["average_precision"] == pytest.approx((1 + 2 / 4 + 3 / 5) / 3)
    assert found["curve"][2] == {
        "threshold": 0.7,
        "precision": 0.5,
        "recall": pytest.approx(2 / 3),
        "false_alarms": 0.5,
    }


@pytest.mark.parametrize(
    ("wish", "threshold", "reached"),
    [
        (Wish(), 0.5, True),
        (Wish(threshold=0.3), 0.3, True),
        (Wish(precision=0.5), 0.2, True),  # 3 of 6; at 0.1 it is 3 of 7
        (Wish(precision=0.9), 0.9, True),
        (Wish(recall=0.3), 0.9, True),
        (Wish(recall=0.6), 0.4, True),  # 3 of 5; at 0.7 the precision is 2 of 4
        (Wish(recall=1.0), 0.4, True),
    ],
)
def test_thresholds_for_what_is_wanted(wish: Wish, threshold: float, reached: bool) -> None:
    curve = Operating.of(np.array(VALUES), np.array(LABELS) == 1)
    assert choose_threshold(curve, wish) == (threshold, reached)


def test_a_precision_out_of_reach_is_said() -> None:
    found = two_class(scores_of([0.9, 0.8, 0.1], [0, 1, 0]), NAMES, wish=Wish(precision=0.8))
    assert found is not None and not found["reached"]
    assert (found["threshold"], found["precision"], found["recall"]) == (0.8, 0.5, 1.0)


def test_a_threshold_finds_the_scores_it_was_chosen_by() -> None:
    value = 0.123456789
    found = two_class(scores_of([value, 0.1], [1, 0]), NAMES, wish=Wish(recall=1.0))
    assert found is not None and found["threshold"] == 0.123456 and found["recall"] == 1.0


def test_which_class_is_looked_for() -> None:
    even = two_class(scores_of([0.9, 0.1], [1, 0]), NAMES)
    assert even is not None and even["because"] == "the second of the two"
    rare = two_class(scores_of([0.9, 0.8, 0.1], [1, 1, 0]), NAMES)
    assert rare is not None and (rare["positive"], rare["auc"]) == ("walk", 1.0)
    three = Scores(np.eye(3), np.arange(3), [])
    assert two_class(three, list("abc")) is None
    named = two_class(three, list("abc"), positive="b")
    assert named is not None and (named["positive"], named["recall"]) == ("b", 1.0)
    with pytest.raises(UsageError, match=r"no class 'fal'.*fall"):
        two_class(scores_of(VALUES, LABELS), NAMES, positive="fal")


def test_videos_without_scores_or_labels_do_not_count() -> None:
    scores = scores_of([*VALUES, 0.99, np.nan], [*LABELS, -1, 1])
    found = two_class(scores, NAMES)
    assert found is not None and (found["videos"], found["auc"]) == (7, pytest.approx(8.5 / 12))
    assert two_class(scores_of([np.nan], [1]), NAMES) is None
    one = two_class(scores_of([0.9, 0.2], [0, 0]), NAMES)
    assert one is not None and one["auc"] is None and one["recall"] is None
    assert one["average_precision"] is None and one["precision"] == 0.0


def test_the_area_counts_pairs_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(60) < 0.3
    values = np.round(rng.random(60) + 0.3 * positive, 1)  # many are equal
    pairs = values[positive][:, None] - values[~positive]
    area = roc_area(values, positive)
    assert area == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    weights = rng.integers(0, 3, 60)
    assert roc_area(values, positive, weights) == pytest.approx(
        roc_area(values.repeat(weights), positive.repeat(weights))
    )
    found = two_class(scores_of(values.tolist(), positive.astype(int).tolist()), NAMES,
                      positive="fall", resamples=200)  # fmt: skip
    assert found is not None
    low, high = found["auc_interval"]
    assert low < found["auc"] < high and high - low < 0.4
