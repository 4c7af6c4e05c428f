"""The best and the worst clips of an evaluation, as small moving pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.readers import VideoReadError, open_row
from .html import Section, figure
from .pictures import animation

if TYPE_CHECKING:
    from ..data.rows import Row

_EACH = 8  # clips of a kind
_FRAMES = 12
_SIDE = 128  # short side of what is decoded, in pixels
_FPS = 8.0


def clip_sections(
    rows: Sequence[Row],
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    reader: str = "auto",
) -> list[Section]:
    """The surest mistakes and the surest hits, with what was said of them.

    A file is shown at most once. One that cannot be read any more is passed.

    Args:
        rows: of the videos, V of them.
        probabilities: (V, C); rows of NaN are videos without scores.
        labels: class ids (V,), -1 for none.
        classes: the C names.
        reader: what decodes, as `data.readers.open_video` takes it.

    Raises:
        ValueError: when the shapes do not fit.
    """
    if probabilities.shape != (len(rows), len(classes)) or labels.shape != (len(rows),):
        raise ValueError(
            f"expected ({len(rows)}, {len(classes)}) and ({len(rows)},), "
            f"got {probabilities.shape} and {labels.shape}"
        )
    known = np.flatnonzero(~np.isnan(probabilities).any(axis=1) & (labels >= 0))
    if not len(known):
        return []
    said = probabilities[known].argmax(axis=1)
    order = np.argsort(-probabilities[known, said], kind="stable")
    right = said == labels[known]

    def told(video: int) -> str:
        best, true = int(probabilities[video].argmax()), int(labels[video])
        text = f"{classes[best]} {probabilities[video, best]:.2f}"
        return (
            text if best == true else f"{text}\nis {classes[true]} {probabilities[video, true]:.2f}"
        )

    sections = []
    for title, note, wanted in (
        ("Surest mistakes", "What the model was most certain of, and wrong.", order[~right[order]]),
        ("Surest hits", "What the model was most certain of, and right.", order[right[order]]),
    ):
        captioned = ((rows[i], told(i)) for i in known[wanted].tolist())
        body = "".join(_pictures(captioned, reader))
        if body:
            sections.append(Section(title, f'<div class="gallery">{body}</div>', note))
    return sections


def _pictures(clips: Iterable[tuple[Row, str]], reader: str) -> Iterator[str]:
    """The first clips of different files that can be read, with what is told of them."""
    shown: set[str] = set()
    failed = 0
    for row, told in clips:
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
        spoken = told.replace("\n", ", ")
        picture = animation(frames, label=f"{name}: predicted {spoken}", fps=_FPS)
        yield figure(picture, f"{told}\n{name}")


def _frames(row: Row, reader: str) -> np.ndarray:
    """Frames from all over a clip, uint8 (T, H, W, 3)."""
    video = open_row(row, reader=reader, short_side=_SIDE)
    count = min(_FRAMES, video.num_frames)
    return video.get(np.linspace(0, video.num_frames - 1, count).round().astype(int))
