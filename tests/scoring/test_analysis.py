"""What a model was surest of, and what it takes for what."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scoring_support import CLASSES, drawn

from vidinit.scoring.analysis import (
    class_analysis,
    classes_without_videos,
    confusions,
    missed_labels,
    most_confident,
    predicted_labels,
)
from vidinit.scoring.metrics import Scores


@pytest.mark.parametrize("kind", ["single", "multi", "pair"])
def test_every_video_is_right_or_wrong(kind):
    predictions = drawn(kind, 60, 1, 1.0)
    scores, labels = predictions.scores(), predictions.labels
    wrong, right = (list(most_confident(scores, CLASSES, CLASSES, right=r)) for r in (False, True))
    assert wrong and right
    for part in (wrong, right):
        values = [one.probability for one in part]
        assert values == sorted(values, reverse=True) and 0 not in [one.video for one in part]
    if kind == "multi":
        assert len(wrong) + len(right) == labels[1:].sum() == predicted_labels(scores).sum()
        lost = list(missed_labels(scores, CLASSES))
        assert len(lost) == len(wrong), "in the place of each label that is missed stands another"
        assert [one.label_probability for one in lost] == sorted(o.label_probability for o in lost)
        assert all(one.label in CLASSES for one in lost)
    else:
        assert len(wrong) + len(right) == 59
        assert len(right) / 59 == pytest.approx(scores.metrics()["top1"])
        assert all((one.label == one.prediction) is (one in right) for one in wrong + right)


@pytest.mark.parametrize("kind", ["single", "multi", "pair"])
def test_what_is_taken_for_what_is_counted(kind):
    predictions = drawn(kind, 80, 2, 0.5)
    scores, labels = predictions.scores(), predictions.labels
    counted: Counter = Counter()
    has: Counter = Counter()
    for video in range(1, 80):
        values = scores.probabilities[video]
        if kind == "multi":
            true = set(np.flatnonzero(labels[video]))
            said = set(np.argsort(-values)[: len(true)])
        elif kind == "single":
            true, said = {labels[video]}, {values.argmax()}
        else:
            true, said = {tuple(labels[video])}, {(values.argmax(), scores.nouns[video].argmax())}
        has.update(true)
        counted.update((a, b) for a in true - said for b in said - true)

    def name(ids) -> str:
        return " ".join(CLASSES[i] for i in np.atleast_1d(ids))

    found = confusions(scores, CLASSES, CLASSES, most=1000)
    assert len(found) == len(counted) > 3
    assert {(f["label"], f["prediction"]): (f["videos"], f["share"]) for f in found} == {
        (name(a), name(b)): (count, count / has[a]) for (a, b), count in counted.items()
    }
    counts = [one["videos"] for one in found]
    assert counts == sorted(counts, reverse=True)
    assert confusions(scores, CLASSES, CLASSES, most=2) == found[:2]


def test_one_label_each_is_the_same_as_single_labels():
    single = drawn("single", 50, 3, 1.0).scores()
    several = Scores(single.probabilities, np.eye(3, dtype=bool)[single.labels], [], "multi")
    assert confusions(several, CLASSES) == confusions(single, CLASSES)
    for right in (False, True):
        one, other = (list(most_confident(s, CLASSES, right=right)) for s in (single, several))
        assert [(j.video, j.prediction) for j in one] == [(j.video, j.prediction) for j in other]


def test_a_pair_has_its_parts_and_nothing_right_has_no_mistakes():
    predictions = drawn("pair", 40, 1, 1.0)
    scores, rows = predictions.scores(), predictions.rows.rows
    whole = class_analysis(scores, rows, CLASSES, CLASSES)
    assert whole["classes"] is whole["confusion"] is None and whole["mistakes"]
    for place, head in enumerate(("verb", "noun")):
        part = whole[head]
        assert (
            np.array(part["confusion"]).sum(1).tolist()
            == np.bincount(scores.labels[1:, place], minlength=3).tolist()
        )
        wrong = np.array(part["confusion"]).sum() - np.trace(part["confusion"])
        assert 0 < len(part["mistakes"]) == wrong
    assert classes_without_videos(scores, CLASSES, CLASSES) == 0
    few = Scores(scores.probabilities[:2], scores.labels[:2], [], "pair", scores.nouns[:2])
    assert classes_without_videos(few, CLASSES, CLASSES) == 4, "one video: a verb and a noun"
    for kind in ("single", "multi", "pair"):
        perfect = drawn(kind, 20, 1, 99.0).scores()
        found = class_analysis(perfect, rows[:20], CLASSES, CLASSES)
        assert found["confusions"] == found["mistakes"] == found.get("missed", []) == []
    unread = Scores(np.full((2, 3), np.nan), np.zeros((2, 3), bool), [], "multi")
    assert class_analysis(unread, rows[:2], CLASSES)["confusions"] == []
