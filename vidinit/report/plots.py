"""Plots as inline SVG: strings to put into an HTML page.

Text and axes take the color of the surrounding text (``currentColor``), so that one picture reads
on a light and on a dark page. Several pictures fit on one page: no two share an id.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#1f77c9", "#cc5c00", "#00926b", "#b5609f", "#a17a00", "#6f7681")
"""Line colors: told apart without red-green vision, contrast above 3 on white and near-black."""

_INK = "#010203"  # stands for currentColor, which matplotlib does not know
_DASHES = ("-", "--", ":", "-.")
_COUNTS_UP_TO = 20  # classes of a confusion matrix whose cells still hold a number
_LEGEND_COLUMNS = 3
NAMES_UP_TO = 60  # classes of a confusion matrix that are named
_serial = itertools.count(1)


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of width x height inches, in the style of the report."""
    import matplotlib
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",  # the page's own fonts, and text that can be searched
        "svg.hashsalt": "vidinit",
        "text.parse_math": False,  # a class may be called $x$
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "grid.alpha": 0.18,
        "legend.frameon": False,
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color",
             "grid.color"),
            _INK,
        ),
    }  # fmt: skip
    with matplotlib.rc_context(style):
        yield Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure, label: str) -> str:
    """The figure as an <svg> in a box that scrolls; ``label`` describes it to a screen reader."""
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        # A glyph that matplotlib's font lacks is drawn by the browser's.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*missing")
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=no_metadata, bbox_inches="tight"
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # matplotlib's <style> would apply to the whole page; the root's attributes do the same here.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.S)
    used = set(re.findall(r"#([\w.-]+)\)|xlink:href=\"#([\w.-]+)\"", text))
    ids = {name for pair in used for name in pair if name}
    prefix = f"v{next(_serial)}-{zlib.crc32(text.encode()):08x}-"

    def rename(match: re.Match[str]) -> str:
        return f' id="{prefix}{match[1]}"' if match[1] in ids else ""

    text = re.sub(r' id="([^"]*)"', rename, text)
    text = text.replace("url(#", f"url(#{prefix}").replace('href="#', f'href="#{prefix}')
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    text = re.sub(r"font: ([^;\"]*px) [^;\"]*", r"font-size: \1; font-family: inherit", text)
    text = text.replace(_INK, "currentColor")
    # Points become CSS pixels, a third larger, and the picture shrinks with a narrow page.
    match = re.match(r'<svg [^>]*?width="([\d.]+)pt" height="([\d.]+)pt"', text)
    assert match is not None
    width, height = (round(float(size) * 4 / 3) for size in match.groups())
    head = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'width="{width}" height="{height}"',
                  match[0])  # fmt: skip
    head += (
        f' role="img" aria-label="{escape(label)}" class="plot"'
        f' style="--width: {width}px; stroke-linejoin: round; stroke-linecap: butt;'
        ' max-width: 100%; height: auto"'
    )
    return f'<div class="wide">{head}{text[match.end() :].rstrip()}</div>'


def _short(name: str, limit: int = 28) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    xlabel: str,
    ylabel: str,
    fractions: bool = False,
    marks: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """Lines over a common axis.

    Args:
        series: name to points (x, y), in the order of x. A y that is not finite leaves a gap.
        xlabel: name of x, with its unit.
        ylabel: name of y. A single series needs no legend: this names it.
        fractions: the axis of y goes from 0 to 1, whatever is drawn; otherwise it goes as far as
            the values do, and down to 0 where they are all the same.
        marks: name to a point (x, y) that is brought out by a cross.

    Returns:
        An <svg> in a box that scrolls.

    Raises:
        ValueError: when there is no finite point at all.
    """
    if not any(math.isfinite(y) for points in series.values() for _, y in points):
        raise ValueError(f"no points to draw for '{ylabel}'")
    from matplotlib.ticker import MaxNLocator

    named = len(series) + len(marks or ())
    legend_rows = -(-named // _LEGEND_COLUMNS) if named > 1 else 0
    with _figure(6.2, 2.7 + 0.18 * legend_rows) as figure:
        axes = figure.subplots()
        axes.grid(True)
        for i, (name, points) in enumerate(series.items()):
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=COLORS[i % len(COLORS)],
                linestyle=_DASHES[i % len(_DASHES)],
                # Few points are seen as such, and a lone one is seen at all.
                marker="o" if len(points) <= 30 else "",
                markersize=3,
                linewidth=1.5,
                label=_short(name),
            )
        for i, (name, (x, y)) in enumerate((marks or {}).items(), start=len(series)):
            axes.plot(x, y, color=COLORS[i % len(COLORS)], marker="X", markersize=9,
                      linestyle="", label=_short(name))  # fmt: skip
        axes.set(xlabel=xlabel, ylabel=ylabel)
        values = {y for points in series.values() for _, y in points if math.isfinite(y)}
        if fractions:
            axes.set_ylim(-0.02, 1.02)
        elif len(values) == 1 and 0 not in values:
            only = values.pop()  # an axis around it alone would show digits that say nothing
            axes.set_ylim(min(0.0, 1.15 * only), max(0.0, 1.15 * only))
        if all(x == int(x) for points in series.values() for x, _ in points):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no epoch 1.5
        if named > 1:
            axes.legend(
                loc="lower left",  # above, where it is seen on a narrow page, too
                bbox_to_anchor=(0, 1.0),
                ncols=_LEGEND_COLUMNS,
                borderaxespad=0.2,
                fontsize=8,
            )
        return _svg(figure, f"{ylabel} over {xlabel}: {', '.join(series)}")


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """A confusion matrix: the color is the share of the true class, the number the count.

    Args:
        matrix: (C, C) counts, true class by predicted class. Rows of zeros stay blank.
        classes: the C names. They are written up to 60 classes, counts above 0 up to 20.

    Returns:
        An <svg> in a box that scrolls.

    Raises:
        ValueError: when the shape is not (C, C).
    """
    count = len(classes)
    matrix = np.asarray(matrix)
    if matrix.shape != (count, count) or count == 0:
        raise ValueError(f"expected counts ({count}, {count}), got {matrix.shape}")
    total = matrix.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, matrix / np.maximum(total, 1), np.nan)
    side = min(9.5, max(2.6, (0.34 if count <= _COUNTS_UP_TO else 0.16) * count)) + 1.2
    with _figure(side, side) as figure:
        axes = figure.subplots()
        # cividis is read the same with and without red-green vision.
        image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1, interpolation="none")
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.spines[:].set_visible(False)
        bar: Any = figure.colorbar(image, ax=axes, shrink=0.7, aspect=30, pad=0.02)
        bar.set_label("share of the true class")
        bar.outline.set_visible(False)
        if count <= NAMES_UP_TO:
            names = [_short(str(name), 20) for name in classes]
            size = 8 if count <= _COUNTS_UP_TO else 6
            axes.set_xticks(range(count), names, rotation=90, fontsize=size)
            axes.set_yticks(range(count), names, fontsize=size)
        if count <= _COUNTS_UP_TO:
            for row, column in zip(*np.nonzero(matrix), strict=True):
                color = "#000000" if shares[row, column] > 0.5 else "#ffffff"
                number = f"{matrix[row, column]:g}"
                axes.text(column, row, number, ha="center", va="center", color=color, fontsize=8)
        right, videos = np.trace(matrix), matrix.sum()
        return _svg(figure, f"confusion matrix of {count} classes: {right} of {videos} right")


def bars(
    values: Mapping[str, float],
    *,
    xlabel: str,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    chance: float | None = None,
) -> str:
    """Horizontal bars from zero, in the given order from top to bottom.

    Args:
        values: name to length, finite.
        xlabel: name of the lengths, with their unit.
        intervals: name to (low, high), drawn over the bars that have one.
        chance: a dashed line at this length, the level of guessing.

    Returns:
        An <svg> in a box that scrolls.

    Raises:
        ValueError: when there is no value, or one that is not finite.
    """
    if not values or not all(map(math.isfinite, values.values())):
        raise ValueError(f"bars need finite values, got {dict(values)}")
    intervals = intervals or {}
    with _figure(6.2, 0.9 + 0.24 * len(values)) as figure:
        axes = figure.subplots()
        axes.barh(range(len(values)), list(values.values()), height=0.68, color=COLORS[0])
        for y, (name, value) in enumerate(values.items()):
            low, high = intervals.get(name, (value, value))
            if name in intervals:
                axes.plot([low, high], [y, y], color=_INK, linewidth=1.2, marker="|", markersize=5)
            axes.annotate(
                f"{value:.3g}",
                (max(value, high), y),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        if chance is not None:
            axes.axvline(chance, color=COLORS[1], linestyle="--", linewidth=1.2, label="chance")
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0)
        axes.set_yticks(range(len(values)), [_short(name) for name in values])
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_xlim(left=min(0.0, *values.values()), right=None)
        axes.set_xlabel(xlabel)
        shown = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        return _svg(figure, f"{xlabel}: {shown}")


def gains(values: Mapping[str, float], *, xlabel: str) -> str:
    """Horizontal bars to both sides of zero, with their numbers, from top to bottom.

    Args:
        values: name to length, finite, at least one.
        xlabel: name of the lengths, with their unit.

    Returns:
        An <svg> in a box that scrolls.
    """
    lengths = list(values.values())
    with _figure(6.2, 0.9 + 0.24 * len(values)) as figure:
        axes = figure.subplots()
        colors = [COLORS[0] if length >= 0 else COLORS[1] for length in lengths]
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
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set_yticks(range(len(values)), [_short(name) for name in values])
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.margins(x=0.12)
        axes.set_xlabel(xlabel)
        shown = ", ".join(f"{name} {value:+.3g}" for name, value in values.items())
        return _svg(figure, f"{xlabel}: {shown}")


def boxes(groups: Mapping[str, Mapping[str, Sequence[float]]], *, ylabel: str) -> str:
    """Box plots in groups that stand side by side; a box of each name has one color in all groups.

    Args:
        groups: name of a group to those of its boxes, and of each five values that rise: the lower
            whisker, the box's lower end, its line, its upper end, the upper whisker.
        ylabel: name of the values, with their unit.

    Returns:
        An <svg> in a box that scrolls.

    Raises:
        ValueError: when there is no box.
    """
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    if not names:
        raise ValueError(f"no boxes to draw for '{ylabel}'")
    with _figure(max(4.2, 1.0 + (0.16 * len(names) + 0.1) * len(groups)), 3.4) as figure:
        axes = figure.subplots()
        axes.grid(True, axis="y")
        width = 0.8 / len(names)
        for number, name in enumerate(names):
            there = [place for place, group in enumerate(groups.values()) if name in group]
            five = [group[name] for group in groups.values() if name in group]
            keys = ("whislo", "q1", "med", "q3", "whishi")
            color = COLORS[number % len(COLORS)]
            drawn = axes.bxp(
                [dict(zip(keys, values, strict=True)) for values in five],
                positions=[place + (number - (len(names) - 1) / 2) * width for place in there],
                widths=0.8 * width,
                showfliers=False,
                patch_artist=True,
                manage_ticks=False,
                boxprops={"facecolor": color, "edgecolor": color},
                medianprops={"color": _INK},
                whiskerprops={"color": color},
                capprops={"color": color},
            )
            drawn["boxes"][0].set_label(name)
        axes.set_xticks(
            range(len(groups)), [_short(n, 24) for n in groups], rotation=90, fontsize=7
        )
        axes.set_ylabel(ylabel)
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(names), borderaxespad=0, fontsize=8
        )
        return _svg(figure, f"{ylabel} of {', '.join(names)} in {', '.join(groups)}")


def tradeoff(
    points: Mapping[str, tuple[float, float]],
    *,
    xlabel: str,
    ylabel: str,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """Gain against cost; a line joins the points that no other one beats at both.

    Args:
        points: name to (cost above 0, gain).
        xlabel: name of the cost, with its unit. Its axis is logarithmic where costs are 10 times
            apart.
        ylabel: name of the gain.
        intervals: name to (low, high) of the gain, drawn over the points that have one.

    Returns:
        An <svg> in a box that scrolls.

    Raises:
        ValueError: when there is no point, or one that is not finite or costs nothing.
    """
    if not points or not all(0 < x < math.inf and math.isfinite(y) for x, y in points.values()):
        raise ValueError(f"trade-offs need finite points of positive cost, got {dict(points)}")
    best = frontier(points)
    with _figure(6.2, 3.4) as figure:
        axes = figure.subplots()
        axes.grid(True)
        line = [points[name] for name in best]
        axes.plot(*zip(*line, strict=True), color=COLORS[0], linewidth=1.2, zorder=1)
        for name, (x, y) in points.items():
            color = COLORS[0] if name in best else COLORS[5]
            if intervals is not None and name in intervals:
                axes.plot([x, x], intervals[name], color=color, linewidth=0.8, marker="_")
            axes.plot(x, y, color=color, marker="o", markersize=5, zorder=2)
            axes.annotate(
                _short(name), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8
            )
        costs = [x for x, _ in points.values()]
        if max(costs) >= 10 * min(costs):
            axes.set_xscale("log")
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.margins(0.12)
        shown = ", ".join(f"{name} {y:.3g} for {x:.3g}" for name, (x, y) in points.items())
        return _svg(figure, f"{ylabel} over {xlabel}: {shown}; not beaten: {', '.join(best)}")


def reliability(bins: Sequence[Mapping[str, float]]) -> str:
    """How often predictions of some confidence are right, and how many there are.

    Args:
        bins: of confidence, each with its edges ``low`` and ``high``, the number of its ``videos``,
            their mean ``confidence`` and their ``accuracy``, 0 to 1; those of an empty bin are not
            looked at.

    Returns:
        An <svg> in a box that scrolls.

    Raises:
        ValueError: when no bin has a video.
    """
    full = [one for one in bins if one["videos"]]
    if not full:
        raise ValueError("reliability needs a bin with a video")
    with _figure(3.6, 3.6) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        left, width = [b["low"] for b in full], [b["high"] - b["low"] for b in full]
        inside = {"align": "edge", "edgecolor": "none"}
        wide = [0.94 * w for w in width]
        upper.bar(left, [b["accuracy"] for b in full], wide, color=COLORS[0], **inside)
        upper.plot([0, 1], [0, 1], color=COLORS[5], linestyle="--", linewidth=1.2)
        upper.plot(
            [b["confidence"] for b in full],
            [b["accuracy"] for b in full],
            color=COLORS[1],
            marker="o",
            markersize=4,
            linewidth=1.2,
        )
        upper.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
        lower.bar(left, [b["videos"] for b in full], wide, color=COLORS[5], **inside)
        lower.set(xlabel="confidence", ylabel="videos")
        shown = ", ".join(
            f"{b['low']:.2g} to {b['high']:.2g}: {b['accuracy']:.3g} of {b['videos']:g}"
            for b in full
        )
        return _svg(figure, f"share of right predictions by confidence: {shown}")


def frontier(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points (cost, gain) than which none costs less and gains as much, by cost."""
    best: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not best or points[name][1] > points[best[-1]][1]:
            best.append(name)
    return best
