"""The sources of a finished co-training, by name: to go on with one, or to score them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ...errors import UsageError, suggest
from .settings import CotrainConfig, SourceConfig


def sources_of(run: str) -> list[SourceConfig]:
    """The sources of a co-training, the primary one first.

    Args:
        run: its folder.

    Raises:
        UsageError: it is no folder of a co-training.
    """
    file = Path(run) / "config.yaml"
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{run} is no run folder", "name the folder of a co-training") from error
    if not isinstance(config, dict) or config.pop("command", None) != "cotrain":
        raise UsageError(f"{run} is no co-training", "only these have sources")
    made = CotrainConfig(**config)
    for source in made.sources:
        source.root = source.root or made.data.root
    return made.sources


def source_of(run: str, name: str) -> SourceConfig:
    """One of the sources of a co-training.

    Raises:
        UsageError: it has no source of this name.
    """
    sources = {source.name: source for source in sources_of(run)}
    if name not in sources:
        hint = suggest(name, sources) or f"it has {', '.join(sources)}"
        raise UsageError(f"{run} has no source '{name}'", hint)
    return sources[name]


def data_settings(source: SourceConfig) -> dict[str, Any]:
    """Where a source's data is, as settings of a run on it alone."""
    return {
        "data.train": source.data,
        "data.val": source.val,
        "data.root": source.root,
        "data.class_names": source.class_names,
    }


def data_of_source(model: str | Path | None, source: str) -> dict[str, Any]:
    """The data of a source of a co-trained model, by the keys that name it."""
    if model is None:
        raise UsageError("--source is one of a co-trained MODEL", "name its run folder")
    return data_settings(source_of(str(model), source))
