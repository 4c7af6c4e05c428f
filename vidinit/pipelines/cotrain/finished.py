"""The sources of a finished co-training, by name: to go on with one, or to score all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ...errors import UsageError, suggest
from ..evaluate.settings import EvaluateConfig
from ..run import run as run_command
from .settings import CotrainConfig, SourceConfig

FOLDER = "sources"
"""Where `evaluate_sources` writes the evaluation of each source, below its own folder."""


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


def evaluate_sources(config: EvaluateConfig, *, processes: int, overwrite: bool) -> dict[str, Any]:
    """Score a co-trained model on all its sources, each with its own head, clips and views.

    Args:
        config: of the evaluation of any of them; names no data and no head.
        processes: of each evaluation.
        overwrite: replace what an earlier evaluation wrote.

    Returns:
        ``{sources: {name: as vidinit.evaluate}, mean_top1, out}``.

    Raises:
        UsageError: the model is no co-training, or data or a head is named.
    """
    from ...engine.run_folder import RunFolder, default_out
    from ...files import check_out
    from ..shared.run_records import replaced_folder

    if config.data.train or config.data.val or config.head:
        raise UsageError(
            "--all-sources scores each source on its own data, by its own head",
            "leave out --data, --val and --head",
        )
    sources = sources_of(config.model)
    out = Path(config.out or default_out("eval", config.model))
    check_out(out, overwrite=overwrite)
    results = {}
    with replaced_folder(out, lambda: RunFolder.open(out), moves=overwrite) as folder:
        for source in sources:
            own = config.model_copy(deep=True)
            own.out, own.head = str(out / FOLDER / source.name), source.name
            own.data.train, own.data.val = source.data, source.val
            own.data.root, own.data.class_names = source.root or own.data.root, source.class_names
            if source.kind == "image":
                own.eval.clips = 1
            results[source.name] = run_command("eval", own, processes=processes)
        mean = sum(result["top1"] for result in results.values()) / len(results)
        told = {"sources": results, "mean_top1": round(mean, 6), "out": str(out)}
        folder.write_json("result.json", told)
    return told


def data_of_source(model: str | Path | None, source: str) -> dict[str, Any]:
    """The data of a source of a co-trained model, by the keys that name it."""
    if model is None:
        raise UsageError("--source is one of a co-trained MODEL", "name its run folder")
    return data_settings(source_of(str(model), source))
