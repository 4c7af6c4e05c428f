"""``report.html`` of a run: what its folder holds, on one page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import yaml

from ..engine.run_folder import RunFolder
from . import plots
from .html import Section, page, table

_LABELS = {
    "out": "Run folder",
    "steps": "Training steps",
    "best": "Best validation score",
    "videos": "Videos",
    "skipped": "Clips skipped while training",
    "views": "Views per video (clips x crops)",
    "missing": "Videos that could not be read",
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "mean_class_accuracy": "Mean class accuracy",
    "top1_interval": "95 % interval of top-1",
    "map": "Mean average precision",
    "top1_action": "Top-1 of the action",
    "top1_verb": "Top-1 of the verb",
    "top1_noun": "Top-1 of the noun",
    "top5_action": "Top-5 of the action",
    "top5_verb": "Top-5 of the verb",
    "top5_noun": "Top-5 of the noun",
}
_METRICS = ("map", "top1", "top5", "mean_class_accuracy", "top1_verb", "top1_noun")
_POINTS = 500  # of a curve: more than the picture has room for
_BAD_FILES = 100

Row = dict[str, Any]


def write_report(
    run: RunFolder,
    *,
    title: str,
    config: dict[str, Any] | None = None,
    confusion: np.ndarray | None = None,
    classes: list[str] | None = None,
    extra: Sequence[Section] = (),
) -> None:
    """Write ``report.html`` into the run folder; parts that the run does not have are left out.

    Reads result.json, metrics.jsonl and data_health.json, so it comes after they are written.

    Args:
        run: the folder. Nothing happens in a process that does not write to it.
        title: plain text.
        config: plain values, shown as YAML.
        confusion: counts (C, C), true class by predicted class.
        classes: the C class names; default: their numbers.
        extra: further parts, after the measurements and before health and configuration.

    Raises:
        ValueError: when ``confusion`` and ``classes`` do not fit.
    """
    if not run.writes:
        return
    rows = run.read_metrics()
    training = [row for row in rows if "loss" in row]
    parts = [
        _result(_read_json(run, "result.json")),
        _training(training),
        _evaluation([row for row in rows if not {"loss", "data_wait"} & row.keys()]),
        *(() if confusion is None else _classes(confusion, classes)),
        *extra,
        _health(_read_json(run, "data_health.json")),
        _configuration(config),
    ]
    run.write("report.html", page(title, [part for part in parts if part], subtitle=str(run.root)))


def _read_json(run: RunFolder, name: str) -> Row | None:
    path = run.root / name
    return dict(json.loads(path.read_text())) if path.is_file() else None


def _result(result: Row | None) -> Section | None:
    if not result:
        return None
    rows = [(_LABELS.get(key, key), _phrase(value)) for key, value in result.items()]
    return Section("Result", table(("", ""), rows))


def _phrase(value: Any) -> Any:
    """A value of result.json in words; numbers and texts stay."""
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_phrase(item)}" for key, item in value.items())
    if not isinstance(value, list):
        return value
    if len(value) == 2 and all(isinstance(item, float) for item in value):
        return f"{value[0]:.4g} to {value[1]:.4g}"
    if not value:
        return 0
    more = ", …" if len(value) > 5 else ""
    return f"{len(value)}: {', '.join(map(str, value[:5]))}{more}"


def _points(rows: list[Row], key: str, x: str) -> list[tuple[float, float]]:
    """(x, value) of the rows that have a value; null, which stands for no number, has none."""
    return [(row[x], row[key]) for row in rows if isinstance(row.get(key), (int, float))]


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about `_POINTS` points: means of as many neighbors as that takes."""
    every = -(-len(points) // _POINTS)
    if every <= 1:
        return points
    groups = (np.array(points[i : i + every]) for i in range(0, len(points), every))
    return [(float(g[:, 0].mean()), float(g[:, 1].mean())) for g in groups]


def _training(rows: list[Row]) -> Section | None:
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("loss"))
    losses = {key: points for key in keys if (points := _points(rows, key, "step"))}
    rate = _points(rows, "lr", "step")
    body = []
    if losses:
        thinned = {key: _thin(points) for key, points in losses.items()}
        body.append(plots.curves(thinned, xlabel="step", ylabel="loss"))
    if rate:
        body.append(plots.curves({"lr": _thin(rate)}, xlabel="step", ylabel="learning rate"))
    if not body:
        return None
    every = -(-max(map(len, [*losses.values(), rate])) // _POINTS)
    note = f"Each point is the mean of {every} logged steps." if every > 1 else ""
    return Section("Training", "\n".join(body), note)


def _split(key: str) -> tuple[str, str]:
    """A metric's name and its source: ``top1_photos`` is top1 of photos, ``top1`` of no source."""
    for metric in _METRICS:
        if key == metric or key.startswith(f"{metric}_"):
            return metric, key[len(metric) + 1 :]
    return key, ""


def _evaluation(rows: list[Row]) -> Section | None:
    keys = dict.fromkeys(key for row in rows for key in row if key not in ("epoch", "step"))
    charts: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for key in keys:
        metric, source = _split(key)
        points = _points(rows, key, "epoch")
        if points:
            chart = source if metric in _METRICS else key
            charts.setdefault(chart, {})[_LABELS.get(metric, metric)] = points
    if not charts:
        return None
    body, note = [], ""
    for chart, series in charts.items():
        if chart and len(charts) > 1:
            body.append(f"<h3>{escape(chart)}</h3>")
        is_score = all(name in map(_LABELS.get, _METRICS) for name in series)
        label = "fraction of the videos" if is_score else chart
        body.append(plots.curves(series, xlabel="epoch", ylabel=label))
    first = next(iter(keys))
    shown = [row for row in rows if isinstance(row.get(first), (int, float))]
    if shown:
        best = max(shown, key=lambda row: row[first])  # the earliest of equals, as in training
        chosen = [best] if best is rows[-1] else [best, rows[-1]]
        cells = [[row["epoch"], *(row.get(key) for key in keys)] for row in chosen]
        body.append(table(["epoch", *keys], cells, highlight=0))
        note = f"The table has the best epoch by {first}, and the last one."
    return Section("Evaluation", "\n".join(body), note)


def _classes(confusion: np.ndarray, classes: list[str] | None) -> list[Section]:
    from ..engine.scoring import wilson

    names = classes or [str(i) for i in range(len(confusion))]
    sections = [
        Section(
            "Confusion matrix",
            plots.confusion(confusion, names),
            "A row holds the videos of one class, a column those given one prediction.",
        )
    ]
    values, intervals = {}, {}
    for i, (name, total) in enumerate(zip(names, confusion.sum(axis=1), strict=True)):
        if total:
            label = f"{name if len(name) <= 20 else name[:19] + '…'} ({total})"
            if label in values:  # shortened alike
                label = f"{i}: {label}"
            values[label] = float(confusion[i, i] / total)
            intervals[label] = wilson(values[label], int(total))
    if values:
        chance = 1 / len(names)
        body = plots.bars(values, xlabel="accuracy", intervals=intervals, chance=chance)
        note = "In brackets: videos of the class. Lines: 95 % intervals."
        without = len(names) - len(values)
        note += f" {without} classes have no video and are left out." if without else ""
        sections.append(Section("Accuracy per class", body, note))
    return sections


def _health(health: Row | None) -> Section | None:
    if health is None:
        return None
    bad = health["bad"]
    body = table(("files", "readable", "left out"), [(health["files"], health["good"], len(bad))])
    if bad:
        body += table(
            ("file", "reason"), [(item["path"], item["reason"]) for item in bad[:_BAD_FILES]]
        )
    more = len(bad) - _BAD_FILES
    note = f"{more} more files are named in data_health.json." if more > 0 else ""
    return Section("Data health", body, note)


def _configuration(config: Row | None) -> Section | None:
    if not config:
        return None
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return Section("Configuration", f"<pre>{escape(text)}</pre>")
