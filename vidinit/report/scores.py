"""Parts of a report about predictions: confusions, accuracies of classes, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..scoring.time_test import NAMES
from . import plots
from .html import Section, details, table

if TYPE_CHECKING:
    from ..scoring.metrics import Scores

_DRAWN_UP_TO = 1000  # classes of a confusion matrix, a pixel each
_CELLS_UP_TO = 20  # classes of a matrix that is told as a table, too
_WIDE_FROM = 24  # classes of a matrix that is no longer read in half a page
_MISTAKES, _MISTAKES_AT_ONCE = 20, 8
_BARS = 40
_ROWS = 2000  # classes of a table, whatever the data has: the page stays small
_NAME = 60  # characters of a class


def class_sections(confusion: np.ndarray, classes: Sequence[str] | None = None) -> list[Section]:
    """The confusion matrix, the most frequent mistakes, and the accuracy of each class.

    Args:
        confusion: counts (C, C), true class by predicted class; of any number of classes.
        classes: the C names; default: their numbers.

    Raises:
        ValueError: when they do not fit.
    """
    names = _names(classes or [str(i) for i in range(len(confusion))])
    if confusion.shape != (len(names), len(names)):
        count = len(names)
        raise ValueError(f"expected counts ({count}, {count}), got {confusion.shape}")
    parts = [_matrix(confusion, names), _mistakes(confusion, names), _per_class(confusion, names)]
    return [part for part in parts if part is not None]


def _names(classes: Sequence[str]) -> list[str]:
    """Names in few letters, each of them once."""
    short = [name if len(name) <= _NAME else name[: _NAME - 1] + "…" for name in classes]
    seen: set[str] = set()
    for i, name in enumerate(short):
        short[i] = f"{i}: {name}" if name in seen else name
        seen.add(short[i])
    return short


def _matrix(confusion: np.ndarray, names: list[str]) -> Section | None:
    count = len(names)
    if not 0 < count <= _DRAWN_UP_TO:
        return None
    body = plots.confusion(confusion, names)
    if count <= _CELLS_UP_TO:
        cells = [[name, *row] for name, row in zip(names, confusion.tolist(), strict=True)]
        body += details("As a table", table(["true class", *names], cells))
    note = "A row holds the videos of one class, a column those given one prediction."
    if count > plots.NAMES_UP_TO:
        note += " Classes are in the order of the model's outputs, one line each."
    return Section("Confusion matrix", body, note, wide=count > _WIDE_FROM)


def _mistakes(confusion: np.ndarray, names: list[str]) -> Section | None:
    """The pairs of classes that are taken for one another; they say more than a large picture."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    pairs = np.argwhere(wrong > 0)
    if len(names) <= 2 or not len(pairs):
        return None
    totals = confusion.sum(axis=1)
    counts = wrong[tuple(pairs.T)]
    order = np.argsort(-counts, kind="stable")[:_MISTAKES]
    rows = [
        [
            names[true],
            names[other],
            int(wrong[true, other]),
            float(wrong[true, other] / totals[true]),
        ]
        for true, other in pairs[order].tolist()
    ]
    headers = ["true class", "predicted", "videos", "share of the class"]
    body = table(headers, rows[:_MISTAKES_AT_ONCE])
    if then := rows[_MISTAKES_AT_ONCE:]:
        body += details(f"{len(then)} more", table(headers, then))
    more = len(pairs) - len(rows)
    return Section("Most frequent mistakes", body, f"{more} more pairs." if more > 0 else "")


def _per_class(confusion: np.ndarray, names: list[str]) -> Section | None:
    from ..scoring.metrics import wilson

    totals, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    there = np.flatnonzero(totals).tolist()
    if not there:
        return None
    accuracy = {i: float(confusion[i, i] / totals[i]) for i in there}
    shown, note = there, "In brackets: videos of the class. Lines: 95 % intervals."
    if len(there) > _BARS:
        ranked = sorted(there, key=lambda i: accuracy[i])
        shown = [*ranked[: _BARS // 2], *ranked[-_BARS // 2 :]]
        note += f" The {_BARS // 2} classes of lowest and of highest accuracy."
    label = _labels(names, {i: int(totals[i]) for i in shown})
    body = plots.bars(
        {label[i]: accuracy[i] for i in shown},
        xlabel="accuracy",
        intervals={label[i]: wilson(accuracy[i], int(totals[i])) for i in shown},
        chance=1 / len(names),
    )
    without = len(names) - len(there)
    note += f" {without} classes have no video and are left out." if without else ""
    rows = []
    for i in there[:_ROWS]:
        others = np.where(np.arange(len(names)) == i, 0, confusion[i])
        most = names[int(others.argmax())] if others.any() else None
        precision = float(confusion[i, i] / predicted[i]) if predicted[i] else None
        rows.append([names[i], int(totals[i]), accuracy[i], precision, most])
    headers = ["class", "videos", "accuracy", "precision", "most often taken for"]
    rest = f", the first {_ROWS} of {len(there)}" if len(there) > _ROWS else ""
    body += details(f"All classes as a table{rest}", table(headers, rows))
    return Section("Accuracy per class", body, note)


def _abridged(name: str) -> str:
    return name if len(name) <= 20 else name[:19] + "…"


def label_sections(
    analysis: Mapping[str, Any], scores: Scores, classes: Sequence[str], nouns: Sequence[str] = ()
) -> list[Section]:
    """How good the classes are where a video has several, or a verb and a noun.

    Of ``multi`` labels the average precision of each class, and the most frequent confusions. Of a
    ``pair`` the most frequent mistakes about actions, and of verb and of noun all that
    `class_sections` has. Of single labels nothing, which `class_sections` are for.

    Args:
        analysis: `scoring.analysis.class_analysis`.
        scores: that it is of.
        classes, nouns: names.
    """
    if scores.kind == "multi":
        note = (
            "A video is given as many classes as it has labels, the most probable ones; each label "
            "that is not among them counts as taken for each class that should not be."
        )
        taken = _taken("Most frequent confusions", analysis["confusions"], note)
        parts = [_precisions(analysis["classes"]), taken]
        return [part for part in parts if part is not None]
    if scores.kind == "single":
        return []
    actions = _taken("Most frequent mistakes: action", analysis["confusions"])
    found = [] if actions is None else [actions]
    for head, part in scores.heads().items():
        own = class_sections(part.confusion(), classes if head == "verb" else nouns)
        found += [replace(one, title=f"{one.title}: {head}") for one in own]
    return found


def _taken(title: str, confusions: Sequence[Mapping[str, Any]], note: str = "") -> Section | None:
    """Which class is taken for which."""
    keys = ("label", "prediction", "videos", "share")
    rows = [[one[key] for key in keys] for one in confusions[:_MISTAKES]]
    headers = ["true", "predicted", "videos", "share of the true"]
    return Section(title, table(headers, rows), note) if rows else None


def _precisions(classes: Sequence[Mapping[str, Any]]) -> Section | None:
    """The average precision of each class that has a video."""
    names = _names([one["class"] for one in classes])
    values = {i: one["average_precision"] for i, one in enumerate(classes) if one["videos"]}
    if not values:
        return None
    shown, note = list(values), "In brackets: videos of the class."
    if len(shown) > _BARS:
        ranked = sorted(values, key=lambda i: values[i])
        shown = [*ranked[: _BARS // 2], *ranked[-_BARS // 2 :]]
        note += f" The {_BARS // 2} classes of lowest and of highest precision."
    label = _labels(names, {i: classes[i]["videos"] for i in shown})
    body = plots.bars({label[i]: values[i] for i in shown}, xlabel="average precision")
    rows = [[names[i], classes[i]["videos"], values[i]] for i in values][:_ROWS]
    rest = f", the first {_ROWS} of {len(values)}" if len(values) > _ROWS else ""
    headers = ["class", "videos", "average precision"]
    body += details(f"All classes as a table{rest}", table(headers, rows))
    without = len(names) - len(values)
    note += f" {without} classes have no video and are left out." if without else ""
    return Section("Average precision per class", body, note)


def _labels(names: Sequence[str], videos: Mapping[int, int]) -> dict[int, str]:
    """Names of bars, no two the same: the class, in few letters, and its number of videos."""
    label = {i: f"{_abridged(names[i])} ({count})" for i, count in videos.items()}
    if len(set(label.values())) < len(label):  # shortened alike
        label = {i: f"{i}: {text}" for i, text in label.items()}
    return label


def calibration_sections(calibration: Mapping[str, Any]) -> list[Section]:
    """How far confidence can be believed.

    Args:
        calibration: ``ece``, the expected calibration error, and ``bins`` of confidence, each a
            dict of ``low``, ``high``, ``videos``, ``confidence`` and ``accuracy`` (the last two
            None in an empty bin).
    """
    full = [one for one in calibration["bins"] if one["videos"]]
    if not full:
        return []
    headers = ["confidence from", "to", "videos", "mean confidence", "accuracy"]
    keys = ("low", "high", "videos", "confidence", "accuracy")
    rows = [[one[key] for key in keys] for one in full]
    body = plots.reliability(full) + details("As a table", table(headers, rows))
    note = (
        f"Expected calibration error: {calibration['ece']:.4f}, the mean distance of the orange "
        "points from the dashed line, by videos. Below the line the model is too sure."
    )
    return [Section("Calibration", body, note)]


def two_class_sections(found: Mapping[str, Any]) -> list[Section]:
    """One class against all others: the figures at the threshold, and the two curves.

    Args:
        found: as `scoring.two_class.two_class` gives it.
    """
    name = _abridged(found["positive"])
    rows = [
        ["precision", found["precision"], interval_words(found["precision_interval"])],
        ["recall", found["recall"], interval_words(found["recall_interval"])],
        ["F1", found["f1"], None],
        ["false alarms, of the other videos", found["false_alarms"], None],
        ["area under the ROC curve", found["auc"], interval_words(found["auc_interval"])],
        ["average precision", found["average_precision"], None],
    ]
    counts = ("true_positives", "false_positives", "false_negatives", "true_negatives")
    body = table(["", f"at {found['threshold']:.4g}", "95 % interval"], rows)
    headers = ["found, right", "found, wrong", "missed", "rightly not found"]
    body += table(headers, [[found[key] for key in counts]])
    note = (
        f"{found['positive']} is {found['because']}. A video is found where its probability is "
        f"{found['threshold']:.4g} or more; the areas are over all thresholds."
    )
    if not found["reached"]:
        note += " No threshold has what was wished for: this is the nearest."
    parts = [Section(f"Finding {name}", body, note)]
    if found["auc"] is None:  # one class alone has no curve
        return parts
    points, threshold = found["curve"], f"threshold {found['threshold']:.4g}"
    is_drawn = found["precision"] is not None and found["recall"] is not None
    at = {threshold: (found["recall"], found["precision"])} if is_drawn else {}
    drawn = plots.curves(
        {name: [(one["recall"], one["precision"]) for one in points]},
        xlabel="recall",
        ylabel="precision",
        fractions=True,
        marks=at,
    )
    share = found["positives"] / found["videos"]
    note = f"Who names it always has the precision {share:.3g}, its share of the videos."
    parts.append(Section(f"Precision and recall: {name}", drawn, note))
    course = [(0.0, 0.0), *((one["false_alarms"], one["recall"]) for one in points)]
    drawn = plots.curves(
        {name: course, "guessing": [(0.0, 0.0), (1.0, 1.0)]},
        xlabel="false alarms, of the other videos",
        ylabel="recall",
        fractions=True,
        marks={threshold: (found["false_alarms"], found["recall"])},
    )
    return [*parts, Section(f"ROC curve: {name}", drawn)]


def time_section(test: Mapping[str, Any]) -> Section:
    """Does the data need time? The three accuracies beside one another, and the verdict.

    Args:
        test: as `scoring.time_test.time_test` gives it.
    """
    rows = []
    for key, name in NAMES.items():
        if (values := test[key]) is not None:
            spread, change = values.get("change_interval"), values.get("change")
            p_value = values.get("p_value")
            own, of_change = interval_words(values["interval"]), interval_words(spread)
            rows.append([name, values["top1"], own, change, of_change, p_value])
    headers = ["", "top-1", "95 % interval", "against in order", "95 % interval", "p"]
    note = (
        f"{test['verdict'][0].upper()}{test['verdict'][1:]}. The same {test['videos']} videos each "
        "time; p: how often chance alone would change as many of them (McNemar)."
    )
    return Section("Does it need time?", table(headers, rows), note)


def interval_words(interval: Sequence[float] | None) -> str | None:
    """An interval in words; None for none, an empty cell."""
    return None if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
