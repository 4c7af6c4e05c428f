"""The settings of a run in its folder: config.yaml, and where each of them comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ..config import DEFAULT, RunConfig
from ..engine.run_folder import ORIGINS, RunFolder
from ..layers import flat

SETTLED = "chosen by the run"
"""The place of a value that was left to the run, as the precision ``auto``."""


def open_recorded(
    config: RunConfig, command: str, *, overwrite: bool = False, resume: bool = False
) -> RunFolder:
    """Make the folder of a run, or enter it again, and write config.yaml and origins.json.

    origins.json has the place of each value by its dotted key. In a run that goes on, a value that
    is what it was keeps the place that it had.

    Raises:
        UsageError: as `RunFolder.open`.
    """
    settings = config.model_dump(mode="json")
    before = _earlier(Path(config.out or "")) if resume else {}
    run = RunFolder.open(
        config.out or "",
        overwrite=overwrite,
        resume=resume,
        config={"command": command, **settings},
    )
    places = _places(config, settings)
    for key, value in flat(settings):
        was, place = before.get(key, (None, None))
        if place is not None and was == value:
            places[key] = place
    run.write_json(ORIGINS, places)
    return run


def _places(config: RunConfig, settings: dict[str, Any]) -> dict[str, str]:
    """Where values come from; what nobody set and is not the default, the run has settled."""
    usual = dict(flat(type(config).model_construct(model="").model_dump(mode="json")))
    places = {}
    for key, value in flat(settings):
        place = config.origins.get(key, DEFAULT)
        is_usual = key in usual and usual[key] == value
        places[key] = SETTLED if place == DEFAULT and not is_usual else place
    return places


def _earlier(root: Path) -> dict[str, tuple[Any, str]]:
    """Value and place of each setting of the run in a folder, as far as they are recorded."""
    try:
        values = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))
        places = json.loads((root / ORIGINS).read_text(encoding="utf-8"))
        known = dict(flat(values))
        return {key: (known[key], place) for key, place in places.items() if key in known}
    except (OSError, ValueError, AttributeError, yaml.YAMLError):  # a run of before, or damaged
        return {}
