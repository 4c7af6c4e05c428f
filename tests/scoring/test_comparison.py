"""Intervals, calibration, and two models on the same videos."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scoring_support import CLASSES, drawn

from vidinit.data.rows import Row
from vidinit.errors import DataError
from vidinit.scoring.analysis import calibration_of, class_analysis, class_table
from vidinit.scoring.comparison import compare, mcnemar, paired_interval
from vidinit.scoring.metrics import (
    Scores,
    average_precision,
    class_precisions,
    intervals,
    weighted_metrics,
    wilson,
)

KINDS = ["single", "multi", "pair"]


def repeated(scores: Scores, weights: np.ndarray) -> Scores:
    """The readable videos, each as often as it was drawn."""
    places = np.repeat(np.flatnonzero(scores.readable), weights)
    nouns = None if scores.nouns is None else scores.nouns[places]
    return Scores(scores.probabilities[places], scores.labels[places], [], scores.kind, nouns)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_repetitions(kind):
    scores = drawn(kind, 30, 1, 1.0).scores()
    scores.probabilities[5:9] = np.round(scores.probabilities[5:9], 1)  # and some ties
    metrics, rng = weighted_metrics(scores), np.random.default_rng(3)
    assert metrics(np.ones(29, int)) == pytest.approx(scores.metrics(), abs=1e-12)
    for _ in range(5):
        weights = np.bincount(rng.integers(0, 29, 29), minlength=29)
        want = repeated(scores, weights).metrics()
        assert metrics(weights) == pytest.approx(want, abs=1e-12)


def test_weighted_precisions_with_ties():
    rng = np.random.default_rng(4)
    for _ in range(20):
        values, labels = rng.integers(0, 5, (25, 4)) / 4, rng.random((25, 4)) < 0.3
        labels[:, 3] = False
        found = class_precisions(Scores(values, labels, [], "multi"))(np.ones(25, int))
        want = [
            average_precision(values[:, c], labels[:, c]) for c in range(3) if labels[:, c].any()
        ]
        assert np.isnan(found[3])
        assert found[~np.isnan(found)] == pytest.approx(want, abs=1e-12)


def test_intervals_are_those_of_chance_and_the_same_each_time():
    scores = drawn("single", 301, 1, 1.0).scores()
    found = intervals(scores, resamples=500, seed=7)
    assert found == intervals(scores, resamples=500, seed=7)
    assert found != intervals(scores, resamples=500, seed=8)
    top1 = scores.metrics()["top1"]
    want = wilson(top1, 300)  # of a share, both say nearly the same
    assert found["top1"] == pytest.approx(want, abs=0.015)
    assert found["mean_class_accuracy"][0] < top1 < found["mean_class_accuracy"][1]
    assert intervals(scores, resamples=0) == {}
    nothing = Scores(np.full((2, 3), np.nan), np.array([0, 1]), [])
    assert intervals(nothing, resamples=10) == {}


def test_mcnemar_is_the_binomial_distribution():
    here = np.array([1, 1, 1, 1, 1, 0, 1, 0, np.nan])
    there = np.array([0, 0, 0, 0, 0, 1, 1, 0, 1])
    found = mcnemar(here, there)
    assert [found[key] for key in ("both", "here", "there", "neither")] == [1, 5, 1, 1]
    # Of six tosses at most one: (1 + 6) / 64, on both sides.
    assert found["p_value"] == pytest.approx(2 * 7 / 64)
    assert mcnemar(here, here)["p_value"] == mcnemar(here[:0], here[:0])["p_value"] == 1
    even = mcnemar(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert even["p_value"] == 1
    many = mcnemar(np.ones(5000), np.zeros(5000))
    assert 0 <= many["p_value"] < 1e-300


def test_intervals_of_few_videos_are_wide():
    low, high = paired_interval(np.array([1.0]), np.array([1.0]))
    assert low < -0.5 and high > 0.5
    one, other = np.ones(200), np.zeros(200)
    low, high = paired_interval(one, other)
    assert 0.95 < low < high <= 1
    # The formula of the paper with 10 and 4 of 50 videos: (11 - 5) / 52.
    one, other = np.zeros(50), np.zeros(50)
    one[:10], other[10:14] = 1, 1
    spread = 1.96 * math.sqrt((16 / 52 - (6 / 52) ** 2) / 52)
    assert paired_interval(one, other) == pytest.approx([6 / 52 - spread, 6 / 52 + spread])


@pytest.mark.parametrize("kind", KINDS)
def test_two_models_on_the_same_videos(kind):
    here, there = drawn(kind, 200, 1, 2.5), drawn(kind, 200, 2, 0.5)
    found = compare(here, there, resamples=200, seed=1)
    assert (found["model"], found["views"], found["average"]) == ("runs/2", "1x1", "softmax")
    assert [found[key] for key in ("videos", "only_here", "only_there", "unscored")] == [
        199,
        0,
        0,
        1,
    ]
    mine, theirs = here.scores().metrics(), there.scores().metrics()
    for name, value in found["metrics"].items():
        assert (value["here"], value["there"]) == (mine[name], theirs[name])
        assert value["gain"] == mine[name] - theirs[name]
        assert value["interval"][0] <= value["gain"] <= value["interval"][1]
    watched = "map" if kind == "multi" else "top1"
    assert found["metrics"][watched]["interval"][0] > 0, "the better one is told apart"
    assert found["mcnemar"]["p_value"] < 1e-3
    gains = [row["gain"] for row in found["classes"]]
    assert gains == sorted(gains, reverse=True)
    assert {row["class"] for row in found["classes"]} == set(CLASSES)
    for row in found["classes"]:
        assert row["interval"][0] < row["gain"] < row["interval"][1]
    if kind == "single":
        hits = here.scores().hits()["top1"]
        rates = {name: np.nanmean(hits[here.labels == i]) for i, name in enumerate(CLASSES)}
        assert {row["class"]: row["here"] for row in found["classes"]} == rates
    assert compare(here, here, resamples=20)["metrics"][watched]["interval"] == [0, 0]


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_classes_may_be_in_another_order(kind):
    here, there = drawn(kind, 60, 1, 2.0), drawn(kind, 60, 2, 1.0)
    want = compare(here, there, resamples=30)
    order = [2, 0, 1]  # the places of the old classes in the new list
    rows = [
        replace(row, label=order[row.label])
        if isinstance(row.label, int)
        else replace(row, label=tuple(sorted(order[one] for one in row.label)))
        for row in there.rows.rows
    ]
    moved = replace(
        there,
        rows=replace(there.rows, rows=tuple(rows), classes=("b", "c", "a")),
        logits=there.logits[:, [1, 2, 0]],
    )
    found = compare(here, moved, resamples=30)
    for key in ("mcnemar", "classes", "videos"):
        assert found[key] == want[key]
    assert found["metrics"]["top1"] == want["metrics"]["top1"]


def test_videos_are_matched_by_place_and_segment():
    here = drawn("single", 10, 1, 1.0)
    rows = list(here.rows.rows)
    rows[3] = replace(rows[3], start=2.0)
    rows[4] = replace(rows[4], path="other.mp4")
    rows[5] = replace(rows[5], path="/data/x/../5.mp4")
    there = replace(here, rows=here.rows.of(rows))
    found = compare(here, there, resamples=0)
    assert [found[key] for key in ("videos", "only_here", "only_there", "unscored")] == [7, 2, 2, 1]
    assert found["metrics"]["top1"]["interval"] is None
    # Twice the same video is compared twice, and no more often.
    rows = list(here.rows.rows)
    rows[2] = rows[1]
    twice = replace(here, rows=here.rows.of(rows))
    found = compare(twice, here, resamples=0)
    assert (found["videos"], found["only_here"], found["only_there"]) == (8, 1, 1)
    assert compare(twice, twice, resamples=0)["videos"] == 9


def test_what_cannot_be_compared():
    here = drawn("single", 10, 1, 1.0)
    with pytest.raises(DataError, match="labels of kind 'multi'"):
        compare(here, drawn("multi", 10, 1, 1.0))
    with pytest.raises(DataError, match="no video in common"):
        compare(here, replace(here, folder="/elsewhere"))
    rows = [replace(row, label=(row.label + 1) % 3) for row in here.rows.rows]
    with pytest.raises(DataError, match=r"0\.mp4 is [abc] here and [abc] in the predictions"):
        compare(here, replace(here, rows=here.rows.of(rows)))
    multi = drawn("multi", 10, 1, 1.0)
    more = np.concatenate([multi.logits, multi.logits[:, :1]], axis=1)
    other = replace(multi, rows=replace(multi.rows, classes=(*CLASSES, "d")), logits=more)
    with pytest.raises(DataError, match=r"only one of runs/1 and runs/1 has a class 'd'"):
        compare(multi, other)


def test_calibration_by_hand():
    values = np.array([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.5, 0.5], [0.7, 0.3], [np.nan] * 2])
    labels = np.array([0, 1, 0, 0, -1, 0])
    found = calibration_of(Scores(values, labels, []), bins=4)
    counts = [one["videos"] for one in found["bins"]]
    assert counts == [0, 1, 1, 2], "a half is in the lower bin; no label and no scores do not count"
    assert found["bins"][0]["accuracy"] is None
    assert found["bins"][3] == {
        "low": 0.75,
        "high": 1.0,
        "videos": 2,
        "confidence": pytest.approx(0.85),
        "accuracy": 0.5,
    }
    assert found["ece"] == pytest.approx((0.5 + 0.45 + 2 * 0.35) / 4)
    sure = Scores(np.eye(2)[[0, 1, 0]], np.array([0, 1, 0]), [])
    assert calibration_of(sure)["ece"] == 0
    assert calibration_of(drawn("multi", 9, 1, 1.0).scores()) is None
    pair = drawn("pair", 50, 1, 1.0).scores()
    whole = calibration_of(pair, bins=1)["bins"][0]
    best = np.nanmean(pair.probabilities.max(1) * pair.nouns.max(1))
    assert whole["confidence"] == pytest.approx(best)
    assert whole["accuracy"] == pytest.approx(pair.metrics()["top1"])
    assert calibration_of(Scores(np.full((1, 2), np.nan), np.array([0]), [])) is None


def test_tables_of_classes():
    values = np.array([[0.6, 0.4, 0], [0.9, 0.1, 0], [0.3, 0.7, 0], [np.nan] * 3])
    single = Scores(values, np.array([0, 1, 1, 2]), [("d", "gone")])
    rows = class_table(single, ["a", "b", "c"])
    assert [(row["videos"], row["accuracy"]) for row in rows] == [(1, 1), (2, 0.5), (0, None)]
    assert rows[1]["interval"] == list(wilson(0.5, 2)) and rows[2]["interval"] is None
    whole = class_analysis(single, [Row(p, 0) for p in "wxyz"], ["a", "b", "c"])
    taken = {"label": "b", "prediction": "a", "videos": 1, "share": 0.5}
    assert (whole["classes"], whole["confusions"]) == (rows, [taken])
    assert whole["mistakes"] == [
        {
            "path": "x",
            "start": None,
            "end": None,
            "label": "b",
            "prediction": "a",
            "probability": 0.9,
            "label_probability": 0.1,
        }
    ]
    multi = drawn("multi", 40, 1, 1.0).scores()
    for place, row in enumerate(class_table(multi, CLASSES)):
        want = average_precision(multi.probabilities[1:, place], multi.labels[1:, place])
        assert row["average_precision"] == pytest.approx(want)
    pair = drawn("pair", 40, 1, 1.0).scores()
    whole = class_analysis(pair, [Row(str(i)) for i in range(40)], CLASSES, CLASSES)
    rates = [(row["accuracy"], row["videos"]) for row in whole["verb"]["classes"]]
    mean = sum(rate * count for rate, count in rates) / 39
    assert mean == pytest.approx(pair.metrics()["top1_verb"])
