"""What a report shows of a model: what it costs, and what its temporal kernels look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoint import read_card
from ..errors import UsageError
from ..measure.kernels import filters_picture, kernel_table, summarize
from ..measure.profile import plan
from .html import Section, details, table
from .profile_page import KERNELS, sheets

if TYPE_CHECKING:
    from ..zoo.base import VideoModel

_counted: dict[str, dict[str, Any]] = {}  # by network: one process may train it many times
_FILTERS = (
    "The first temporal kernel: a strip for each output channel, time from left to right. Zero is "
    "gray. Patches that are alike look at appearance."
)


def model_sections(folder: Path, model: VideoModel) -> list[Section]:
    """What a trained model costs, and what its temporal kernels look at.

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
    key = json.dumps([card[k] for k in ("name", "options", "num_classes", "clip")], default=str)
    if key not in _counted:
        try:
            job = plan(card["name"], str(folder), [], None, stages=True)[0]
        except UsageError:  # no reason for a run that is done to fail
            return None
        _counted[key] = job.as_row()
    return _counted[key]


def cost_sections(rows: list[dict[str, Any]]) -> list[Section]:
    """A profile's tables, the stages to be opened.

    Args:
        rows: as `recipes.profile.profile` returns them, or `measure.profile.Job.as_row`.
    """
    first, *others = sheets(rows)
    body = table(first.headers, first.rows)
    for sheet in others:
        body += details(sheet.title, table(sheet.headers, sheet.rows) + _note(sheet.note))
    return [Section(first.title, body, first.note)]


def kernel_sections(models: Mapping[str, VideoModel]) -> list[Section]:
    """What the temporal kernels of models look at, and the first ones as a picture.

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


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'
