from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from report.browsing import Reader
from scoring_support import CLASSES, drawn

from vidinit.data.rows import Row
from vidinit.report.html import Section
from vidinit.report.scores import calibration_sections, class_sections, label_sections
from vidinit.scoring.analysis import class_analysis


def by_title(sections: list[Section]) -> dict[str, Section]:
    return {section.title: section for section in sections}


def cells(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]


def test_two_classes() -> None:
    parts = by_title(class_sections(np.array([[3, 1], [2, 4]]), ["a", "<b>"]))
    assert list(parts) == ["Confusion matrix", "Accuracy per class"]
    assert cells(parts["Confusion matrix"].body) == [
        ["true class", "a", "&lt;b&gt;"],
        ["a", "3", "1"],
        ["&lt;b&gt;", "2", "4"],
    ]
    table = cells(parts["Accuracy per class"].body)
    assert table[1:] == [
        ["a", "4", "0.75", "0.6", "&lt;b&gt;"],
        ["&lt;b&gt;", "6", "0.6667", "0.8", "a"],
    ]
    assert "accuracy: a (4) 0.75, &lt;b&gt; (6) 0.667" in parts["Accuracy per class"].body


def many(count: int) -> np.ndarray:
    """Class i has 10 videos, i of them right up to ten; the others are taken for the next."""
    matrix = np.zeros((count, count), dtype=np.int64)
    for i in range(count):
        right = min(10, i)
        matrix[i, i], matrix[i, (i + 1) % count] = right, 10 - right
    return matrix


def test_many_classes_show_the_mistakes_and_both_ends() -> None:
    names = [f"class {i}" for i in range(400)]
    parts = by_title(class_sections(many(400), names))
    assert list(parts) == ["Confusion matrix", "Most frequent mistakes", "Accuracy per class"]
    assert "confusion matrix of 400 classes: 3945 of 4000 right" in parts["Confusion matrix"].body
    assert cells(parts["Most frequent mistakes"].body)[1] == ["class 0", "class 1", "10", "1"]
    shown = parts["Accuracy per class"].body
    assert "class 0 (10) 0," in shown and "class 5 (10) 0.5," in shown
    assert len(re.findall(r"class \d+ \(10\) [\d.]+[,\"]", shown)) == 40
    assert len(cells(shown)) == 401  # all of them in the table
    assert sum(len(part.body) for part in parts.values()) < 400_000
    huge = class_sections(np.eye(1500, dtype=np.int64), [f"{i}" for i in range(1500)])
    assert [part.title for part in huge] == ["Accuracy per class"]


def test_long_names_that_begin_alike_stay_apart() -> None:
    names = ["x" * 70 + "a", "x" * 70 + "b", "c"]
    parts = by_title(class_sections(np.eye(3, dtype=np.int64), names))
    read = Reader(parts["Accuracy per class"].body)
    assert "1: " + "x" * 59 + "…" in read.texts["td"] and "0 classes" not in str(parts)


def test_classes_without_videos_and_shapes_that_do_not_fit() -> None:
    parts = by_title(class_sections(np.array([[0, 0, 0], [1, 1, 0], [0, 0, 0]])))
    assert "2 classes have no video" in parts["Accuracy per class"].note
    assert cells(parts["Accuracy per class"].body)[1:] == [["1", "2", "0.5", "1", "0"]]
    assert [p.title for p in class_sections(np.zeros((2, 2), dtype=np.int64))] == [
        "Confusion matrix"
    ]
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        class_sections(np.eye(2, dtype=np.int64), ["a", "b", "c"])


def test_calibration() -> None:
    bins: list[dict[str, Any]] = [
        {"low": 0.0, "high": 0.5, "videos": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 1.0, "videos": 4, "confidence": 0.8, "accuracy": 0.25},
    ]
    (part,) = calibration_sections({"ece": 0.55, "bins": bins})
    assert "0.5500" in part.note and "0.5 to 1: 0.25 of 4" in part.body
    assert cells(part.body)[1:] == [["0.5", "1", "4", "0.8", "0.25"]]
    assert calibration_sections({"ece": 0.0, "bins": bins[:1]}) == []


@pytest.mark.parametrize("kind", ["single", "multi", "pair"])
def test_several_labels_have_precisions_and_pairs_two_matrices(kind: str) -> None:
    predictions = drawn(kind, 60, 1, 1.0)
    scores, rows = predictions.scores(), [Row(str(i)) for i in range(60)]
    whole = class_analysis(scores, rows, CLASSES, CLASSES)
    parts = by_title(label_sections(whole, scores, CLASSES, CLASSES))
    three = ["Confusion matrix", "Most frequent mistakes", "Accuracy per class"]
    assert (
        list(parts)
        == {
            "single": [],
            "multi": ["Average precision per class", "Most frequent confusions"],
            "pair": [
                "Most frequent mistakes: action",
                *(f"{title}: {head}" for head in ("verb", "noun") for title in three),
            ],
        }[kind]
    )
    first = whole["confusions"][0]
    if kind == "multi":
        one = whole["classes"][0]
        table = cells(parts["Average precision per class"].body)
        assert table[1] == ["a", str(one["videos"]), f"{one['average_precision']:.4g}"]
        assert cells(parts["Most frequent confusions"].body)[1][2] == str(first["videos"])
    if kind == "pair":
        action = cells(parts["Most frequent mistakes: action"].body)[1]
        assert action[:3] == [first["label"], first["prediction"], str(first["videos"])]
        matrix = cells(parts["Confusion matrix: noun"].body)
        counts = [[int(cell) for cell in row[1:]] for row in matrix[1:]]
        assert counts == whole["noun"]["confusion"] != whole["verb"]["confusion"]


def test_many_classes_of_several_labels_show_both_ends() -> None:
    table = [
        {"class": f"class {i}", "videos": i % 3, "average_precision": i / 300 if i % 3 else None}
        for i in range(300)
    ]
    scores = drawn("multi", 9, 1, 1.0).scores()
    (part,) = label_sections({"classes": table, "confusions": []}, scores, [])
    assert "100 classes have no video" in part.note and "lowest" in part.note
    assert len(cells(part.body)) == 201
    assert len(re.findall(r"class \d+ \(\d\) [\d.]+[,\"]", part.body)) == 40
