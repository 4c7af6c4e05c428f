"""data_health.json: what could not be read before a run and during it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.loading.watchdog import Quarantine
from ..engine.run_folder import RunFolder
from ..engine.together import of_all

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
        self.checks = merged(checks)
        before = recorded(run.root) if resumed else None
        self.events: list[dict[str, Any]] = (before or {}).get("events", [])
        for quarantine in quarantines:
            quarantine.on_event = self.write
        self.write()

    def write(self) -> None:
        """Write what this process knows; only the main one's folder takes it."""
        self.run.write_json(NAME, {**self.checks, "events": self.events + self._own()})

    def gather(self, accelerator: Any, substituted: Sequence[str] = ()) -> None:
        """Write what all processes know, and which files were replaced while training."""
        parts = of_all(accelerator, self._own())
        events = self.events + [event for part in parts for event in part]
        whole = {**self.checks, "events": events, "substituted": list(substituted)}
        self.run.write_json(NAME, whole)

    def _own(self) -> list[dict[str, Any]]:
        return [event for quarantine in self.quarantines for event in quarantine.events]


def recorded(folder: Path) -> dict[str, Any] | None:
    """What a run's folder says of its data; None where it says nothing."""
    file = folder / NAME
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def merged(checks: Sequence[dict[str, Any]]) -> dict[str, Any]:
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
