"""What a model was surest of, right and wrong, and which classes it takes for which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.rows import Row
from .metrics import best_actions, ranks
from .scores import Scores


@dataclass(frozen=True)
class Judged:
    """Something that a model said of a video, or did not say.

    Attributes:
        video: its row.
        label: what it is; of several labels apart by ``|``; empty for none.
        prediction: what the model said.
        probability: of the prediction.
        label_probability: of the label; None where there are several.
    """

    video: int
    label: str
    prediction: str
    probability: float
    label_probability: float | None

    def as_dict(self, rows: Sequence[Row]) -> dict[str, Any]:
        """As analysis.json has it."""
        row = rows[self.video]
        return {
            "path": row.path,
            "start": row.start,
            "end": row.end,
            "label": self.label,
            "prediction": self.prediction,
            "probability": self.probability,
            "label_probability": self.label_probability,
        }


def surest(
    scores: Scores, classes: Sequence[str], nouns: Sequence[str] = (), *, right: bool
) -> Iterator[Judged]:
    """What the model was right or wrong about, the highest probability first.

    Of ``single`` labels that is the most probable class of a video, of a ``pair`` the most probable
    action, and of ``multi`` labels each class that the video is `given`. Unlabelled videos do not
    count.

    Args:
        scores: of videos.
        classes, nouns: names.
        right: which of the two.
    """
    if scores.kind == "multi":
        said = given(scores)
        yield from _of_several(scores, classes, said & (scores.labels == right))
        return
    told = _predicted(scores)
    wanted = np.flatnonzero((told.said == told.true).all(axis=1) == right)
    for place in wanted[np.argsort(-told.probability[wanted], kind="stable")].tolist():
        yield Judged(
            int(told.videos[place]),
            _name(told.true[place], classes, nouns),
            _name(told.said[place], classes, nouns),
            float(told.probability[place]),
            float(told.of_label[place]),
        )


def missed(scores: Scores, classes: Sequence[str]) -> Iterator[Judged]:
    """Labels that videos have and are not `given`, the lowest probability first.

    The prediction is the most probable class of the video.

    Args:
        scores: of videos with ``multi`` labels.
        classes: names.
    """
    lost = np.argwhere(scores.labels & ~given(scores) & scores.readable[:, None])
    values = scores.probabilities[tuple(lost.T)]
    for place in np.argsort(values, kind="stable").tolist():
        video, label = lost[place].tolist()
        best = int(scores.probabilities[video].argmax())
        highest = float(scores.probabilities[video, best])
        yield Judged(video, classes[label], classes[best], highest, float(values[place]))


def given(scores: Scores) -> np.ndarray:
    """The classes that videos of ``multi`` labels are given, bool (videos, classes).

    As many as a video has labels, the most probable ones: like the metrics this goes by ranks, and
    needs no threshold. With one label a video it is the most probable class.
    """
    places = np.argsort(ranks(scores.probabilities), axis=1)
    taken = places < scores.labels.sum(axis=1, keepdims=True)
    return np.asarray(taken & scores.readable[:, None])


def confusions(
    scores: Scores, classes: Sequence[str], nouns: Sequence[str] = (), *, most: int = 50
) -> list[dict[str, Any]]:
    """Which class is taken for which, the most frequent first.

    Args:
        scores: of videos. Of ``multi`` labels each label that a video is not `given` is taken for
            each class that it is given and does not have.
        classes, nouns: names; of a ``pair`` actions are counted.
        most: how many at most.

    Returns:
        ``{label, prediction, videos, share}`` each, ``share`` of the label's videos.
    """
    pairs, counts, totals = _taken_for(scores)
    order = np.argsort(-counts, kind="stable")[:most].tolist()
    return [
        {
            "label": _name(pairs[place, 0], classes, nouns),
            "prediction": _name(pairs[place, 1], classes, nouns),
            "videos": int(counts[place]),
            "share": float(counts[place] / totals[place]),
        }
        for place in order
    ]


@dataclass(frozen=True)
class _Predicted:
    """Of labelled videos with scores: class ids (N, 1), or those of verb and noun (N, 2)."""

    videos: np.ndarray
    true: np.ndarray
    said: np.ndarray
    probability: np.ndarray
    of_label: np.ndarray


def _predicted(scores: Scores) -> _Predicted:
    labels = scores.labels.reshape(-1, 1 if scores.nouns is None else 2)
    videos = np.flatnonzero(scores.readable & (labels[:, 0] >= 0))
    values, true = scores.probabilities[videos], labels[videos]
    of_label = np.take_along_axis(values, true[:, :1], axis=1)[:, 0]
    if scores.nouns is None:
        said = ranks(values)[:, :1]
        return _Predicted(videos, true, said, values.max(axis=1, initial=0), of_label)
    nouns = scores.nouns[videos]
    ids, products = best_actions(values, nouns, 1)
    of_label = of_label * np.take_along_axis(nouns, true[:, 1:], axis=1)[:, 0]
    return _Predicted(videos, true, ids[:, 0], products[:, 0], of_label)


def _taken_for(scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (N, 2, 1 or 2) of what is taken for what, how often, and of how many videos."""
    if scores.kind == "multi":
        said, keep = given(scores), scores.readable
        lost, extra = scores.labels & ~said & keep[:, None], said & ~scores.labels
        matrix = lost.T.astype(np.float32) @ extra.astype(np.float32)  # exact, as counts are
        pairs = np.argwhere(matrix)
        totals = scores.labels[keep].sum(axis=0)[pairs[:, 0]]
        return pairs[:, :, None], matrix[tuple(pairs.T)].astype(np.int64), totals
    told = _predicted(scores)
    wrong = (told.said != told.true).any(axis=1)
    both = np.stack([told.true, told.said], axis=1)[wrong]
    pairs, counts = np.unique(both, axis=0, return_counts=True)
    labels, sizes = np.unique(told.true, axis=0, return_counts=True)
    size_of = {tuple(label): size for label, size in zip(labels.tolist(), sizes, strict=True)}
    totals = np.array([size_of[tuple(label)] for label in pairs[:, 0].tolist()], dtype=np.int64)
    return pairs, counts, totals


def _name(ids: np.ndarray, classes: Sequence[str], nouns: Sequence[str]) -> str:
    first, *second = ids.tolist()
    return f"{classes[first]} {nouns[second[0]]}" if second else classes[first]


def _of_several(scores: Scores, classes: Sequence[str], wanted: np.ndarray) -> Iterator[Judged]:
    """The wanted (video, class) as predictions, the highest probability first."""
    found = np.argwhere(wanted)
    values = scores.probabilities[tuple(found.T)]
    for place in np.argsort(-values, kind="stable").tolist():
        video, said = found[place].tolist()
        label = "|".join(classes[i] for i in np.flatnonzero(scores.labels[video]).tolist())
        yield Judged(video, label, classes[said], float(values[place]), None)
