from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from vidinit.errors import UsageError
from vidinit.pipelines.predict.events import (
    Event,
    Finding,
    Labeler,
    check_events_file,
    clock,
    find_events,
    smoothing_width,
    threshold_of,
    write_events,
)

HEADS = {"classes": ["walk", "fall"]}


def clips(values: list[float | None], *, length: float = 2.0, step: float = 2.0):
    """Clips of two classes, by the probability of the second."""
    for i, value in enumerate(values):
        told = None if value is None else np.array([1 - value, value])
        yield step * i, step * i + length, told


def spans(events: list[Event]) -> list[tuple[float, float, str]]:
    return [(one.start, one.end, one.label) for one in events]


def test_neighbors_of_one_class_are_one_event() -> None:
    found = find_events(clips([0.1, 0.9, 0.7, 0.2]), Labeler(HEADS, False, Finding()))
    assert spans(found) == [(0, 2, "walk"), (2, 6, "fall"), (6, 8, "walk")]
    assert [one.score for one in found] == pytest.approx([0.9, 0.9, 0.8])
    assert found[1].peak == 3.0


def test_overlapping_clips_stand_for_the_time_around_their_middles() -> None:
    values = [0.1, 0.1, 0.9, 0.9, 0.1]
    found = find_events(clips(values, length=2, step=1), Labeler(HEADS, False, Finding("fall")))
    # Middles at 1, 2, 3, 4, 5: the third and the fourth stand for 2.5 to 4.5.
    assert spans(found) == [(2.5, 4.5, "fall")]
    first = find_events(clips([0.9, 0.1], length=2, step=1), Labeler(HEADS, False, Finding("fall")))
    assert spans(first) == [(0, 1.5, "fall")], "the first one from the beginning on"
    apart = find_events(clips([0.9, 0.1], length=1, step=5), Labeler(HEADS, False, Finding("fall")))
    assert spans(apart) == [(0, 1, "fall")], "nothing is said of what no clip shows"


def test_only_what_reaches_the_threshold_counts() -> None:
    values = [0.4, 0.6, 0.8, 0.3]
    for finding, expected in (
        (Finding("fall"), [(2, 6, "fall")]),
        (Finding("fall", 0.7), [(4, 6, "fall")]),
        (Finding("fall", 0.3), [(0, 8, "fall")]),
        (Finding(None, 0.65), [(4, 6, "fall"), (6, 8, "walk")]),
    ):
        assert spans(find_events(clips(values), Labeler(HEADS, False, finding))) == expected


def test_smoothing_joins_what_flickers() -> None:
    values = [0.9, 0.9, 0.3, 0.9, 0.9, 0.0, 0.0, 0.0]
    labeler = Labeler(HEADS, False, Finding("fall"))
    assert len(find_events(clips(values), labeler)) == 2
    # Means of three: 0.9, 0.7, 0.7, 0.7, 0.6, 0.3, ...
    (one,) = find_events(clips(values), labeler, width=3)
    assert (one.start, one.end, one.score) == (0, 10, pytest.approx(0.9))
    assert [smoothing_width(s, 2.0) for s in (0, 3.9, 4.0, 6.0, 8.0)] == [1, 1, 3, 3, 5]


def test_smoothing_is_the_mean_of_the_neighbors_there_are() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(20)
    heads = {"classes": ["other", "one"]}
    for width in (1, 3, 7):
        half = width // 2
        means = [values[max(i - half, 0) : i + half + 1].mean() for i in range(20)]
        events = find_events(
            clips(values.tolist()), Labeler(heads, False, Finding("one", 0.0)), width=width
        )
        assert events[0].score == pytest.approx(max(means))
        assert events[0].peak == 2 * int(np.argmax(means)) + 1


def test_what_was_not_read_ends_an_event() -> None:
    found = find_events(clips([0.9, None, 0.9]), Labeler(HEADS, False, Finding("fall")), width=3)
    assert spans(found) == [(0, 2, "fall"), (4, 6, "fall")]
    assert find_events([], Labeler(HEADS, False, Finding())) == []


def test_several_classes_at_once() -> None:
    told = [
        (0, 1, np.array([0.9, 0.8])),
        (1, 2, np.array([0.9, 0.1])),
        (2, 3, np.array([0.1, 0.2])),
    ]
    found = find_events(told, Labeler(HEADS, True, Finding()))
    assert spans(found) == [(0, 1, "fall"), (0, 2, "walk")]


def test_actions_are_verb_and_noun() -> None:
    heads = {"verbs": ["put", "take"], "nouns": ["cup", "pan"]}
    told = [(0, 1, np.array([0.8, 0.2, 0.1, 0.9]))]
    (one,) = find_events(told, Labeler(heads, False, Finding()))
    assert (one.label, one.score) == ("put pan", pytest.approx(0.72))


def test_a_class_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"no class 'fal'.*fall"):
        Labeler(HEADS, False, Finding("fal"))


EVENTS = [
    Event(0.5, 62.0, "a, b", 0.91, 3.0),
    Event(3723.04, 3724.9996, "c", 0.5, 3724.0),
]


def test_files_of_every_form(tmp_path: Path) -> None:
    for suffix in (".csv", ".json", ".srt"):
        write_events(tmp_path / f"e{suffix}", {"x.mp4": EVENTS})
    rows = list(csv.reader((tmp_path / "e.csv").open()))
    assert rows[0] == ["path", "start", "end", "class", "score"]
    assert rows[1] == ["x.mp4", "0.500", "62.000", "a, b", "0.910000"]
    first, _ = json.loads((tmp_path / "e.json").read_text())
    assert first == {"path": "x.mp4", "start": 0.5, "end": 62.0, "class": "a, b", "score": 0.91}
    assert (tmp_path / "e.srt").read_text() == (
        "1\n00:00:00,500 --> 00:01:02,000\na, b (0.91)\n\n"
        "2\n01:02:03,040 --> 01:02:05,000\nc (0.50)\n"
    )
    assert [clock(one) for one in (0.5, 62.0, 3724.96)] == ["0:00.5", "1:02.0", "1:02:05.0"]


def test_files_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "there.csv").touch()
    for name, videos, words in (
        ("e.txt", 1, "end its name in .csv, .srt, .json"),
        ("e.srt", 2, "subtitles are of one video"),
        ("there.csv", 1, "exists"),
    ):
        with pytest.raises(UsageError, match=words):
            check_events_file(tmp_path / name, videos=videos, overwrite=False)
    check_events_file(tmp_path / "there.csv", videos=2, overwrite=True)


def test_a_threshold_is_a_number_or_an_evaluation(tmp_path: Path) -> None:
    assert threshold_of("0.7", "fall") == (0.7, "fall") and threshold_of(0, None) == (0.0, None)
    two = {"threshold": 0.62, "positive": "fall"}
    (tmp_path / "result.json").write_text(json.dumps({"two_class": two}))
    assert (
        threshold_of(str(tmp_path), None) == threshold_of(str(tmp_path), "fall") == (0.62, "fall")
    )
    with pytest.raises(UsageError, match="that of 'fall', not of 'walk'"):
        threshold_of(str(tmp_path), "walk")
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UsageError, match="--positive CLASS"):
        threshold_of(str(tmp_path), None)
    for word, words in (("1.5", "0 to 1"), ("much", "no number, and no evaluation")):
        with pytest.raises(UsageError, match=words):
            threshold_of(word, None)
