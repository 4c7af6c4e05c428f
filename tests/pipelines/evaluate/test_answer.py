from __future__ import annotations

import html
import re
from typing import Any

import numpy as np
import pytest

from vidinit.pipelines.evaluate.answer import evaluation_answer
from vidinit.scoring.metrics import Scores, wilson

NAMES = ["walk", "run", "fall"]


def told(said: list[int], labels: list[int], **more: Any) -> tuple[str, str]:
    """Headline and verdict of these answers to these labels."""
    probabilities = np.full((len(said), 3), 0.1)
    probabilities[np.arange(len(said)), said] = 0.8
    scores = Scores(probabilities, np.array(labels), [])
    top1 = float(np.mean(np.array(said) == labels))
    result = {**scores.metrics(), "top1_interval": wilson(top1, len(said)), "videos": len(said)}
    page = evaluation_answer({**result, **more}, scores, NAMES)
    (headline,), (verdict,) = (
        re.findall(f'class="{name}">(.*?)</p>', page) for name in ("headline", "verdict")
    )
    return html.unescape(headline), html.unescape(verdict)


@pytest.mark.parametrize(
    ("said", "labels", "headline", "verdict"),
    [
        ([0, 1, 2] * 20, [0, 1, 2] * 20, "100 % of 60", "above chance (0.333) and above any one"),
        ([1, 2, 0] * 20, [0, 1, 2] * 20, "0 % of 60", "not told apart from chance (0.333)"),
        ([0] * 40, [0] * 30 + [1] * 10, "75.0 % of 40", "gives one answer for every video"),
        (
            [0] * 29 + [1, 1, 2] * 3,
            [0] * 30 + [1] * 8,
            "89.5 % of 38",
            "always saying walk (0.789)",
        ),
        ([1] * 30 + [0] * 10, [0] * 30 + [1] * 10, "0 % of 40", "walk would be right more often"),
    ],
)
def test_the_verdict_is_that_of_the_interval(said, labels, headline, verdict) -> None:
    found = told(said, labels)
    assert found[0].startswith(headline) and verdict in found[1]


def test_frequent_classes_that_carry_it_are_named() -> None:
    _, verdict = told([0] * 58 + [1, 2], [0] * 50 + [1] * 9 + [2])
    assert "The frequent classes carry it: the mean over the classes is 0.704." in verdict


def test_what_was_asked_for_beside_is_said() -> None:
    two = {"positive": "fall", "threshold": 0.7, "precision": 0.9, "recall": None, "auc": 0.8}
    time = {"verdict": "the order of the frames is used"}
    _, verdict = told([0, 1, 2] * 20, [0, 1, 2] * 20, two_class=two, time=time)
    assert "fall is found at 0.7 with precision 0.900, area under ROC 0.800." in verdict
    assert verdict.endswith("The order of the frames is used.")


def test_labels_of_other_kinds() -> None:
    labels = np.array([[True, False, True], [False, True, False]])
    scores = Scores(np.full((2, 3), 0.5), labels, [], "multi")
    result = {**scores.metrics(), "videos": 2, "map_interval": [0.2, 0.9]}
    page = evaluation_answer(result, scores, NAMES)
    assert "Mean average precision 0.5" in page and "chance, 0.5" in page
    assert "No video could be scored" in evaluation_answer({"videos": 0}, scores, NAMES)
