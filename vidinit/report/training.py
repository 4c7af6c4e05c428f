"""Curves of a training run, out of its metrics.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from . import plots
from .html import Section, details, table
from .labels import LABELS, METRICS, split

_POINTS = 500  # of a curve: more than the picture has room for
_ALL_POINTS = 20_000  # of all curves of a part, so that many losses do not make a large page
_SPEED = {"data_wait", "clips_per_second"}

Row = dict[str, Any]
Points = list[tuple[float, float]]


def training_sections(rows: Sequence[Row]) -> list[Section]:
    """Losses and learning rate, scores, and speed; parts without numbers are left out.

    Args:
        rows: of metrics.jsonl, in their order.
    """
    steps = [row for row in rows if "loss" in row]
    speed = [row for row in rows if _SPEED & row.keys() and "loss" not in row]
    scores = [row for row in rows if "loss" not in row and not _SPEED & row.keys()]
    parts = [_losses(steps), _evaluation(scores), _speed(speed)]
    return [part for part in parts if part is not None]


def _points(rows: Iterable[Row], key: str, x: str) -> Points:
    """(x, value) of the rows that have a value; null, which stands for no number, has none."""
    return [(row[x], row[key]) for row in rows if isinstance(row.get(key), (int, float))]


def _every(series: Mapping[str, Points]) -> int:
    """How many neighbors are drawn as one point."""
    most = min(_POINTS, max(20, _ALL_POINTS // max(len(series), 1)))
    return -(-max(map(len, series.values()), default=0) // most)


def _thin(series: Mapping[str, Points]) -> dict[str, Points]:
    """The means of as many neighbors as `_every` says."""
    every = _every(series)
    if every <= 1:
        return dict(series)
    thinned: dict[str, Points] = {}
    for name, points in series.items():
        groups = (np.array(points[i : i + every]) for i in range(0, len(points), every))
        thinned[name] = [(float(g[:, 0].mean()), float(g[:, 1].mean())) for g in groups]
    return thinned


def _numbers(series: Mapping[str, Points], x: str) -> str:
    """What a picture of curves shows, in numbers."""
    rows = []
    for name, points in series.items():
        low, high = min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])
        row = [name, points[0][1], points[-1][1], low[1], low[0], high[1], high[0]]
        rows.append(row)
    headers = ["", "first", "last", "lowest", f"at {x}", "highest", f"at {x}"]
    return details("In numbers", table(headers, rows))


def _losses(rows: Sequence[Row]) -> Section | None:
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("loss"))
    losses = {key: points for key in keys if (points := _points(rows, key, "step"))}
    rate = _points(rows, "lr", "step")
    body = []
    if losses:
        body.append(plots.curves(_thin(losses), xlabel="step", ylabel="loss"))
    if rate:
        body.append(plots.curves(_thin({"lr": rate}), xlabel="step", ylabel="learning rate"))
    if not body:
        return None
    body.append(_numbers({**losses, **({"learning rate": rate} if rate else {})}, "step"))
    every = _every(losses or {"lr": rate})
    note = f"Each point is the mean of {every} logged steps." if every > 1 else ""
    return Section("Training", "\n".join(body), note)


def _evaluation(rows: Sequence[Row]) -> Section | None:
    keys = dict.fromkeys(key for row in rows for key in row if key not in ("epoch", "step"))
    charts: dict[str, dict[str, Points]] = {}
    for key in keys:
        metric, source = split(key)
        points = _points(rows, key, "epoch")
        if points:
            chart = source if metric in METRICS else key
            charts.setdefault(chart, {})[LABELS.get(metric, metric)] = points
    if not charts:
        return None
    body, note = [], ""
    for chart, series in charts.items():
        if chart and len(charts) > 1:
            body.append(f"<h3>{escape(chart)}</h3>")
        is_score = all(name in map(LABELS.get, METRICS) for name in series)
        label = "fraction of the videos" if is_score else chart
        body.append(plots.curves(_thin(series), xlabel="epoch", ylabel=label))
        body.append(_numbers(series, "epoch"))
    first = next(iter(keys))
    shown = [row for row in rows if isinstance(row.get(first), (int, float))]
    if shown:
        best = max(shown, key=lambda row: row[first])  # the earliest of equals, as in training
        chosen = [best] if best is rows[-1] else [best, rows[-1]]
        cells = [[row["epoch"], *(row.get(key) for key in keys)] for row in chosen]
        body.append(table(["epoch", *keys], cells, highlight=0))
        note = f"The table has the best epoch by {first}, and the last one."
    return Section("Evaluation", "\n".join(body), note)


def _speed(rows: Sequence[Row]) -> Section | None:
    wait = {"waiting": _points(rows, "data_wait", "epoch")}
    rate = {"clips per second": _points(rows, "clips_per_second", "epoch")}
    body = []
    if wait["waiting"]:
        label = "share of the time waiting for data"
        body.append(plots.curves(_thin(wait), xlabel="epoch", ylabel=label))
    if rate["clips per second"]:
        body.append(plots.curves(_thin(rate), xlabel="epoch", ylabel="clips per second"))
    if not body:
        return None
    body.append(_numbers({k: v for k, v in {**wait, **rate}.items() if v}, "epoch"))
    return Section("Speed", "\n".join(body))
