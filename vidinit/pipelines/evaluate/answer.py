"""The first part of an evaluation's page: the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...report.answer import Figure, answer
from ...scoring.metrics import Scores


def evaluation_answer(result: Mapping[str, Any], scores: Scores, classes: Sequence[str]) -> str:
    """HTML: how good the model is, against guessing and what else there is to compare with.

    Args:
        result: result.json.
        scores: of the videos.
        classes: names.
    """
    videos = result["videos"]
    if not videos:
        return answer("No video could be scored", "All of them are named in result.json.")
    if scores.kind == "multi":
        return _multi(result, scores)
    figures = [Figure("top-1", result["top1"], result["top1_interval"])]
    headline = f"{_percent(result['top1'])} of {videos} videos are right"
    if scores.kind == "pair":
        parts = ("verb", "noun")
        figures += [Figure(part, result[f"top1_{part}"]) for part in parts]
        verdict = "Right are those of which verb and noun are."
        return answer(headline, verdict, figures)
    chance, common = 1 / len(classes), _most_frequent(scores, classes)
    if common is not None:
        figures.append(Figure(f"always saying {common[0]}", common[1]))
    if "against" in result:
        other = result["against"]["metrics"]["top1"]["there"]
        figures.append(Figure(f"{result['against']['model']}, on the videos of both", other))
    verdict = " ".join(_verdict(result, scores, chance, common))
    return answer(headline, verdict, figures, chance=chance)


def _multi(result: Mapping[str, Any], scores: Scores) -> str:
    """Of several labels a video."""
    share = float(scores.labels[scores.readable].mean())
    figures = [Figure("mean average precision", result["map"], result.get("map_interval"))]
    figures.append(Figure("a label at the top (hit@1)", result["top1"]))
    return answer(
        f"Mean average precision {result['map']:.3f} on {result['videos']} videos",
        f"An order by chance has about {share:.3g}, the mean share of the videos with a label.",
        figures,
        chance=share,
    )


def _verdict(
    result: Mapping[str, Any], scores: Scores, chance: float, common: tuple[str, float] | None
) -> Iterator[str]:
    low, high = result["top1_interval"]
    named = scores.probabilities[scores.readable].argmax(axis=1)
    if len(np.unique(named)) == 1 and len(named) > 1:
        yield "The model gives one answer for every video, so it tells nothing apart."
    elif common is not None and high < common[1]:
        yield f"Always saying {common[0]} would be right more often ({common[1]:.3f})."
    elif common is not None and low <= common[1]:
        yield (
            f"That is not told apart from always saying {common[0]} ({common[1]:.3f}), which the "
            "95 % interval holds."
        )
    elif low <= chance:
        yield f"That is not told apart from chance ({chance:.3g}), by the 95 % interval."
    else:
        yield f"That is above chance ({chance:.3g}) and above any one answer for all videos."
    mean = result["mean_class_accuracy"]
    if mean < result["top1"] - 0.05:
        yield f"The frequent classes carry it: the mean over the classes is {mean:.3f}."
    if "two_class" in result:
        yield from _found(result["two_class"])
    if "time" in result:
        told = result["time"]["verdict"]
        yield f"{told[0].upper()}{told[1:]}."


def _found(two: Mapping[str, Any]) -> Iterator[str]:
    """Of two classes: how the one that is looked for is found."""
    words = {"precision": two["precision"], "recall": two["recall"], "area under ROC": two["auc"]}
    shown = ", ".join(f"{name} {value:.3f}" for name, value in words.items() if value is not None)
    yield f"{two['positive']} is found at {two['threshold']:.4g} with {shown}."


def _most_frequent(scores: Scores, classes: Sequence[str]) -> tuple[str, float] | None:
    """The most frequent class and its share of the videos; None where all are as frequent."""
    labels = scores.labels[scores.readable]
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    there = counts[counts > 0]
    if not len(there) or len(np.unique(there)) == 1:
        return None
    return classes[int(counts.argmax())], float(counts.max() / counts.sum())


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if 0 < value < 1 else f"{100 * value:.0f} %"
