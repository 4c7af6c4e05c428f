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
from .model_parts import lineage_sections
from .result_parts import LABELS, METRICS, phrase, result_sections, split
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

    Raises:
        ValueError: when ``confusion`` and ``classes`` do not fit.
    """
    if not run.writes:
        return
    parts = [
        *result_sections(_read_json(run, "result.json") or {}),
        *training_sections(run.read_metrics()),
        *([] if confusion is None else class_sections(confusion, classes)),
        *extra,
        *lineage_sections(run.root, None if config is None else config.model),
        *_health(_read_json(run, "data_health.json")),
        _configuration(config, _read_json(run, ORIGINS) or {}),
    ]
    run.write("report.html", page(title, [part for part in parts if part], subtitle=str(run.root)))


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
    parts = [_losses(steps), _evaluation(scores), _speed(speed)]
    return [part for part in parts if part is not None]


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
    return [Section("Data health", body, " ".join(notes))]


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
    return Section("Configuration", body, "The table has what is not the default.")


def _setting(value: Any) -> str | None:
    """A value as YAML has it, in few characters."""
    if value is None:
        return None
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    text = text.removesuffix("...\n").strip()
    return text if len(text) <= 300 else f"{text[:299]}…"
