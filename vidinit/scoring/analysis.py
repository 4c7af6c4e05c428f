"""What a model was surest of, right and wrong, and which classes it takes for which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ..data.rows import Row
from ..zoo.probabilities import best_actions, ranks
from .bootstrap import class_precisions
from .scores import Scores, wilson


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


_MOST = 50  # mistakes that are told


def class_table(scores: Scores, classes: Sequence[str]) -> list[dict[str, Any]]:
    """What is right of each class.

    Args:
        scores: of videos, no ``pair``: each of its `Scores.heads` has a table.
        classes: names.

    Returns:
        ``{class, videos, accuracy, interval}`` (Wilson's, 95 %) in the order of the classes; of
        ``multi`` labels ``{class, videos, average_precision}``. None for a class without videos.
    """
    keep = scores.readable
    labels = scores.labels[keep]
    if scores.kind == "multi":
        each = class_precisions(scores)(np.ones(len(labels), np.int64)) if len(labels) else None
        return [
            {
                "class": name,
                "videos": (count := int(labels[:, place].sum())),
                "average_precision": float(each[place]) if count and each is not None else None,
            }
            for place, name in enumerate(classes)
        ]
    right = scores.hits()["top1"][keep]
    table = []
    for place, name in enumerate(classes):
        mine = right[labels == place]
        rate = float(mine.mean()) if len(mine) else None
        interval = None if rate is None else list(wilson(rate, len(mine)))
        table.append({"class": name, "videos": len(mine), "accuracy": rate, "interval": interval})
    return table


def classes_without_videos(scores: Scores, classes: Sequence[str], nouns: Sequence[str]) -> int:
    """How many of the names no readable video has; of a ``pair`` verbs and nouns together."""
    names = {"verb": classes, "noun": nouns}
    parts = [(part, names[head]) for head, part in scores.heads().items()] or [(scores, classes)]
    return sum(not row["videos"] for part, own in parts for row in class_table(part, own))


def class_analysis(
    scores: Scores, rows: Sequence[Row], classes: Sequence[str], nouns: Sequence[str] = ()
) -> dict[str, Any]:
    """What classes are like, what is taken for what, and what the model was surest of.

    Args:
        scores: of the rows.
        rows: the videos.
        classes, nouns: names.

    Returns:
        ``classes`` (`class_table`), ``confusion`` (counts, of single labels), ``confusions`` and
        ``mistakes`` (the first of `analysis.confusions` and `analysis.surest`). Of ``multi`` labels
        ``missed``, too. Of a ``pair`` that is of its actions, which have no table and no matrix,
        and ``verb`` and ``noun`` have the same of their own.
    """

    def told(judged: Iterable[Judged]) -> list[dict[str, Any]]:
        return [one.as_dict(rows) for one in islice(judged, _MOST)]

    pair = scores.kind == "pair"
    found = {
        "classes": None if pair else class_table(scores, classes),
        "confusion": scores.confusion().tolist() if scores.kind == "single" else None,
        "confusions": confusions(scores, classes, nouns, most=_MOST),
        "mistakes": told(surest(scores, classes, nouns, right=False)),
    }
    if scores.kind == "multi":
        found["missed"] = told(missed(scores, classes))
    names = {"verb": classes, "noun": nouns}
    for head, part in scores.heads().items():
        found[head] = class_analysis(part, rows, names[head])
    return found


def calibration_of(scores: Scores, bins: int = 15) -> dict[str, Any] | None:
    """The expected calibration error and what it is made of.

    With n_b of the n videos in the b-th of equally wide bins of confidence (the probability of the
    predicted class), of accuracy a_b and mean confidence c_b, ECE = sum_b n_b / n |a_b - c_b| (Guo
    et al., "On Calibration of Modern Neural Networks", ICML 2017). A confidence on the border of
    two bins is in the lower one.

    Args:
        scores: of videos; unlabelled ones do not count.
        bins: how many.

    Returns:
        ``{ece, bins: [{low, high, videos, confidence, accuracy}]}``, the last two None in an empty
        bin; None where a video has several labels, or no video counts.
    """
    if scores.kind == "multi":
        return None
    keep = scores.readable & (scores.labels.reshape(len(scores.labels), -1)[:, 0] >= 0)
    if not keep.any():
        return None
    confidence = scores.probabilities[keep].max(axis=1)
    if scores.nouns is not None:  # the best action is the best verb with the best noun
        confidence = confidence * scores.nouns[keep].max(axis=1)
    right = scores.hits()["top1"][keep]
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found, error = [], 0.0
    for number in range(bins):
        mine = place == number
        count = int(mine.sum())
        mean = float(confidence[mine].mean()) if count else None
        accuracy = float(right[mine].mean()) if count else None
        if mean is not None and accuracy is not None:
            error += count / len(right) * abs(accuracy - mean)
        found.append(
            {
                "low": number / bins,
                "high": (number + 1) / bins,
                "videos": count,
                "confidence": mean,
                "accuracy": accuracy,
            }
        )
    return {"ece": error, "bins": found}
