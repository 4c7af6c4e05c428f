"""The best and the worst clips of an evaluation, as small moving pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.readers import VideoReadError, open_row
from ..scoring.analysis import LabeledPrediction, missed_labels, most_confident
from ..scoring.metrics import Scores
from .html import Section, figure
from .pictures import animation

if TYPE_CHECKING:
    from ..data.rows import Row

_EACH = 8  # clips of a kind
_FRAMES = 12
_SIDE = 128  # short side of decoded frames, in pixels
_FPS = 8.0


def clip_sections(
    rows: Sequence[Row],
    scores: Scores,
    classes: Sequence[str],
    nouns: Sequence[str] = (),
    *,
    reader: str = "auto",
) -> list[Section]:
    """The surest predictions, right and wrong, as moving pictures.

    Of ``multi`` labels also the labels that were missed; of a ``pair`` actions, and mistakes about
    the verb and the noun. A file is shown at most once in a section. One that cannot be read any
    more is passed.

    Args:
        rows: of the videos.
        scores: of these.
        classes, nouns: names.
        reader: that decodes, as `data.readers.open_video` takes it.

    Raises:
        ValueError: when the shapes do not fit.
    """
    shape = (len(rows), len(classes))
    if scores.probabilities.shape != shape or len(scores.labels) != len(rows):
        raise ValueError(
            f"expected {shape} and labels of {len(rows)}, "
            f"got {scores.probabilities.shape} and {len(scores.labels)}"
        )
    sections = []
    for title, note, judged, word in _chosen(scores, classes, nouns):
        captioned = ((rows[one.video], _caption(one, word)) for one in judged)
        body = "".join(_pictures(captioned, reader))
        if body:
            how = f"{note} Point at a clip, or tap it, and it plays."
            sections.append(Section(title, f'<div class="gallery">{body}</div>', how))
    return sections


def _chosen(
    scores: Scores, classes: Sequence[str], nouns: Sequence[str]
) -> Iterator[tuple[str, str, Iterable[LabeledPrediction], str]]:
    """Title, note, contents, and the word before their labels, of each section there may be."""
    wrong, right = (most_confident(scores, classes, nouns, right=which) for which in (False, True))
    if scores.kind == "multi":
        extra = "Classes that a video does not have, given to it with the highest probability."
        yield "Surest false positives", extra, wrong, "is"
        lost = "Labels of a video with the lowest probability, and what was said instead."
        yield "Surest missed labels", lost, missed_labels(scores, classes), "misses"
    else:
        yield "Surest mistakes", "What the model was most certain of, and wrong.", wrong, "is"
    for head, part in scores.heads().items():
        mistakes = most_confident(part, classes if head == "verb" else nouns, right=False)
        yield f"Surest mistakes: {head}", f"The same of the {head} alone.", mistakes, "is"
    yield "Surest hits", "What the model was most certain of, and right.", right, ""


def _caption(one: LabeledPrediction, word: str) -> str:
    """A caption: the prediction, and behind a word the label."""
    prediction = f"{one.prediction} {one.probability:.2f}"
    if not word:
        return prediction
    known = "" if one.label_probability is None else f" {one.label_probability:.2f}"
    return f"{prediction}\n{word} {one.label}{known}"


def _pictures(clips: Iterable[tuple[Row, str]], reader: str) -> Iterator[str]:
    """The first clips of different files that can be read, with their captions."""
    shown: set[str] = set()
    failed = 0
    for row, caption in clips:
        if len(shown) == _EACH or failed == _EACH:
            return
        if row.path in shown:
            continue
        try:
            frames = _frames(row, reader)
        except VideoReadError:
            failed += 1
            continue
        shown.add(row.path)
        name = Path(row.path).name
        line = caption.replace("\n", ", ")
        picture = animation(frames, label=f"{name}: predicted {line}", fps=_FPS)
        yield figure(picture, f"{caption}\n{name}")


def _frames(row: Row, reader: str) -> np.ndarray:
    """Frames from all over a clip, uint8 (T, H, W, 3)."""
    video = open_row(row, reader=reader, short_side=_SIDE)
    count = min(_FRAMES, video.num_frames)
    return video.get(np.linspace(0, video.num_frames - 1, count).round().astype(int))
