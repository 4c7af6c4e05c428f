"""Probabilities of videos from the logits of their views, and their order. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..data.rows import LabelKind

Average = Literal["softmax", "logits"]
"""The quantities that can be averaged over the views of a video."""


def averaged(
    logits: np.ndarray,
    sizes: Sequence[int],
    *,
    kind: LabelKind = "single",
    average: Average = "softmax",
) -> np.ndarray:
    """Probabilities of videos from the logits of their views.

    Args:
        logits: (..., V, K), those of several heads one after the other.
        sizes: number of logits of each head, K in all.
        kind: of the labels: classes of ``multi`` have a probability each (sigmoid), the others of
            a head share one (softmax).
        average: ``softmax``: the mean of the views' probabilities, which is what most papers'
            code does; ``logits``: the probabilities of the mean of the views' logits.

    Returns:
        float64 (..., K), not a number where a logit is none.
    """
    values = logits.astype(np.float64)
    if average == "logits":
        values = values.mean(axis=-2, keepdims=True)
    heads = np.split(values, np.cumsum(sizes)[:-1], axis=-1)
    to_probabilities = _sigmoid if kind == "multi" else _softmax
    with np.errstate(invalid="ignore"):
        each = [to_probabilities(head) for head in heads]
    return np.concatenate(each, axis=-1).mean(axis=-2)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(-np.abs(logits))  # at most 1
    return np.where(logits >= 0, 1.0, powers) / (1 + powers)


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


Ranked = list[tuple[str, float]]


def ranked(heads: dict[str, list[str]], values: np.ndarray, topk: int) -> dict[str, Ranked]:
    """The most probable classes, as `Prediction` has them.

    Args:
        heads: as `VideoModel.class_names_by_head` gives them.
        values: probabilities, float64 (classes,), the heads' one after the other.
        topk: how many; of the actions as of each head.
    """
    best, start = {}, 0
    for head, names in heads.items():
        own = values[start : start + len(names)]
        order = np.argsort(-own, kind="stable")[:topk].tolist()
        best[head] = [(names[index], float(own[index])) for index in order]
        start += len(names)
    if "verbs" in heads:
        verbs, nouns = heads["verbs"], heads["nouns"]
        ids, products = best_actions(values[None, : len(verbs)], values[None, len(verbs) :], topk)
        names = [f"{verbs[verb]} {nouns[noun]}" for verb, noun in ids[0].tolist()]
        best["classes"] = list(zip(names, products[0].tolist(), strict=True))
    return best
