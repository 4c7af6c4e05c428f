from __future__ import annotations

import json

import numpy as np
import pytest
from report.browsing import Reader
from support import moving_bar, write_video

from vidinit.data.rows import Row
from vidinit.errors import UsageError
from vidinit.pipelines.predict.events import Event
from vidinit.pipelines.predict.lines import Lines, Prediction, check_format
from vidinit.pipelines.predict.timeline_page import BinnedCurve, timeline_page


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
    heads = {"verbs": names, "nouns": ["a", "b"]}
    text = timeline_page(curve, heads, title="x & y.mp4", seconds=360.0)
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


def test_the_page_begins_with_the_events_and_shows_them_to_scale(tmp_path):
    curve = BinnedCurve(2)
    for clip in range(10):
        curve.add(clip, clip + 0.5, np.array([0.2, 0.8]))
    video = write_video(tmp_path / "v.mp4", moving_bar(1, 0, frames=100))  # of 12 frames a second
    events = [Event(0.0, 2.5, "fall", 0.9, 1.0), Event(5.0, 7.5, "a <b>", 0.7, 6.0)]
    text = timeline_page(
        curve,
        {"classes": ["a <b>", "fall"]},
        title="v",
        seconds=10.0,
        events=events,
        row=Row(str(video)),
    )
    read = Reader(text)
    assert text.index("2 events in 0:10.0") < text.index("<h2>Events")
    assert "The surest is fall at 0:01.0, with 0.90." in text
    bars = [a for t, a in read.tags if t == "span" and "background" in str(a.get("style"))]
    assert [str(a["style"])[:34] for a in bars] == [
        "left: 0.000%; width: 25.000%; back", "left: 50.000%; width: 25.000%; bac"
    ]  # fmt: skip
    assert bars[1]["title"] == "a <b> 0:05.0 to 0:07.5, 0.70"
    assert text.count("--frames: 8") == 2, "a moving picture of each"
    assert read.texts["td"][-8:] == [
        "0:00.0",
        "0:02.5",
        "fall",
        "0.9",
        "0:05.0",
        "0:07.5",
        "a <b>",
        "0.7",
    ]
    none = timeline_page(curve, {"classes": ["a", "b"]}, title="v", seconds=10.0)
    assert "No event in 0:10.0" in none and "<h2>Events" not in none


def test_lines_of_a_timeline():
    clip = Prediction("a.mp4", [("run", 0.5)], start=1.0, end=2.5)
    events = [Event(1.0, 62.5, "run, fast", 0.5, 2.0), Event(62.5, 64.0, "rest", 0.75, 63.0)]
    file = Prediction("a.mp4", [("run", 0.4)], timeline="a.jsonl", events=events)
    lost = Prediction("b.mp4", [], "the file is empty", events=[])
    lines = Lines("csv")
    assert [line for told in (clip, file, lost) for line in lines.of(told)] == [
        "path,start,end,class,score,error",
        'a.mp4,1.000,62.500,"run, fast",0.5,',
        "a.mp4,62.500,64.000,rest,0.75,",
        "b.mp4,,,,,the file is empty",
    ]
    table = Lines("table")
    head, row, _ = [line for told in (clip, file, lost) for line in table.of(told)]
    assert head.split() == ["start", "end", "score", "class", "file"]
    assert row.split() == ["0:01.0", "1:02.5", "0.50", "run,", "fast", "a.mp4"]
    told = [json.loads(line) for one in (file, lost) for line in Lines("jsonl").of(one)]
    assert told == [
        {"path": "a.mp4", "start": 1.0, "end": 62.5, "class": "run, fast", "score": 0.5},
        {"path": "a.mp4", "start": 62.5, "end": 64.0, "class": "rest", "score": 0.75},
        {"path": "b.mp4", "error": "the file is empty"},
    ]
    assert file.as_dict()["events"] == [event.as_dict() for event in events]
