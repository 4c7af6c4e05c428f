"""Records in a run's folder: its settings, the places they come from, and its data's health."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ...config import DEFAULT, RunConfig
from ...config.layers import flat
from ...data.loading.quarantine import Quarantine
from ...engine.collectives import from_main, gather_all
from ...engine.run_folder import ORIGINS, RunFolder
from ...errors import UsageError
from ..registry import config_class

SETTLED = "chosen by the run"
"""The place of a value that was left to the run, as the precision ``auto``."""
_HEALTH = "data_health.json"

# Settings that may differ when a run is resumed: they change neither the data nor the weights.
_FREE = frozenset(
    """out device data.workers data.deadline data.max_bad train.log_every train.keep
    train.save_steps train.save_minutes train.checkpointing train.compile train.trackers
    train.tap_cache""".split()  # noqa: SIM905
)

_SETTLED_LATER = frozenset(("precision", "data.batch_size"))


def open_run(
    config: RunConfig,
    command: str,
    accelerator: Any,
    *,
    resume: bool,
    overwrite: bool,
    dry_run: bool = False,
) -> RunFolder:
    """Make or enter the run folder, the same one on all processes; a dry run has none."""
    config.out = from_main(accelerator, lambda: config.out)
    assert config.out is not None
    if dry_run:
        return RunFolder(Path(config.out), writes=False)
    writes = accelerator.is_main_process
    if resume and writes:
        check_same(RunFolder(Path(config.out)), config)
    run = from_main(
        accelerator, lambda: open_recorded(config, command, overwrite=overwrite, resume=resume)
    )
    run.writes = writes
    blind = [k for k, sees in enumerate(gather_all(accelerator, run.root.is_dir())) if not sees]
    if blind:
        raise UsageError(
            f"process {blind[0]} does not see {run.root}, which the first one made",
            "put --out on a disk that all nodes share",
        )
    return run


def check_same(run: RunFolder, config: RunConfig, *, settled: bool = True) -> None:
    """Refuse to resume a run with another configuration than it was started with.

    Args:
        run: the folder.
        config: of now.
        settled: False where values that the run chooses, ``auto``, are not chosen yet.
    """
    path = run.root / "config.yaml"
    if not path.is_file():
        return
    before = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(before, dict) or before.get("command") != config.command:
        raise UsageError(
            f"{path} is not the configuration of a {config.command} run",
            "name the folder of the run to resume",
        )
    before = _with_defaults(before, config)
    changed = [
        (key, was, now)
        for section, value in config.model_dump(mode="json").items()
        for key, was, now in _differences(section, before.get(section), value)
        if key not in _FREE and (settled or key not in _SETTLED_LATER or now != "auto")
    ]
    if changed:
        key, was, now = changed[0]
        raise UsageError(
            f"{run.root} was started with {key}={was}, now it is {now}",
            "resume with the same configuration, or start anew in another --out",
        )


def recorded_config(folder: str | Path) -> RunConfig:
    """The configuration in the folder of a run, or of a set of runs."""
    recorded = yaml.safe_load((Path(folder) / "config.yaml").read_text(encoding="utf-8"))
    return config_class(recorded.pop("command")).model_validate(recorded)


def _with_defaults(before: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """A recorded configuration with the defaults of settings that came after it was written."""
    values = {key: value for key, value in before.items() if key != "command"}
    try:
        whole = type(config).model_validate(values).model_dump(mode="json")
    except ValidationError:  # what has changed its meaning is told as a difference
        return before
    return {"command": config.command, **whole}


def _differences(section: str, was: Any, now: Any) -> list[tuple[str, Any, Any]]:
    """(key, before, now) of each setting of a section that is not what it was."""
    if isinstance(was, dict) and isinstance(now, dict):
        return [(f"{section}.{k}", was.get(k), v) for k, v in now.items() if was.get(k) != v]
    return [] if was == now else [(section, was, now)]


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
    """True where a folder exists and is not empty."""
    return Path(folder).is_dir() and any(Path(folder).iterdir())


@contextmanager
def replaced_folder(
    folder: str | Path, make: Callable[[], RunFolder], *, moves: bool = True
) -> Iterator[RunFolder]:
    """A new folder in the place of an earlier one, which is put back if anything goes wrong.

    Args:
        folder: where.
        make: makes and opens it, once the earlier one is out of the way.
        moves: True in the one process that moves and deletes.
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


class HealthFile:
    """The health of a run's data, kept up to date in its folder.

    Args:
        run: the folder.
        checks: outcomes of the checks before the run, as `Health.as_dict` gives them.
        quarantines: get the files that hang or crash a decoder while the run reads them.
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
        """Write the events of this process; only the main one's folder takes it."""
        self.run.write_json(_HEALTH, {**self.checks, "events": self.events + self._own()})

    def gather(self, accelerator: Any, substituted: Sequence[str] = ()) -> None:
        """Write the events of all processes, and the files that were replaced while training."""
        parts = gather_all(accelerator, self._own())
        events = self.events + [event for part in parts for event in part]
        whole = {**self.checks, "events": events, "substituted": list(substituted)}
        self.run.write_json(_HEALTH, whole)

    def _own(self) -> list[dict[str, Any]]:
        return [event for quarantine in self.quarantines for event in quarantine.events]


def read_health(folder: Path) -> dict[str, Any] | None:
    """data_health.json of a run's folder; None where there is none."""
    file = folder / _HEALTH
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
