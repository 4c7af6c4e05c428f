"""Does a data set need time? Figures by hand, and a sentence for each way they can fall."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vidinit.report.scores import time_section
from vidinit.scoring.metrics import Scores, wilson
from vidinit.scoring.time_test import lines_of, time_test

LABELS = np.arange(40) % 4


def scores(right: int, *, unread: int = 0, shift: float = 0.0) -> Scores:
    """40 videos of four classes: the first ``right`` are, after the ``unread`` ones."""
    values = np.full((40, 4), 0.1 - shift)
    for video, label in enumerate(LABELS):
        values[video, label if video < right else (label + 1) % 4] = 0.7 + 3 * shift
    values[:unread] = np.nan
    return Scores(values, LABELS, [(f"{i}.mp4", "gone") for i in range(unread)])


def test_figures_by_hand() -> None:
    test = time_test(scores(36), scores(20), scores(30))
    assert test["videos"] == 40
    assert test["ordered"]["top1"] == 0.9
    assert test["ordered"]["interval"] == pytest.approx(wilson(0.9, 40), abs=1e-6)
    shuffled = test["shuffled"]
    assert (shuffled["top1"], shuffled["change"]) == (0.5, -0.4)
    # 16 videos are right in order alone: 2 * 0.5^16; Bonett and Price with one more in each cell.
    assert shuffled["p_value"] == pytest.approx(2 * 0.5**16, rel=1e-4)
    gap, spread = (1 - 17) / 42, 1.96 * np.sqrt((18 / 42 - (16 / 42) ** 2) / 42)
    assert shuffled["change_interval"] == pytest.approx([gap - spread, gap + spread], abs=1e-6)
    assert test["mean_pool"]["change"] == -0.15
    assert test["verdict"].startswith("order matters: shuffled frames cost 40.0 points, 95 %: ")
    assert "15.0 points above the mean of the features" in test["verdict"]


def test_videos_that_cannot_be_read_do_not_count() -> None:
    test = time_test(scores(36, unread=10), scores(20, unread=10))
    assert test["videos"] == 30 and test["mean_pool"] is None
    assert test["ordered"]["top1"] == pytest.approx(26 / 30, abs=1e-6)
    assert test["shuffled"]["top1"] == pytest.approx(10 / 30, abs=1e-6)


@pytest.mark.parametrize("ordered, shuffled, mean, said", [
    (scores(36), scores(35), scores(36), "without order, as far as 40 videos show: shuffled frames "
     "cost 2.5 points"),
    (scores(36), scores(36), None, "does not see order: its answers are the same"),
    (scores(36), scores(36, shift=0.01), None, "without order, as far as 40 videos show"),
    (scores(20), scores(36), None, "order does not help: shuffled frames score higher, by 40.0"),
    (scores(12), scores(10), None, "no verdict: 30.0 % may be no better than guessing one class "
     "(25.0 %) on 40 videos"),
    (scores(36), scores(20), scores(36), "the mean of the features does as well (0.0 points"),
    (scores(20), scores(10), scores(36), "it is 40.0 points below the mean of the features"),
    (scores(40, unread=40), scores(40, unread=40), None, "no video was scored"),
])  # fmt: skip
def test_a_verdict_for_each_case(ordered: Any, shuffled: Any, mean: Any, said: str) -> None:
    test = time_test(ordered, shuffled, mean)
    assert said in test["verdict"]
    assert "-0.0" not in test["verdict"]


def test_a_model_that_is_the_mean_itself() -> None:
    ordered = scores(36)
    test = time_test(ordered, scores(36), ordered)
    assert test["mean_pool"]["top1"] == 0.9 and test["mean_pool"]["change"] == 0
    assert test["verdict"].endswith("it is the mean of the features itself")


def test_other_kinds_of_labels() -> None:
    hot = np.zeros((40, 4), bool)
    hot[np.arange(40), LABELS] = hot[:, 3] = True
    values = scores(36).probabilities
    many = Scores(values, hot, [], "multi")
    test = time_test(many, many)
    assert test["ordered"]["top1"] == many.metrics()["top1"]
    pair = Scores(values, np.stack([LABELS, LABELS], 1), [], "pair", scores(20).probabilities)
    assert time_test(pair, pair)["ordered"]["top1"] == pair.metrics()["top1"] == 0.5


def test_what_people_see() -> None:
    test = time_test(scores(36), scores(20), scores(30))
    lines = lines_of(test)
    assert [line.split("top-1")[0].strip() for line in lines[:3]] == [
        "mean of the features",
        "frames in order",
        "frames shuffled",
    ]
    assert "top-1 0.750" in lines[0] and lines[3].strip() == test["verdict"]
    section = time_section(test)
    assert section.title == "Does it need time?" and ">0.9<" in section.body
    assert "Order matters" in section.note
