"""Which classes a model confuses, where it is most confident, and how well that is calibrated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ..data.rows import Row
from ..zoo.probabilities import best_actions, ranks
from .metrics import Scores, class_precisions, wilson

_MOST = 50  # mistakes, and pairs of classes, that analysis.json has


def class_analysis(
    scores: Scores, rows: Sequence[Row], classes: Sequence[str], nouns: Sequence[str] = ()
) -> dict[str, Any]:
    """Results by class, confusions of classes, and the most confident mistakes.

    Args:
        scores: of the rows.
        rows: the videos.
        classes, nouns: names.

    Returns:
        ``classes`` (`class_table`), ``confusion`` (counts, of single labels), ``confusions`` and
        ``mistakes`` (the first of `confusions` and `most_confident`). Of ``multi`` labels
        ``missed``, too. Of a ``pair`` that is of its actions, which have no table and no matrix,
        and ``verb`` and ``noun`` have the same of their own.
    """

    def first(predictions: Iterable[LabeledPrediction]) -> list[dict[str, Any]]:
        return [one.as_dict(rows) for one in islice(predictions, _MOST)]

    pair = scores.kind == "pair"
    analysis = {
        "classes": None if pair else class_table(scores, classes),
        "confusion": scores.confusion().tolist() if scores.kind == "single" else None,
        "confusions": confusions(scores, classes, nouns, most=_MOST),
        "mistakes": first(most_confident(scores, classes, nouns, right=False)),
    }
    if scores.kind == "multi":
        analysis["missed"] = first(missed_labels(scores, classes))
    names = {"verb": classes, "noun": nouns}
    for head, part in scores.heads().items():
        analysis[head] = class_analysis(part, rows, names[head])
    return analysis


def class_table(scores: Scores, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Accuracy, or average precision, of each class.

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
        own = right[labels == place]
        rate = float(own.mean()) if len(own) else None
        interval = None if rate is None else list(wilson(rate, len(own)))
        table.append({"class": name, "videos": len(own), "accuracy": rate, "interval": interval})
    return table


def classes_without_videos(scores: Scores, classes: Sequence[str], nouns: Sequence[str]) -> int:
    """How many of the names no readable video has; of a ``pair`` verbs and nouns together."""
    names = {"verb": classes, "noun": nouns}
    parts = [(part, names[head]) for head, part in scores.heads().items()] or [(scores, classes)]
    return sum(not row["videos"] for part, own in parts for row in class_table(part, own))


def confusions(
    scores: Scores, classes: Sequence[str], nouns: Sequence[str] = (), *, most: int = 50
) -> list[dict[str, Any]]:
    """Pairs of a label and a wrong prediction, the most frequent first.

    Args:
        scores: of videos. Of ``multi`` labels each label that is not predicted is taken for each
            predicted class that is no label of the video.
        classes, nouns: names; of a ``pair`` actions are counted.
        most: how many at most.

    Returns:
        ``{label, prediction, videos, share}`` each, ``share`` of the label's videos.
    """
    pairs, counts, totals = _confusion_counts(scores)
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


def _confusion_counts(scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (N, 2, 1 or 2) of labels and wrong predictions, how often, and of how many videos."""
    if scores.kind == "multi":
        predicted, keep = predicted_labels(scores), scores.readable
        lost, extra = scores.labels & ~predicted & keep[:, None], predicted & ~scores.labels
        matrix = lost.T.astype(np.float32) @ extra.astype(np.float32)  # exact, as counts are
        pairs = np.argwhere(matrix)
        totals = scores.labels[keep].sum(axis=0)[pairs[:, 0]]
        return pairs[:, :, None], matrix[tuple(pairs.T)].astype(np.int64), totals
    top1 = _top1(scores)
    wrong = (top1.predicted != top1.true).any(axis=1)
    both = np.stack([top1.true, top1.predicted], axis=1)[wrong]
    pairs, counts = np.unique(both, axis=0, return_counts=True)
    labels, sizes = np.unique(top1.true, axis=0, return_counts=True)
    size_of = {tuple(label): size for label, size in zip(labels.tolist(), sizes, strict=True)}
    totals = np.array([size_of[tuple(label)] for label in pairs[:, 0].tolist()], dtype=np.int64)
    return pairs, counts, totals


@dataclass(frozen=True)
class LabeledPrediction:
    """A predicted class of a video beside its label.

    Attributes:
        video: its row.
        label: the true one; of several labels apart by ``|``; empty for none.
        prediction: the predicted one.
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


def most_confident(
    scores: Scores, classes: Sequence[str], nouns: Sequence[str] = (), *, right: bool
) -> Iterator[LabeledPrediction]:
    """Right or wrong predictions, the highest probability first.

    Of ``single`` labels that is the most probable class of a video, of a ``pair`` the most probable
    action, and of ``multi`` labels each of its `predicted_labels`. Unlabeled videos do not count.

    Args:
        scores: of videos.
        classes, nouns: names.
        right: which of the two.
    """
    if scores.kind == "multi":
        wanted = predicted_labels(scores) & (scores.labels == right)
        yield from _of_several(scores, classes, wanted)
        return
    top1 = _top1(scores)
    wanted = np.flatnonzero((top1.predicted == top1.true).all(axis=1) == right)
    for place in wanted[np.argsort(-top1.probability[wanted], kind="stable")].tolist():
        yield LabeledPrediction(
            int(top1.videos[place]),
            _name(top1.true[place], classes, nouns),
            _name(top1.predicted[place], classes, nouns),
            float(top1.probability[place]),
            float(top1.label_probability[place]),
        )


def _of_several(
    scores: Scores, classes: Sequence[str], wanted: np.ndarray
) -> Iterator[LabeledPrediction]:
    """The wanted (video, class) as predictions, the highest probability first."""
    pairs = np.argwhere(wanted)
    values = scores.probabilities[tuple(pairs.T)]
    for place in np.argsort(-values, kind="stable").tolist():
        video, predicted = pairs[place].tolist()
        label = "|".join(classes[i] for i in np.flatnonzero(scores.labels[video]).tolist())
        yield LabeledPrediction(video, label, classes[predicted], float(values[place]), None)


def missed_labels(scores: Scores, classes: Sequence[str]) -> Iterator[LabeledPrediction]:
    """Labels of videos that are not among the `predicted_labels`, the lowest probability first.

    The prediction is the most probable class of the video.

    Args:
        scores: of videos with ``multi`` labels.
        classes: names.
    """
    lost = np.argwhere(scores.labels & ~predicted_labels(scores) & scores.readable[:, None])
    values = scores.probabilities[tuple(lost.T)]
    for place in np.argsort(values, kind="stable").tolist():
        video, label = lost[place].tolist()
        best = int(scores.probabilities[video].argmax())
        highest = float(scores.probabilities[video, best])
        yield LabeledPrediction(video, classes[label], classes[best], highest, float(values[place]))


def predicted_labels(scores: Scores) -> np.ndarray:
    """The predicted classes of videos with ``multi`` labels, bool (videos, classes).

    As many as a video has labels, the most probable ones: like the metrics this goes by ranks, and
    needs no threshold. With one label a video it is the most probable class.
    """
    places = np.argsort(ranks(scores.probabilities), axis=1)
    predicted = places < scores.labels.sum(axis=1, keepdims=True)
    return np.asarray(predicted & scores.readable[:, None])


@dataclass(frozen=True)
class _Top1:
    """Best predictions of labeled videos: class ids (N, 1), or those of verb and noun (N, 2)."""

    videos: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    label_probability: np.ndarray


def _top1(scores: Scores) -> _Top1:
    labels = scores.labels.reshape(-1, 1 if scores.nouns is None else 2)
    videos = np.flatnonzero(scores.readable & (labels[:, 0] >= 0))
    values, true = scores.probabilities[videos], labels[videos]
    label_probability = np.take_along_axis(values, true[:, :1], axis=1)[:, 0]
    if scores.nouns is None:
        return _Top1(
            videos, true, ranks(values)[:, :1], values.max(axis=1, initial=0), label_probability
        )
    nouns = scores.nouns[videos]
    ids, products = best_actions(values, nouns, 1)
    label_probability = label_probability * np.take_along_axis(nouns, true[:, 1:], axis=1)[:, 0]
    return _Top1(videos, true, ids[:, 0], products[:, 0], label_probability)


def _name(ids: np.ndarray, classes: Sequence[str], nouns: Sequence[str]) -> str:
    first, *second = ids.tolist()
    return f"{classes[first]} {nouns[second[0]]}" if second else classes[first]


def calibration_of(scores: Scores, bins: int = 15) -> dict[str, Any] | None:
    """The expected calibration error, and its bins.

    With n_b of the n videos in the b-th of equally wide bins of confidence (the probability of the
    predicted class), of accuracy a_b and mean confidence c_b, ECE = sum_b n_b / n |a_b - c_b| (Guo
    et al., "On Calibration of Modern Neural Networks", ICML 2017). A confidence on the border of
    two bins is in the lower one.

    Args:
        scores: of videos; unlabeled ones do not count.
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
    table, error = [], 0.0
    for number in range(bins):
        own = place == number
        count = int(own.sum())
        mean = float(confidence[own].mean()) if count else None
        accuracy = float(right[own].mean()) if count else None
        if mean is not None and accuracy is not None:
            error += count / len(right) * abs(accuracy - mean)
        table.append(
            {
                "low": number / bins,
                "high": (number + 1) / bins,
                "videos": count,
                "confidence": mean,
                "accuracy": accuracy,
            }
        )
    return {"ece": error, "bins": table}
