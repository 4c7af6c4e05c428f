"""Which classes and which videos a model fails on, as analysis.json has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ..data.rows import Row
from .bootstrap import class_precisions
from .mistakes import Judged, confusions, missed, surest
from .scores import Scores, wilson

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
        ``mistakes`` (the first of `mistakes.confusions` and `mistakes.surest`). Of ``multi`` labels
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
