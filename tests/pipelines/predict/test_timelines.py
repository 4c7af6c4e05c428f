from __future__ import annotations

import json

import numpy as np
import pytest

from vidinit.errors import UsageError
from vidinit.pipelines.predict.lines import Lines, Prediction, check_format
from vidinit.pipelines.predict.timelines import BinnedCurve, timeline_page


def test_a_course_keeps_its_size_and_its_means():
    curve = BinnedCurve(2, bins=4)
    values = np.random.default_rng(0).random((11, 2))
    for clip, row in enumerate(values):
        curve.add(clip, float(clip), row)
    assert curve.sums.shape == (4, 2) and curve.width == 4
    times, means = curve.points()
    assert times.tolist() == [1.5, 5.5, 9.0]
    assert np.allclose(means, [values[0:4].mean(0), values[4:8].mean(0), values[8:].mean(0)])
    assert np.allclose(curve.mean, values.mean(0))


def test_clips_without_values_are_gaps():
    curve = BinnedCurve(1, bins=4)
    assert curve.mean is None
    curve.add(3, 3.0, np.array([0.5]))
    assert curve.points()[0].tolist() == [3.0] and curve.mean.tolist() == [0.5]


def test_a_page_shows_the_classes_with_the_highest_peaks():
    curve = BinnedCurve(10)
    for clip in range(600):  # over 512: two clips a point
        values = np.full(10, 0.01)
        values[clip // 150] = 0.9
        curve.add(clip, 0.6 * clip, values)
    names = [f"class<{i}>" for i in range(8)]
    text = timeline_page(curve, {"verbs": names, "nouns": ["a", "b"]}, title="x & y.mp4")
    assert "x &amp; y.mp4" in text and "600 clips" in text and "2 neighboring clips" in text
    assert text.count("<svg") == 2 and "probability over minutes" in text
    for shown in ("class&lt;0&gt;", "class&lt;3&gt;", ">a<"):
        assert shown in text
    assert "class&lt;7&gt;" not in text  # six of a head at most


def test_lines_of_every_format():
    one = Prediction("a b.mp4", [("jump, high", 0.75), ("run", 0.25)])
    bad = Prediction("c.mp4", [], "it is empty")
    lines = Lines("csv")
    assert [*lines.of(one), *lines.of(bad)] == [
        "path,rank,class,probability,error",
        'a b.mp4,1,"jump, high",0.75,',
        "a b.mp4,2,run,0.25,",
        "c.mp4,,,,it is empty",
    ]
    table = Lines("table")
    head, first, _ = table.of(one)
    assert head.split() == ["probability", "class", "file"] and list(table.of(bad)) == []
    assert first.index("jump") == head.index("class") and first.endswith("  a b.mp4")
    assert [json.loads(line) for line in Lines("jsonl").of(bad)] == [bad.as_dict()]
    with pytest.raises(UsageError, match="'jsonl'"):
        check_format("json")


def test_lines_of_a_timeline():
    clip = Prediction("a.mp4", [("run", 0.5)], start=1.0, end=2.5)
    file = Prediction("a.mp4", [("run", 0.4)], timeline="a.jsonl")
    lines = Lines("csv", timeline=True)
    lost = Prediction("a.mp4", [], "1 of its 9 clips cannot be read")
    assert [line for told in (clip, file, lost) for line in lines.of(told)] == [
        "path,start,end,rank,class,probability,error",
        "a.mp4,1.000,2.500,1,run,0.5,",
        "a.mp4,,,,,,1 of its 9 clips cannot be read",
    ]
    head, row = Lines("table", timeline=True).of(clip)
    assert head.split() == ["start", "end", "probability", "class", "file"]
    assert row.split() == ["1.00", "2.50", "0.5000", "run", "a.mp4"]
    assert list(Lines("jsonl", timeline=True).of(file)) == []
