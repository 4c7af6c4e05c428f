from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import moving_bar, write_video

from vidinit.data.rows import Row
from vidinit.report import clip_examples
from vidinit.report.clip_examples import clip_sections
from vidinit.report.html import Section
from vidinit.scoring.metrics import Scores


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("clips")
    return [str(write_video(root / f"{i}.mp4", moving_bar(4, i))) for i in range(4)]


def captions(section: Section) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", section.body)


def frame_counts(body: str) -> list[int]:
    """How many frames each moving picture has: as it says, and as many lie side by side in it."""
    counts = [int(text) for text in re.findall(r"--frames: (\d+)", body)]
    parts = re.findall(r"aspect-ratio: (\d+) / (\d+)", body)
    data = re.findall(r' src="data:image/webp;base64,([^"]*)"', body)
    for count, (width, height), text in zip(counts, parts, data, strict=True):
        size = Image.open(io.BytesIO(base64.b64decode(text))).size
        assert size == (count * int(width), int(height))
    return counts


def test_the_surest_come_first_and_say_what_they_are(videos: list[str]) -> None:
    rows = [Row(path) for path in videos]
    said = np.array([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    scores = Scores(said, np.array([0, 0, 1, 1]), [])
    mistakes, hits = clip_sections(rows, scores, ["<a>", "b"])
    assert captions(mistakes) == [
        "b 0.90<br>is &lt;a&gt; 0.10<br>1.mp4",
        "&lt;a&gt; 0.70<br>is b 0.30<br>3.mp4",
    ]
    assert captions(hits) == ["b 0.80<br>2.mp4", "&lt;a&gt; 0.60<br>0.mp4"]
    assert 'alt="1.mp4: predicted b 0.90, is &lt;a&gt; 0.10"' in mistakes.body
    assert frame_counts(mistakes.body + hits.body) == [10] * 4


def test_what_cannot_be_shown_is_passed(videos: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    rows = [Row(str(tmp_path / "bad.mp4")), Row(str(tmp_path / "gone.mp4"))]
    rows += [Row(videos[0], start=0.0, end=0.4), Row(videos[0]), Row(videos[1]), Row(videos[2])]
    said = np.array([[0.9, 0.1]] * 4 + [[np.nan, np.nan], [0.6, 0.4]])
    scores = Scores(said, np.array([0, 0, 0, 0, 0, -1]), [])
    (hits,) = clip_sections(rows, scores, ["a", "b"])
    assert hits.title == "Surest hits" and captions(hits) == ["a 0.90<br>0.mp4"]
    assert frame_counts(hits.body) == [5], "the segment alone"
    one, none = Scores(said[:1], np.array([0]), []), Scores(said[:0], scores.labels[:0], [])
    assert clip_sections(rows[:1], one, ["a", "b"]) == []
    assert clip_sections([], none, ["a", "b"]) == []


def test_a_file_is_shown_once_and_a_few_are_enough(
    videos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Row(videos[i % 4]) for i in range(8)]
    scores = Scores(np.tile([0.9, 0.1], (8, 1)), np.zeros(8, dtype=np.int64), [])
    (hits,) = clip_sections(rows, scores, ["a", "b"])
    assert len(captions(hits)) == 4
    monkeypatch.setattr(clip_examples, "_EACH", 2)
    (hits,) = clip_sections(rows, scores, ["a", "b"])
    assert [text.rpartition(">")[2] for text in captions(hits)] == ["0.mp4", "1.mp4"]


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        clip_sections([Row("x")], Scores(np.zeros((1, 3)), np.zeros(1, np.int64), []), ["a", "b"])


def test_several_labels_show_what_was_said_and_what_was_not(videos: list[str]) -> None:
    rows = [Row(path) for path in videos[:2]]
    said = np.array([[0.9, 0.2, 0.6], [0.3, 0.8, 0.1]])
    scores = Scores(said, np.array([[True, True, False], [False, True, False]]), [], "multi")
    parts = clip_sections(rows, scores, ["a", "b", "c"])
    assert [(part.title, captions(part)) for part in parts] == [
        ("Surest false positives", ["c 0.60<br>is a|b<br>0.mp4"]),
        ("Surest missed labels", ["a 0.90<br>misses b 0.20<br>0.mp4"]),
        ("Surest hits", ["a 0.90<br>0.mp4", "b 0.80<br>1.mp4"]),
    ]


def test_verbs_and_nouns_have_mistakes_of_their_own(videos: list[str]) -> None:
    rows = [Row(path) for path in videos[:2]]
    verbs, nouns = np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([[0.4, 0.6], [0.1, 0.9]])
    scores = Scores(verbs, np.array([[0, 0], [1, 1]]), [], "pair", nouns)
    parts = clip_sections(rows, scores, ["put", "take"], ["cup", "pan"])
    assert [(part.title, captions(part)) for part in parts] == [
        ("Surest mistakes", ["put pan 0.54<br>is put cup 0.36<br>0.mp4"]),
        ("Surest mistakes: noun", ["pan 0.60<br>is cup 0.40<br>0.mp4"]),
        ("Surest hits", ["take pan 0.63<br>1.mp4"]),
    ]
