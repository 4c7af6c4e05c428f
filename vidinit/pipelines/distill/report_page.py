"""The pictures of DistInit, of a distilled model and of those it is compared with, on one page.

Girdhar et al., "DistInit: Learning Video Representations Without a Single Labeled Video", ICCV
2019: filters of the first layer over time (Fig. 3 and 4), features by class (Fig. 5), the gain of
each class over inflation (Fig. 7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...measure.embedding import nearest_labels, tsne, unit
from ...measure.kernels import kernel_table, summarize
from ...report import plots
from ...report.html import Section, page, table
from ...report.pictures import filters_picture
from ...report.profile_page import KERNELS
from ...scoring.scores import wilson
from ...zoo.base import VideoModel

_MARKERS = "o^s"
_CLASS_COLORS = plots.COLORS[:-1]  # the last one is gray: all other classes
_SHOWN_CLASSES = 12
_POINTS = 1000  # of a picture of features: the effort goes by the square
_FEWEST = 4  # of points
_BARS = 40  # of a picture of gains
_SIDE = 3.0  # inches, of a picture of features

MEASURES = {
    "head": "top-1 of the fine-tuned heads",
    "neighbor": "share of clips whose nearest other clip, by the cosine of features, is of their "
    "class",
}
"""How accuracies are measured, by name."""


@dataclass(frozen=True)
class Looked:
    """What a model made of the clips.

    Attributes:
        features: float32 (N, C), what the head is given.
        predicted: int (N,) the class that its head says; None where the head is for others.
    """

    features: np.ndarray
    predicted: np.ndarray | None


@dataclass(frozen=True)
class Clips:
    """Clips that all models could read, and what each made of them.

    Attributes:
        labels: int (N,), N at least 2.
        classes: names of the classes.
        looked: by name of the model.
        missing: paths of the videos that one of the models could not read.
    """

    labels: np.ndarray
    classes: list[str]
    looked: dict[str, Looked]
    missing: list[str]

    @property
    def measure(self) -> str:
        """A key of `MEASURES`: of heads where all are for these classes, so that like is compared.

        Else of features, which takes no training.
        """
        heads = all(looked.predicted is not None for looked in self.looked.values())
        return "head" if heads else "neighbor"

    @cached_property
    def right(self) -> dict[str, np.ndarray]:
        """Which clips each model is right about, by `measure`: bool (N,)."""
        own, found = self.measure == "head", {}
        for name, looked in self.looked.items():
            said = looked.predicted if own else None
            if said is None:
                said = nearest_labels(looked.features, self.labels)
            found[name] = np.equal(said, self.labels)
        return found

    def by_class(self, name: str) -> dict[str, float]:
        """Share of the clips of each class that a model is right about; classes without are out."""
        right = self.right[name]
        return {
            self.classes[label]: float(right[self.labels == label].mean())
            for label in np.unique(self.labels).tolist()
        }


def gains(clips: Clips, name: str, over: str) -> dict[str, float]:
    """What each class gains over another model, -1 to 1, the largest gain first."""
    mine, theirs = clips.by_class(name), clips.by_class(over)
    found = {label: mine[label] - theirs[label] for label in mine}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def result(models: Mapping[str, VideoModel], clips: Clips | None) -> dict[str, Any]:
    """result.json: ``{models: [...], measure, videos, missing, classes}``.

    Args:
        models: by name, the distilled one first.
        clips: None without data; then there is ``models`` alone.
    """
    rows: list[dict[str, Any]] = []
    for name, model in models.items():
        row: dict[str, Any] = {"name": name, "network": model.name}
        row["kernels"] = summarize(kernel_table(model))
        if clips is not None:
            right = clips.right[name]
            row["accuracy"] = round(float(right.mean()), 6)
            interval = wilson(float(right.mean()), len(right))
            row["interval"] = [round(value, 6) for value in interval]
        rows.append(row)
    if clips is None:
        return {"models": rows}
    counts = np.bincount(clips.labels, minlength=len(clips.classes)).tolist()
    each = {name: clips.by_class(name) for name in models}
    classes = [
        {"class": label, "videos": count, **{name: round(each[name][label], 6) for name in models}}
        for label, count in zip(clips.classes, counts, strict=True)
        if count
    ]
    return {
        "models": rows,
        "measure": clips.measure,
        "videos": len(clips.labels),
        "missing": clips.missing,
        "classes": classes,
    }


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """A result for people, without its classes."""
    for row in found["models"]:
        if "accuracy" in row:
            share, low, high = (100 * value for value in (row["accuracy"], *row["interval"]))
            yield f"{row['name']}: {share:.1f} % ({low:.1f} to {high:.1f})"
    if "measure" in found:
        yield f"of {found['videos']} videos: {MEASURES[found['measure']]}"
    yield f"page: {found['out']}/report.html"


def distinit_page(models: Mapping[str, VideoModel], clips: Clips | None, *, subtitle: str) -> str:
    """``report.html`` of `vidinit distill --report`.

    Args:
        models: by name, the distilled one first.
        clips: what they made of labelled clips; None shows their filters alone.
        subtitle: plain text.
    """
    parts = [_models(models, clips), *_filters(models)]
    if clips is not None:
        parts += [*_features(clips), *_gains(clips)]
    return page("What distillation has taught", parts, subtitle=subtitle)


def _models(models: Mapping[str, VideoModel], clips: Clips | None) -> Section:
    headers = ["model", "network", "frames x side", "steps"]
    rows: list[list[Any]] = []
    for name, model in models.items():
        sees = f"{model.spec.frames}x{model.spec.size}{' of flow' if model.spec.flow else ''}"
        steps = ", ".join(step["step"] for step in model.lineage) or "random weights"
        rows.append([name, model.name, sees, steps])
    if clips is None:
        return Section("Models", table(headers, rows))
    for row in rows:
        right = clips.right[row[0]]
        low, high = wilson(float(right.mean()), len(right))
        row += [round(100 * float(right.mean()), 1), f"{100 * low:.1f} to {100 * high:.1f}"]
    note = f"Accuracy on {len(clips.labels)} videos: {MEASURES[clips.measure]}."
    if clips.measure == "neighbor":
        note += " Fine-tuned runs of all models are compared by their heads."
    if clips.missing:
        note += f" {len(clips.missing)} videos could not be read and do not count."
    return Section("Models", table([*headers, "accuracy %", "95 % interval"], rows), note)


def _filters(models: Mapping[str, VideoModel]) -> Iterator[Section]:
    rows = [
        [name, part, round(means["center_energy"], 3), round(means["variation"], 3)]
        for name, model in models.items()
        for part, means in summarize(kernel_table(model)).items()
    ]
    if not rows:
        return
    told = (
        "Fig. 3 and 4 of the paper: the first temporal kernel of each model, a strip for each "
        "output channel, time from left to right. Zero is gray. Patches that are alike look at "
        f"appearance. The table is of all temporal kernels. {KERNELS}"
    )
    numbers = table(["model", "channels", "center energy", "variation"], rows)
    yield Section("Filters over time", filters_picture(models) + numbers, told)


def _features(clips: Clips) -> Iterator[Section]:
    count = len(clips.labels)
    if count < _FEWEST:
        return
    # In even steps through the classes, so that each keeps its share.
    steps = np.linspace(0, count - 1, min(count, _POINTS)).round().astype(int)
    chosen = np.argsort(clips.labels, kind="stable")[steps]
    labels = clips.labels[chosen]
    pictures = [
        scatter(tsne(unit(looked.features[chosen])), labels, clips.classes, title=name)
        for name, looked in clips.looked.items()
    ]
    body = '<div style="display: flex; flex-wrap: wrap; gap: 1rem 2rem">'
    note = (
        "Fig. 5 of the paper: what heads are given, at length 1, by t-SNE. Near clips are alike; "
        "axes, and how far clusters lie apart, mean nothing."
    )
    if len(chosen) < count:
        note += f" {len(chosen)} of the {count} clips are shown."
    if len(np.unique(clips.labels)) > _SHOWN_CLASSES:
        note += f" The {_SHOWN_CLASSES} largest classes have colors."
    yield Section("Features by class", body + "".join(pictures) + "</div>", note)


def scatter(points: np.ndarray, labels: np.ndarray, classes: Sequence[str], *, title: str) -> str:
    """Points in a plane, with the colors of their classes; all but the largest classes are gray.

    Args:
        points: float (N, 2).
        labels: int (N,).
        classes: names of the classes.
        title: what is above the picture.

    Returns:
        HTML to put into a page.
    """
    counts = np.bincount(labels, minlength=len(classes))
    order = np.argsort(-counts, kind="stable")[:_SHOWN_CLASSES]
    colored = sorted(label for label in order.tolist() if counts[label])
    rest = points[~np.isin(labels, colored)]
    size = 6.0 if len(labels) < 200 else 3.5
    with plots._figure(_SIDE, _SIDE + 0.2 * -(-len(colored) // 2)) as figure:
        axes = figure.subplots()
        axes.plot(*rest.T, "o", color=plots.COLORS[-1], markersize=2, alpha=0.5)
        for number, label in enumerate(colored):
            axes.plot(
                *points[labels == label].T,
                _MARKERS[number // len(_CLASS_COLORS)],
                color=_CLASS_COLORS[number % len(_CLASS_COLORS)],
                markersize=size,
                markeredgewidth=0,
                label=plots._short(classes[label], 18),
            )
        ends = np.array([-1.08, 1.08]) * max(float(np.abs(points).max()), 1e-9)
        axes.set(title=title, xticks=[], yticks=[], xlim=ends, ylim=ends, aspect="equal")
        axes.spines[:].set_visible(True)
        figure.legend(loc="outside lower center", ncols=2)
        shown = ", ".join(classes[label] for label in colored)
        return plots._svg(figure, f"{len(labels)} clips as {title} sees them, of {shown}")


def _gains(clips: Clips) -> Iterator[Section]:
    name, *others = clips.looked
    each = {model: clips.by_class(model) for model in clips.looked}
    counts = np.bincount(clips.labels, minlength=len(clips.classes))
    pictures = []
    for over in others:
        gain = gains(clips, name, over)
        shown = list(gain)
        if len(shown) > _BARS:
            shown = shown[: _BARS // 2] + shown[-_BARS // 2 :]
        title = f"gain of {name} over {over}, points"
        pictures.append(gain_bars({label: 100 * gain[label] for label in shown}, xlabel=title))
    order = gains(clips, name, others[0]) if others else each[name]
    numbers = {label: number for number, label in enumerate(clips.classes)}
    rows: list[list[Any]] = [
        [label, int(counts[numbers[label]]), *(round(100 * each[m][label], 1) for m in each)]
        for label in order
    ]
    headers = ["class", "videos", *(f"{model} %" for model in each)]
    note = f"Fig. 7 of the paper. Accuracy: {MEASURES[clips.measure]}."
    if len(rows) > _BARS and others:
        note += f" The pictures show the {_BARS // 2} largest and smallest gains."
    fewest = int(counts[counts > 0].min())
    note += f" A class has {fewest} videos or more: one of them is {100 / fewest:.3g} points."
    title = "Gain of each class" if others else "Accuracy of each class"
    yield Section(title, "\n".join([*pictures, table(headers, rows)]), note)


def gain_bars(values: Mapping[str, float], *, xlabel: str) -> str:
    """Horizontal bars to both sides of zero, with their numbers, from top to bottom.

    Args:
        values: name to length, finite, at least one.
        xlabel: what the lengths are, with its unit.

    Returns:
        An <svg> element.
    """
    lengths = list(values.values())
    with plots._figure(6.2, 0.9 + 0.24 * len(values)) as figure:
        axes = figure.subplots()
        colors = [plots.COLORS[0] if length >= 0 else plots.COLORS[1] for length in lengths]
        axes.barh(range(len(values)), lengths, height=0.68, color=colors)
        for y, length in enumerate(lengths):
            axes.annotate(
                f"{length:+.3g}" if length else "0",
                (length, y),
                xytext=(5 if length >= 0 else -5, 0),
                textcoords="offset points",
                va="center",
                ha="left" if length >= 0 else "right",
                fontsize=8,
            )
        axes.axvline(0, color=plots._INK, linewidth=0.8)
        axes.set_yticks(range(len(values)), [plots._short(name) for name in values])
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.margins(x=0.12)
        axes.set_xlabel(xlabel)
        shown = ", ".join(f"{name} {value:+.3g}" for name, value in values.items())
        return plots._svg(figure, f"{xlabel}: {shown}")
