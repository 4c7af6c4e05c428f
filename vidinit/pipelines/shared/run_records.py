"""The settings of a run in its folder: config.yaml, and where each of them comes from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ...config import DEFAULT, RunConfig
from ...config.layers import flat
from ...data.loading.watchdog import Quarantine
from ...engine.collectives import gather_all
from ...engine.run_folder import ORIGINS, RunFolder

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
    usual = dict(flat(config.defaults()))
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


def holds_something(folder: str | Path) -> bool:
    """Whether a folder holds something."""
    return Path(folder).is_dir() and any(Path(folder).iterdir())


@contextmanager
def replaced_folder(
    folder: str | Path, make: Callable[[], RunFolder], *, moves: bool = True
) -> Iterator[RunFolder]:
    """A new folder in the place of an earlier one, which is put back if anything goes wrong.

    Args:
        folder: where.
        make: makes and opens it, once the earlier one is out of the way.
        moves: whether this process is the one that moves and deletes.
    """
    new = Path(folder)
    old = new.with_name(f".{new.name}.old")
    moves = moves and holds_something(new)
    if moves:
        shutil.rmtree(old, ignore_errors=True)
        new.rename(old)
    try:
        yield make()
    except BaseException:
        if moves:
            shutil.rmtree(new, ignore_errors=True)
            old.rename(new)
        raise
    if moves:
        shutil.rmtree(old, ignore_errors=True)


NAME = "data_health.json"


class HealthFile:
    """The health of a run's data, kept up to date in its folder.

    Args:
        run: the folder.
        checks: outcomes of the checks before the run, as `Health.as_dict` gives them.
        quarantines: where the run notes files that hang or crash a decoder.
        resumed: keep the events of the run so far.
    """

    def __init__(
        self,
        run: RunFolder,
        checks: Sequence[dict[str, Any]],
        quarantines: Sequence[Quarantine],
        *,
        resumed: bool = False,
    ) -> None:
        self.run, self.quarantines = run, quarantines
        self.checks = merge_health(checks)
        before = read_health(run.root) if resumed else None
        self.events: list[dict[str, Any]] = (before or {}).get("events", [])
        for quarantine in quarantines:
            quarantine.on_event = self.write
        self.write()

    def write(self) -> None:
        """Write what this process knows; only the main one's folder takes it."""
        self.run.write_json(NAME, {**self.checks, "events": self.events + self._own()})

    def gather(self, accelerator: Any, substituted: Sequence[str] = ()) -> None:
        """Write what all processes know, and which files were replaced while training."""
        parts = gather_all(accelerator, self._own())
        events = self.events + [event for part in parts for event in part]
        whole = {**self.checks, "events": events, "substituted": list(substituted)}
        self.run.write_json(NAME, whole)

    def _own(self) -> list[dict[str, Any]]:
        return [event for quarantine in self.quarantines for event in quarantine.events]


def read_health(folder: Path) -> dict[str, Any] | None:
    """What a run's folder says of its data; None where it says nothing."""
    file = folder / NAME
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def merge_health(checks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One health of several data sets: counts add up, lists follow one another."""
    whole = dict(checks[0])
    for check in checks[1:]:
        for key, value in check.items():
            if isinstance(value, dict):
                mine = whole.setdefault(key, {})
                whole[key] = {k: mine.get(k, 0) + value.get(k, 0) for k in {**mine, **value}}
            elif isinstance(value, (int, float, list)):
                whole[key] = whole[key] + value if key in whole else value
    return whole
