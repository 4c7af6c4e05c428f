"""Parts of a report about a model: its costs, its temporal kernels, its lineage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..checkpoint import CARD, read_card
from ..errors import UsageError
from ..measure.costs import plan
from ..measure.kernels import kernel_table, summarize
from .html import Section, details, table
from .pictures import filters_picture
from .profile_page import KERNELS, sheets

if TYPE_CHECKING:
    from ..zoo.base import VideoModel
    from ..zoo.card import Card, Converted

_FILTERS = (
    "The first temporal kernel: a strip for each output channel, time from left to right. Zero is "
    "gray. Patches that are alike look at appearance."
)
_STEPS_BACK = 8  # runs that are followed to the conversion that stands at their beginning
_APART = ("exact", "max_difference", "reason")  # of a conversion's step, that the proof tells
_counted: dict[str, dict[str, Any]] = {}  # by network: one process may train it many times


def model_sections(folder: Path, model: VideoModel) -> list[Section]:
    """Costs and temporal kernels of a trained model.

    Args:
        folder: the model's.
        model: it in memory, with the weights after the last step.
    """
    if not (folder / "model.yaml").is_file():  # no epoch was good enough to be kept
        return []
    row = _costs(folder)
    costs = [] if row is None else cost_sections([row])
    return [*costs, *kernel_sections({"after training": model})]


def _costs(folder: Path) -> dict[str, Any] | None:
    """The row of a profile that runs nothing; None where a clip of its own does not go through."""
    card = read_card(folder)
    form = (card.name, card.options, card.num_classes, card.clip.as_dict())
    key = json.dumps(form, default=str)
    if key not in _counted:
        try:
            job = plan(card.name, str(folder), [], None, stages=True)[0]
        except UsageError:  # no reason for a run that is done to fail
            return None
        _counted[key] = job.as_row()
    return _counted[key]


def cost_sections(rows: list[dict[str, Any]]) -> list[Section]:
    """A profile's tables, the stages to be opened.

    Args:
        rows: as `pipelines.profile.api.profile` returns them, or `measure.costs.ProfileJob.as_row`.
    """
    first, *others = sheets(rows)
    body = table(first.headers, first.rows)
    for sheet in others:
        body += details(sheet.title, table(sheet.headers, sheet.rows) + _note(sheet.note))
    return [Section(first.title, body, first.note)]


def kernel_sections(models: Mapping[str, VideoModel]) -> list[Section]:
    """Center energy and variation of temporal kernels, and the first kernels as a picture.

    Args:
        models: by the name they have in the report; those without temporal kernels are passed.
    """
    tables = {name: kernel_table(model) for name, model in models.items()}
    found = {name: rows for name, rows in tables.items() if rows}
    if not found:
        return []
    means = [
        [name, part, mean["center_energy"], mean["variation"]]
        for name, rows in found.items()
        for part, mean in summarize(rows).items()
    ]
    body = filters_picture({name: models[name] for name in found})
    body += _note(_FILTERS)
    body += table(["weights", "part", "center energy", "variation"], means)
    headers = ["kernel", "size", "part", "channels", "center energy", "variation"]
    for name, rows in found.items():
        cells = [[r.name, r.kernel, r.part, r.channels, r.center_energy, r.variation] for r in rows]
        body += details(f"All kernels, {name}", table(headers, cells))
    return [Section("Temporal kernels", body, KERNELS)]


def class_count(run: Path) -> int:
    """How many classes the model of a run tells apart; 0 where there is none to be read."""
    card = _card(run)
    return 0 if card is None else card.num_classes


def lineage_sections(run: Path, model: str | None) -> list[Section]:
    """The lineage of the weights of a run, and the table of the conversion at its beginning.

    Args:
        run: its folder, with a ``model/`` if it trained one.
        model: that it started from: a zoo name, or a model or run folder.
    """
    card = _card(run) or (None if model is None else _card(Path(model)))
    if card is None or not card.lineage:
        return []
    rows = [
        [number, step["step"], _details(step), _verdict(step)]
        for number, step in enumerate(card.lineage, 1)
    ]
    headers = ["", "step", "what it took and gave", "proof"]
    sections = [Section("Where the weights come from", table(headers, rows), folded=True)]
    conversion = card.conversion or (None if model is None else _conversion(Path(model)))
    if conversion:
        part = conversion_section([row.model_dump() for row in conversion])
        sections.append(replace(part, folded=True))
    return sections


def conversion_section(rows: Sequence[Mapping[str, Any]]) -> Section:
    """The table of a conversion.

    Args:
        rows: ``stage``, ``rule``, ``kind``, ``tensors`` and ``note``, as `conversion.table.Row`.
    """
    headers = ["stage", "tensors", "rule", "kind", "note"]
    cells = [[row["stage"], row["tensors"], row["rule"], row["kind"], row["note"]] for row in rows]
    if not any(row["note"] for row in rows):
        headers, cells = headers[:-1], [line[:-1] for line in cells]
    totals = {
        kind: sum(row["tensors"] for row in rows if row["kind"] == kind)
        for kind in dict.fromkeys(row["kind"] for row in rows)
    }
    note = ", ".join(f"{count} {kind}" for kind, count in totals.items())
    return Section("Conversion", table(headers, cells), f"Tensors: {note}.", wide=True)


def _verdict(step: Mapping[str, Any]) -> str | None:
    """The outcome of a conversion's proof by the still clip; None for other steps."""
    if step.get("exact") is None:
        return f"not told: {step['reason']}" if step.get("reason") else None
    verdict = "exact" if step["exact"] else "not exact"
    return f"{verdict}, largest difference {step['max_difference']:.1e}"


def _details(step: Mapping[str, Any]) -> str:
    rest = {k: v for k, v in step.items() if k not in ("step", *_APART) and v is not None}
    return "; ".join(f"{key} {_word(value)}" for key, value in rest.items())


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_word(item)}" for key, item in value.items())
    if isinstance(value, list):
        more = f" and {len(value) - 8} more" if len(value) > 8 else ""
        return ", ".join(map(_word, value[:8])) + more
    return str(value)


def _card(folder: Path) -> Card | None:
    """model.yaml of a model or run folder; None where there is none to be read."""
    for place in (folder, folder / "model"):
        if (place / CARD).is_file():
            try:
                return read_card(place)
            except UsageError:  # damaged, or of another version: the report goes without it
                return None
    return None


def _conversion(folder: Path) -> list[Converted] | None:
    """The table of the conversion at the beginning of a chain of runs, or None."""
    for _ in range(_STEPS_BACK):
        card = _card(folder)
        if card is not None and card.conversion:
            return card.conversion
        config = folder / "config.yaml"
        if not config.is_file():
            return None
        before = (yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("model")
        if not before:
            return None
        folder = Path(before)
    return None


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'
