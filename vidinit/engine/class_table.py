"""Which classes and which videos a model fails on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.rows import Row
from .bootstrap import class_precisions
from .scores import Scores, wilson


def class_table(scores: Scores, classes: Sequence[str]) -> list[dict[str, Any]]:
    """What is right of each class.

    Args:
        scores: of videos.
        classes: names, of the verbs where labels are pairs.

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
    labels = labels.reshape(len(labels), -1)[:, 0]
    right = scores.hits()["top1" if scores.kind == "single" else "top1_verb"][keep]
    table = []
    for place, name in enumerate(classes):
        mine = right[labels == place]
        rate = float(mine.mean()) if len(mine) else None
        interval = None if rate is None else list(wilson(rate, len(mine)))
        table.append({"class": name, "videos": len(mine), "accuracy": rate, "interval": interval})
    return table


def surest_mistakes(
    scores: Scores,
    rows: Sequence[Row],
    classes: Sequence[str],
    nouns: Sequence[str] = (),
    *,
    most: int = 50,
) -> list[dict[str, Any]]:
    """The videos that are wrong with the highest probability, the surest first.

    Args:
        scores: of the rows; unlabelled ones do not count.
        rows: the videos.
        classes, nouns: names.
        most: how many at most.

    Returns:
        ``{path, start, end, label, prediction, probability}`` each.
    """
    wrong = scores.hits()["top1"] == 0
    if scores.kind != "multi":
        wrong &= scores.labels.reshape(len(rows), -1)[:, 0] >= 0
    told = list(scores.predictions(classes, nouns))
    places = sorted(np.flatnonzero(wrong).tolist(), key=lambda place: -float(told[place][2]))
    return [
        {
            "path": rows[place].path,
            "start": rows[place].start,
            "end": rows[place].end,
            "label": told[place][0],
            "prediction": told[place][1],
            "probability": float(told[place][2]),
        }
        for place in places[:most]
    ]
