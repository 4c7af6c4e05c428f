"""The logits of every view of a data set, in memory and on disk: scored again without the model.

No torch is imported here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..data.rows import LabelKind, Row, Rows
from ..files import written
from ..zoo.probabilities import Average, averaged
from .archive import read_archive
from .metrics import Scores, labels_of, single_label

FILE = "predictions.npz"
"""Its name in the folder of an evaluation."""

LAYOUTS = ("dense", "whole")
"""Layouts without a fixed grid: as many views as a video is long, and one view as long as it."""

_FORMAT = "vidinit predictions 1"

# Numbers that are averaged at a time, so that memory does not grow with the data set.
_NUMBERS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Predictions:
    """The logits of all views of all videos.

    Attributes:
        rows: the videos, in the order of the data set, with the names of the classes.
        logits: float32 or float16 (views of all videos, K), those of a video one after the other,
            the crops of its first clip first; the verbs of a ``pair`` before the nouns.
        views: how many views each video has, int64 (videos,); 0 where it has no scores.
        reasons: why, by row.
        undecoded: how many of these could not be read; of the others the logits are no numbers.
        crops: of each clip.
        layout: the views of a video in words: ``10x3`` clips and crops, ``dense`` or ``whole``.
        average: over the views; see `zoo.probabilities.averaged`.
        model: whose they are, as the user named it.
        data: what was scored, as the user named it.
        folder: what relative paths are relative to.
    """

    rows: Rows
    logits: np.ndarray
    views: np.ndarray
    reasons: dict[int, str]
    undecoded: int
    crops: int
    layout: str
    average: Average
    model: str
    data: str
    folder: str

    @property
    def classes(self) -> list[str]:
        """Names of the first classes."""
        return list(self.rows.classes or ())

    @property
    def sizes(self) -> list[int]:
        """How many logits each head has."""
        return [len(names) for names in (self.rows.classes, self.rows.nouns) if names is not None]

    @property
    def clips(self) -> int:
        """The most clips that a video has."""
        return int(self.views.max(initial=0)) // self.crops

    @property
    def labels(self) -> np.ndarray:
        """Labels in the form of `Scores.labels`."""
        return labels_of(self.rows, len(self.classes))

    @property
    def keys(self) -> list[tuple[str, float | None, float | None]]:
        """(absolute path, start, end) of each video, by which those of two runs are matched."""
        return [
            (os.path.normpath(os.path.join(self.folder, row.path)), row.start, row.end)
            for row in self.rows.rows
        ]

    def scores(
        self,
        *,
        average: Average | None = None,
        clips: int | None = None,
        crops: int | None = None,
    ) -> Scores:
        """The videos scored by all of their views, or by some.

        Args:
            average: over the views; default: as recorded.
            clips: how many of a video's; see `choose_views`. Videos with fewer are scored by all.
            crops: 1 for the one in the middle; default: all.
        """
        values = np.full((len(self.rows), sum(self.sizes)), np.nan)
        for videos, logits in self.blocks():
            views = choose_views(logits.shape[1], self.crops, clips, crops)
            values[videos] = averaged(
                logits[:, views],
                self.sizes,
                kind=self.rows.kind,
                average=average or self.average,
            )
        first = len(self.classes)
        return Scores(
            values[:, :first],
            self.labels,
            [(self.rows.rows[row].path, reason) for row, reason in sorted(self.reasons.items())],
            self.rows.kind,
            values[:, first:] if self.rows.kind == "pair" else None,
        )

    def view_accuracy(self) -> float | None:
        """Share of all views that are right by themselves; None where labels are not one class."""
        if self.rows.kind != "single":
            return None
        labels = np.repeat(self.labels, self.views)
        return single_label(self.logits, labels)["top1"] if len(labels) else None

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Videos with equally many views, and their logits (videos, views, K)."""
        first = np.cumsum(self.views) - self.views
        # `averaged` wants equally many views of each video: one block a count, not one a video.
        for count in np.unique(self.views[self.views > 0]).tolist():
            videos = np.flatnonzero(self.views == count)
            size = max(1, _NUMBERS_AT_ONCE // (count * max(1, self.logits.shape[1])))
            for start in range(0, len(videos), size):
                part = videos[start : start + size]
                yield part, self.logits[first[part][:, None] + np.arange(count)]

    def save(self, path: Path) -> None:
        """Write them under a temporary name, then rename.

        Raises:
            VidinitError: the disk does not take them; what was there before is still there.
        """
        advice = "make room, name another --out, or pass eval.scores=float16 for half of it"
        size = self.logits.nbytes / 1e6
        with written(path, size=size, advice=advice) as part, part.open("wb") as file:
            np.savez(file, **self._arrays())

    def _arrays(self) -> dict[str, Any]:
        rows = self.rows
        spans = [[np.nan if t is None else t for t in (row.start, row.end)] for row in rows.rows]
        return {
            "format": np.array(_FORMAT),
            "logits": self.logits,
            "views": self.views,
            "crops": np.array(self.crops),
            "layout": np.array(self.layout),
            "average": np.array(self.average),
            "paths": _texts(row.path for row in rows.rows),
            "folder": np.array(self.folder),
            "segments": np.array(spans, dtype=np.float64).reshape(-1, 2),
            "labels": self.labels,
            "kind": np.array(rows.kind),
            "classes": _texts(self.classes),
            "nouns": _texts(rows.nouns or ()),
            "reasons": _texts(self.reasons.get(row, "") for row in range(len(rows))),
            "undecoded": np.array(self.undecoded),
            "model": np.array(self.model),
            "data": np.array(self.data),
        }


def _texts(texts: Iterable[str]) -> np.ndarray:
    return np.array(list(texts), dtype=np.str_)


def choose_views(
    views: int, per_clip: int, clips: int | None = None, crops: int | None = None
) -> np.ndarray:
    """Numbers of the views of a video that stand for a smaller grid, int64.

    Of N clips, n are those nearest to the middles of n equal parts: clip
    ``floor((2 i + 1) N / (2 n))`` for i = 0 ... n - 1.

    Args:
        views: of the video, the crops of its first clip first.
        per_clip: crops of a clip.
        clips: n; all where it is None or more.
        crops: 1 for the middle one; None, or as many as there are: all.
    """
    total = views // per_clip
    count = total if clips is None else min(clips, total)
    numbers = (2 * np.arange(count) + 1) * total // (2 * count)
    inside = np.array([per_clip // 2]) if crops == 1 else np.arange(per_clip)
    return (numbers[:, None] * per_clip + inside).ravel()


_CURVE_CLIPS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100)


def curve_of(predictions: Predictions) -> Iterator[tuple[dict[str, int], dict[str, float]]]:
    """The metrics of smaller and smaller shares of the views, the smallest first.

    The clips of a smaller grid are chosen from those there are (`choose_views`); where n
    clips alone would be cut at other times, or one crop alone to another scale, its figures are
    near to those of an evaluation with n clips or one crop, and not the same.

    Yields:
        ``{clips, crops, views}`` of a video, and its metrics.
    """
    most = predictions.clips
    for crops in sorted({1, predictions.crops}):
        for clips in [*(n for n in _CURVE_CLIPS if n < most), *([most] if most else [])]:
            scores = predictions.scores(clips=clips, crops=crops)
            yield {"clips": clips, "crops": crops, "views": clips * crops}, scores.metrics()


_HINT = f"name {FILE} in the folder of an evaluation, or evaluate again"


def load(path: str | Path) -> Predictions:
    """The predictions of an evaluation.

    Args:
        path: a file as `Predictions.save` writes it, or a folder with one.

    Raises:
        UsageError: there is no such file.
        DataError: it is cut off, damaged, or another file.
    """
    return read_archive(
        path, _from_arrays, name=FILE, form=_FORMAT, holds="predictions", hint=_HINT
    )


def _from_arrays(arrays: dict[str, np.ndarray]) -> Predictions:
    """Predictions from the arrays of a file.

    Raises:
        ValueError, KeyError: they do not fit together.
    """
    kind, average = str(arrays["kind"]), str(arrays["average"])
    if kind not in get_args(LabelKind) or average not in get_args(Average):
        raise ValueError
    rows = _rows(arrays, kind)  # type: ignore[arg-type]
    logits, views = arrays["logits"], arrays["views"]
    crops = int(arrays["crops"])
    reasons = {row: str(text) for row, text in enumerate(arrays["reasons"]) if text}
    made = Predictions(
        rows,
        logits,
        views,
        reasons,
        int(arrays["undecoded"]),
        crops,
        str(arrays["layout"]),
        average,  # type: ignore[arg-type]
        str(arrays["model"]),
        str(arrays["data"]),
        str(arrays["folder"]),
    )
    shapes = (logits.shape, views.shape) == ((int(views.sum()), sum(made.sizes)), (len(rows),))
    if not shapes or logits.dtype.kind != "f" or crops < 1 or (views % crops).any():
        raise ValueError
    if set(np.flatnonzero(views == 0).tolist()) != set(reasons):
        raise ValueError
    return made


def _rows(arrays: dict[str, np.ndarray], kind: LabelKind) -> Rows:
    labels = arrays["labels"]
    if kind == "multi":
        each: list[Any] = [tuple(np.flatnonzero(one).tolist()) for one in labels]
    elif kind == "pair":
        each = [None if one[0] < 0 else (int(one[0]), int(one[1])) for one in labels]
    else:
        each = [None if one < 0 else int(one) for one in labels]
    spans = [[None if np.isnan(t) else float(t) for t in span] for span in arrays["segments"]]
    rows = [
        Row(str(path), label, start, end)
        for path, label, (start, end) in zip(arrays["paths"], each, spans, strict=True)
    ]
    nouns = tuple(map(str, arrays["nouns"])) if kind == "pair" else None
    return Rows(tuple(rows), tuple(map(str, arrays["classes"])), kind, nouns)
