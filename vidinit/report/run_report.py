"""``report.html`` of a run: the content of its folder on one page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import yaml

from ..config.base import RunConfig
from ..config.layers import flat
from ..engine.run_folder import ORIGINS, RunFolder
from . import plots
from .html import Section, details, page, table
from .model_parts import class_count, lineage_sections
from .result_parts import LABELS, METRICS, phrase, result_sections, split
from .run_answer import run_answer
from .scores import class_sections

_BAD_FILES, _FILES_AT_ONCE = 100, 8
_CONFIG = 200_000  # characters of a configuration, which may name a list of many files
_HEALTH = {
    "frames": "frames",
    "hours": "hours",
    "rotated": "rotated files",
    "sizes": "frame sizes (files)",
    "fps": "frames per second (files)",
    "readers": "what decodes (files)",
    "reasons": "why files are left out (files)",
}  # of data_health.json, beside its lists
_FOLDERS = ("out", "device")  # settings that say where, not what
_POINTS = 500  # of a curve: more than the picture has room for
_ALL_POINTS = 20_000  # of all curves of a part, so that many losses do not make a large page
_SPEED = {"data_wait", "clips_per_second"}
VAL_LOSS, TRAINING = "val_loss", "train_"
"""Of an epoch: the loss of the validation clips; before the name of a metric: of training clips."""
Row = dict[str, Any]
"""A line of metrics.jsonl, or the content of another JSON file."""
Points = list[tuple[float, float]]
"""(x, value) of a curve."""


def write_report(
    run: RunFolder,
    *,
    title: str,
    config: RunConfig | None = None,
    confusion: np.ndarray | None = None,
    classes: list[str] | None = None,
    extra: Sequence[Section] = (),
    answer: str = "",
) -> None:
    """Write ``report.html`` into the run folder; parts that the run does not have are left out.

    Reads result.json, metrics.jsonl, data_health.json, origins.json and the model's card, so it
    comes after they are written. Its size is bounded, whatever the number of classes, epochs and
    files.

    Args:
        run: the folder. Nothing happens in a process that does not write to it.
        title: plain text.
        config: of the run; settings that are not the command's defaults are shown first.
        confusion: counts (C, C), true class by predicted class.
        classes: the C class names; default: their numbers.
        extra: further parts, after the measurements and before lineage, health and configuration.
        answer: what the page begins with, see `report.answer`; default: `run_answer` of result.json
            and the scores of its epochs.

    Raises:
        ValueError: when ``confusion`` and ``classes`` do not fit.
    """
    if not run.writes:
        return
    result, rows = _read_json(run, "result.json") or {}, run.read_metrics()
    parts = [
        *result_sections(result),
        *training_sections(rows),
        *([] if confusion is None else class_sections(confusion, classes)),
        *extra,
        *lineage_sections(run.root, None if config is None else config.model),
        *_health(_read_json(run, "data_health.json")),
        _configuration(config, _read_json(run, ORIGINS) or {}),
    ]
    told = answer or run_answer(result, rows, classes=class_count(run.root) or len(classes or ()))
    shown = [part for part in parts if part]
    run.write("report.html", page(title, shown, subtitle=str(run.root), answer=told))


def _read_json(run: RunFolder, name: str) -> Row | None:
    path = run.root / name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def training_sections(rows: Sequence[Row]) -> list[Section]:
    """Losses and learning rate, scores, and speed; parts without numbers are left out.

    Args:
        rows: of metrics.jsonl, in their order.
    """
    steps = [row for row in rows if "loss" in row]
    speed = [row for row in rows if _SPEED & row.keys() and "loss" not in row]
    scores = [row for row in rows if "loss" not in row and not _SPEED & row.keys()]
    parts = [_losses(steps, scores), _evaluation(_with_training(scores, speed)), _speed(speed)]
    return [part for part in parts if part is not None]


def _with_training(scores: Sequence[Row], epochs: Sequence[Row]) -> list[Row]:
    """Scores of the epochs, each with the figures of its training clips; others are left out."""
    training = {
        row["epoch"]: {key: value for key, value in row.items() if key.startswith(TRAINING)}
        for row in epochs
        if "epoch" in row
    }
    return [{**row, **training.get(row.get("epoch"), {})} for row in scores]


def _losses(rows: Sequence[Row], scores: Sequence[Row]) -> Section | None:
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("loss"))
    losses = {key: points for key in keys if (points := _points(rows, key, "step"))}
    rate = _points(rows, "lr", "step")
    validation = _points(scores, VAL_LOSS, "step")
    thin = _thin(losses)
    if validation:
        thin = {"training" if name == "loss" else name: points for name, points in thin.items()}
        thin["validation"] = validation
    body = []
    if thin and any(len(points) > 1 for points in thin.values()):
        body.append(plots.curves(thin, xlabel="step", ylabel="loss"))
    if len(rate) > 1:
        course = plots.curves(_thin({"lr": rate}), xlabel="step", ylabel="learning rate")
        body.append(details("Learning rate", course))
    if not losses and not rate:
        return None
    told = {**losses, **({"validation loss": validation} if validation else {})}
    body.append(_numbers({**told, **({"learning rate": rate} if rate else {})}, "step"))
    every = _every(losses or {"lr": rate})
    note = f"Each point is the mean of {every} logged steps." if every > 1 else ""
    return Section("Training", "\n".join(body), note)


def _evaluation(rows: Sequence[Row]) -> Section | None:
    apart = {"epoch", "step", VAL_LOSS, "most_predicted", "train_loss", *_SPEED}
    keys = dict.fromkeys(key for row in rows for key in row if key not in apart)
    charts: dict[str, dict[str, Points]] = {}
    for key in keys:
        metric, source = split(key.removeprefix(TRAINING))
        points = _points(rows, key, "epoch")
        if points:
            chart = source if metric in METRICS else key
            name = LABELS.get(metric, metric)
            if key.startswith(TRAINING):
                name = f"{name}, training"
            charts.setdefault(chart, {})[name] = points
    if not charts:
        return None
    body, note = [], ""
    scores = {LABELS[name] for name in METRICS if name in LABELS}
    for chart, series in charts.items():
        if chart and len(charts) > 1:
            body.append(f"<h3>{escape(chart)}</h3>")
        is_score = all(name.removesuffix(", training") in scores for name in series)
        label = "fraction of the videos" if is_score else chart
        if any(len(points) > 1 for points in series.values()):  # one epoch is no curve
            drawn = plots.curves(_thin(series), xlabel="epoch", ylabel=label, fractions=is_score)
            body += [drawn, _numbers(series, "epoch")]
    first = next(iter(keys))
    shown = [row for row in rows if isinstance(row.get(first), (int, float))]
    if shown:
        best = max(shown, key=lambda row: row[first])  # the earliest of equals, as in training
        chosen = [best] if best is rows[-1] else [best, rows[-1]]
        cells = [[row["epoch"], *(row.get(key) for key in keys)] for row in chosen]
        body.append(table(["epoch", *(LABELS.get(key, key) for key in keys)], cells, highlight=0))
        if len(chosen) > 1:
            note = f"The table has the best epoch by {first}, and the last one."
    return Section("Evaluation", "\n".join(body), note)


def _speed(rows: Sequence[Row]) -> Section | None:
    wait = {"waiting": _points(rows, "data_wait", "epoch")}
    rate = {"clips per second": _points(rows, "clips_per_second", "epoch")}
    body = []
    if len(wait["waiting"]) > 1:
        label = "share of the time waiting for data"
        body.append(plots.curves(_thin(wait), xlabel="epoch", ylabel=label, fractions=True))
    if len(rate["clips per second"]) > 1:
        body.append(plots.curves(_thin(rate), xlabel="epoch", ylabel="clips per second"))
    if not wait["waiting"] and not rate["clips per second"]:
        return None
    body.append(_numbers({k: v for k, v in {**wait, **rate}.items() if v}, "epoch"))
    return Section("Speed", "\n".join(body), folded=True)


def _numbers(series: Mapping[str, Points], x: str) -> str:
    """The first, last, lowest and highest values of curves."""
    rows = []
    for name, points in series.items():
        low, high = min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])
        row = [name, points[0][1], points[-1][1], low[1], low[0], high[1], high[0]]
        rows.append(row)
    headers = ["", "first", "last", "lowest", f"at {x}", "highest", f"at {x}"]
    return details("In numbers", table(headers, rows))


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


def _every(series: Mapping[str, Points]) -> int:
    """How many neighbors are drawn as one point."""
    most = min(_POINTS, max(20, _ALL_POINTS // max(len(series), 1)))
    return -(-max(map(len, series.values()), default=0) // most)


def _points(rows: Iterable[Row], key: str, x: str) -> Points:
    """(x, value) of the rows that have a value; null, which stands for no number, has none."""
    return [(row[x], row[key]) for row in rows if isinstance(row.get(key), (int, float))]


def _health(health: Row | None) -> list[Section]:
    if health is None:
        return []
    bad = health["bad"]
    body = table(("files", "readable", "left out"), [(health["files"], health["good"], len(bad))])
    facts = [(words, _counts(health[key])) for key, words in _HEALTH.items() if health.get(key)]
    body += table(("", ""), facts) if facts else ""
    notes = []
    outside, substituted = health.get("outside", []), health.get("substituted", [])
    for title, files in (
        ("Left out: cannot be read", bad),
        ("Left out: the segment begins behind the end of its file", outside),
    ):
        body += _files(title, ("file", "reason"), [(f["path"], f["reason"]) for f in files])
    kept = health.get("partial", [])
    rows = [(f["path"], f["kept"], f["of"] or "unknown", f["reason"]) for f in kept]
    body += _files("Damaged: the beginning is kept", ("file", "frames", "of", "reason"), rows)
    title = "Failed while training, another clip was taken"
    body += _files(title, ("file",), [(path,) for path in substituted])
    if max(map(len, (bad, outside, kept, substituted))) > _BAD_FILES:
        notes.append("All files are named in data_health.json.")
    if health.get("events"):
        count = len(health["events"])
        notes.append(f"{count} times a decoder hung or crashed; see data_health.json.")
    told = bad or outside or kept or substituted
    return [Section("Data health", body, " ".join(notes), folded=not told)]


def _files(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A few files at once, some more to be opened, no more than a page should have."""
    if not rows:
        return ""
    first, then = rows[:_FILES_AT_ONCE], rows[_FILES_AT_ONCE:_BAD_FILES]
    body = f"<h3>{title}: {len(rows)}</h3>" + table(headers, first)
    return body + (details(f"{len(then)} more", table(headers, then)) if then else "")


def _counts(value: Any) -> Any:
    """``{"320x240": 7}`` as ``320x240: 7``; numbers stay."""
    return phrase(dict(list(value.items())[:10])) if isinstance(value, dict) else value


def _configuration(config: RunConfig | None, places: Mapping[str, str]) -> Section | None:
    """Settings that are not the defaults and their places as a table; all of them as YAML."""
    if config is None:
        return None
    settings = config.model_dump(mode="json")
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    if len(text) > _CONFIG:
        text = f"{text[:_CONFIG]}\n… (all of it is in config.yaml)"
    whole = f"<pre>{escape(text)}</pre>"
    usual = dict(flat(config.defaults()))
    usual["model"] = None  # has no default
    rows = [
        [key, _setting(value), _setting(usual.get(key)), places.get(key)]
        for key, value in flat(settings)
        if value != usual.get(key) and key not in _FOLDERS
    ]
    body = table(["setting", "value", "default", "from"], rows) + details("All settings", whole)
    note = "The table has what is not the default."
    return Section("Configuration", body, note, folded=True)


def _setting(value: Any) -> str | None:
    """A value as YAML has it, in few characters."""
    if value is None:
        return None
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    text = text.removesuffix("...\n").strip()
    return text if len(text) <= 300 else f"{text[:299]}…"
