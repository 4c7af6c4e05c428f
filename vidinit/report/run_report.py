"""``report.html`` of a run: what its folder holds, on one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import yaml

from ..config import COMMANDS
from ..engine.run_folder import ORIGINS, RunFolder
from ..layers import flat
from .html import Section, details, page, table
from .lineage import lineage_sections
from .result_parts import phrase, result_sections
from .scores import class_sections
from .training import training_sections

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

    Reads result.json, metrics.jsonl, data_health.json, origins.json and the model's card, so it
    comes after they are written. Its size is bounded, whatever the number of classes, epochs and
    files.

    Args:
        run: the folder. Nothing happens in a process that does not write to it.
        title: plain text; its first word is the command.
        config: plain values; those that are not the command's defaults are shown first.
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
        *lineage_sections(run.root, None if config is None else config.get("model")),
        *_health(_read_json(run, "data_health.json")),
        _configuration(title.partition(" ")[0], config, _read_json(run, ORIGINS) or {}),
    ]
    run.write("report.html", page(title, [part for part in parts if part], subtitle=str(run.root)))


def _read_json(run: RunFolder, name: str) -> Row | None:
    path = run.root / name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


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
    title = "Failed while training, another clip was taken"
    body += _files(title, ("file",), [(path,) for path in substituted])
    if max(map(len, (bad, outside, substituted))) > _BAD_FILES:
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


def _configuration(command: str, config: Row | None, places: Mapping[str, str]) -> Section | None:
    """What differs from the defaults as a table, and from where; all of it as YAML."""
    if not config:
        return None
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    if len(text) > _CONFIG:
        text = f"{text[:_CONFIG]}\n… (all of it is in config.yaml)"
    whole = f"<pre>{escape(text)}</pre>"
    if command not in COMMANDS:
        return Section("Configuration", whole)
    usual = dict(flat(COMMANDS[command].model_construct(model="").model_dump(mode="json")))
    usual["model"] = None  # has no default
    rows = [
        [key, _setting(value), _setting(usual.get(key)), places.get(key)]
        for key, value in flat(config)
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
