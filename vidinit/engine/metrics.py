"""How good predictions are: for one label a clip, for several, and for a verb and a noun.

Everything here takes the videos that could be read, and nothing else. Among equal scores the
smaller class id comes first, so that no figure depends on the number of processes.
"""

from __future__ import annotations

import numpy as np

from ..data.rows import LabelKind

WATCH: dict[LabelKind, str] = {"single": "top1", "multi": "map", "pair": "top1"}
"""The metric that decides which epoch of a training is best."""


def single_label(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """top1, top5 and mean_class_accuracy (over the classes that occur), fractions of the videos.

    Args:
        scores: (videos, classes), higher is more likely.
        labels: class ids, int64 (videos,).
    """
    if not len(labels):
        return {"top1": 0.0, "top5": 0.0, "mean_class_accuracy": 0.0}
    order = ranks(scores)
    hit = order[:, 0] == labels
    per_class = [float(hit[labels == c].mean()) for c in np.unique(labels)]
    return {
        "top1": float(hit.mean()),
        "top5": float((order[:, :5] == labels[:, None]).any(axis=1).mean()),
        "mean_class_accuracy": float(np.mean(per_class)),
    }


def multi_label(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean average precision ``map``; ``top1`` and ``top5`` are hit@1 and hit@5.

    hit@k is the share of the videos, of those with a label, that have one of their labels among
    the k most likely classes.

    Args:
        scores: (videos, classes), higher is more likely.
        labels: which classes a video has, bool (videos, classes).
    """
    occurring = np.flatnonzero(labels.any(axis=0))
    if not len(occurring):
        return {"map": 0.0, "top1": 0.0, "top5": 0.0}
    precisions = [average_precision(scores[:, c], labels[:, c]) for c in occurring]
    labelled = labels.any(axis=1)
    hits = np.take_along_axis(labels[labelled], ranks(scores[labelled])[:, :5], axis=1)
    return {
        "map": float(np.mean(precisions)),
        "top1": float(hits[:, 0].mean()),
        "top5": float(hits.any(axis=1).mean()),
    }


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the precision-recall curve of one class, without interpolation.

    With the thresholds t_1 > t_2 > ... at the distinct scores, and P_n and R_n the precision and
    the recall of the videos scored t_n or more, AP = sum_n (R_n - R_{n-1}) P_n (scikit-learn's
    definition). Videos of equal score are taken together.

    Args:
        scores: (videos,), higher is more likely.
        positive: which of them have the class, bool (videos,); at least one.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of each distinct score
    true = np.cumsum(positive[order])[last]
    precision = true / (last + 1)
    return float(np.sum(np.diff(true, prepend=0) * precision) / true[-1])


def pair_label(verbs: np.ndarray, nouns: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracies of actions (``top1`` is ``top1_action``, ``top5`` likewise), verbs and nouns.

    Actions are ranked by the probability of the verb times that of the noun, and are right when
    both are (Damen et al., "Rescaling Egocentric Vision", IJCV 2022).

    Args:
        verbs: probabilities, (videos, verbs).
        nouns: probabilities, (videos, nouns).
        labels: ids of verb and noun, int64 (videos, 2).
    """
    names = ("action", "verb", "noun")
    if not len(labels):
        hits = {name: np.zeros((1, 5), dtype=bool) for name in names}
    else:
        hits = action_hits(verbs, nouns, labels)
    top1 = {name: float(hit[:, 0].mean()) for name, hit in hits.items()}
    top5 = {name: float(hit.any(axis=1).mean()) for name, hit in hits.items()}
    return {
        "top1": top1["action"],
        "top5": top5["action"],
        **{f"top1_{name}": value for name, value in top1.items()},
        **{f"top5_{name}": value for name, value in top5.items()},
    }


def action_hits(verbs: np.ndarray, nouns: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Whether the k-th best ``action``, ``verb`` and ``noun`` is the right one.

    Args:
        verbs, nouns, labels: as for `pair_label`.

    Returns:
        bool (videos, 5) by name; fewer columns where there are fewer.
    """
    best = best_actions(verbs, nouns, 5)[0]
    return {
        "action": (best == labels[:, None]).all(axis=2),
        "verb": ranks(verbs)[:, :5] == labels[:, :1],
        "noun": ranks(nouns)[:, :5] == labels[:, 1:],
    }


def best_actions(verbs: np.ndarray, nouns: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k actions with the largest product of probabilities, and these products.

    Args:
        verbs: probabilities, (videos, verbs).
        nouns: probabilities, (videos, nouns).
        k: how many; all of them where there are fewer.

    Returns:
        (verb, noun) ids, int64 (videos, k, 2), and probabilities, float64 (videos, k), best first.
    """
    # An action among the best k has a verb and a noun among the best k.
    v, n = ranks(verbs)[:, :k], ranks(nouns)[:, :k]
    of_verb = np.take_along_axis(verbs, v, axis=1)
    of_noun = np.take_along_axis(nouns, n, axis=1)
    products = (of_verb[:, :, None] * of_noun[:, None, :]).reshape(len(verbs), -1)
    best = ranks(products)[:, :k]
    ids = np.stack(
        [
            np.take_along_axis(v, best // n.shape[1], axis=1),
            np.take_along_axis(n, best % n.shape[1], axis=1),
        ],
        axis=2,
    )
    return ids, np.take_along_axis(products, best, axis=1)


def ranks(scores: np.ndarray) -> np.ndarray:
    """Class ids from the most to the least likely, (videos, classes)."""
    return np.argsort(-scores, axis=1, kind="stable")
