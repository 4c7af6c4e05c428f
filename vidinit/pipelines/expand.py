"""One configuration that stands for several runs: of all splits, or of all models of a set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..checkpoint import model_folder, read_card
from ..config import RunConfig
from ..console import say
from ..data.boxes.tube_files import split_numbers as box_splits
from ..data.sources import split_numbers
from ..data.sources.splits import NUMBER
from ..errors import UsageError
from ..report.result_parts import METRICS
from .run_set import Result, RunSet, changed, runs_in
from .shared.arguments import as_list

Config = TypeVar("Config", bound=RunConfig)

SPLIT = "split"
"""Heading of a set of runs by `data.split`."""


def expand(
    config: RunConfig,
    *,
    figures: Callable[[Result], dict[str, float]],
    summary: Callable[[dict[str, Result]], Result],
) -> RunSet | None:
    """The runs that a configuration stands for; None for the one that it is.

    ``folds`` and ``seeds`` of finetune are a run of each fold, and of each seed.

    ``data.split=all`` is a run of each split; of a model that is such a set itself, each with the
    model of its own split. Any other set of runs in the place of a model is a run with each of its
    models.

    Args:
        config: of finetune or eval.
        figures, summary: see `RunSet`.

    Raises:
        UsageError: data without splits that repeat one another, or a set that does not fit.
    """
    if (repeated := _repeated(config, figures, summary)) is not None:
        return repeated
    models = runs_in(config.model)
    if config.data.split == "all":
        return _of_splits(config, models, figures, summary)
    if models is None:
        return None
    if models[0]["varies"] == SPLIT:
        raise UsageError(
            f"{config.model} holds a model of each split, and the test clips of one are among the "
            "training clips of another",
            f"add data.split=all, or name one of them, as {models[0]['folder']}",
        )
    configs = {one["run"]: changed(config, {"model": one["folder"]}) for one in models}
    return RunSet(models[0]["varies"], configs, [m["value"] for m in models], figures, summary)


def _repeated(
    config: RunConfig,
    figures: Callable[[Result], dict[str, float]],
    summary: Callable[[dict[str, Result]], Result],
) -> RunSet | None:
    """A run of each fold or each seed; None where there is only one.

    Seeds without validation data hold out other clips each time, which is said.
    """
    folds, seeds = getattr(config, "folds", None), getattr(config, "seeds", None)
    if folds is None and seeds is None:
        return None
    if folds is not None:
        numbers = list(range(1, folds + 1))
        each: list[dict[str, Any]]
        each = [{"folds": None, "fold": f"{number}/{folds}"} for number in numbers]
        name = "fold"
    else:
        first = config.train.seed  # type: ignore[attr-defined]
        numbers = list(range(first, first + seeds))
        each = [{"seeds": None, "train.seed": number} for number in numbers]
        name = "seed"
        if config.data.val is None:
            say("note: clips are held out by the seed, others in each run; --val names the same")
    configs = {
        f"{name}-{number}": changed(config, settings)
        for number, settings in zip(numbers, each, strict=True)
    }
    return RunSet(name, configs, numbers, figures, summary, repeats=True)


def _of_splits(
    config: RunConfig,
    models: list[dict[str, Any]] | None,
    figures: Callable[[Result], dict[str, float]],
    summary: Callable[[dict[str, Result]], Result],
) -> RunSet:
    numbers = _numbers(config)
    if models is not None and [one["value"] for one in models] != numbers:
        raise UsageError(
            f"{config.model} holds runs by {models[0]['varies']}: "
            f"{', '.join(str(one['run']) for one in models)}",
            f"data.split=all wants one model, or one for each of the splits {_listed(numbers)}",
        )
    folders = [config.model] * len(numbers) if models is None else [m["folder"] for m in models]
    configs = {
        f"{SPLIT}-{number}": at_split(changed(config, {"model": folder}), number)
        for number, folder in zip(numbers, folders, strict=True)
    }
    return RunSet(SPLIT, configs, numbers, figures, summary, repeats=True)


def at_split(config: Config, number: int) -> Config:
    """A configuration of one split: its number is set, in paths with ``{split}``, too."""

    def placed(places: str | list[str] | None) -> str | list[str] | None:
        if isinstance(places, list):
            return [place.replace(NUMBER, str(number)) for place in places]
        return None if places is None else places.replace(NUMBER, str(number))

    settings = {
        "data.split": number,
        "data.train": placed(config.data.train),
        "data.val": placed(config.data.val),
    }
    return changed(config, settings)


def of_one_split(config: Config) -> Config:
    """The same where a number is given: only paths with ``{split}`` change."""
    return config if config.data.split == "all" else at_split(config, config.data.split)


def _numbers(config: RunConfig) -> list[int]:
    """The splits of the data, which all places of it must have."""
    places = [*as_list(config.data.train), *as_list(config.data.val)]
    if not places:
        raise UsageError("data.split=all needs the data", "pass --data")
    found = {place: box_splits(place) or split_numbers(place) for place in places}
    first = found[places[0]]
    for place, numbers in found.items():
        if numbers != first:
            raise UsageError(
                f"{places[0]} has the splits {_listed(first)}, {place} has {_listed(numbers)}",
                "name data with the same splits",
            )
    return first


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def trained_figures(result: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of the weights that a training has kept, of the last evaluation or the best one."""
    folder = model_folder(result["out"])
    assert folder is not None, "a finished run has a model"
    step = read_card(folder).lineage[-1]
    return {key: float(value) for key, value in step.items() if _is_metric(key)}


def _is_metric(key: str) -> bool:
    """True for ``top1``, and for the ``top1_<source>`` of a co-training."""
    return key in METRICS or key.startswith("top1_")


def trained_summary(results: dict[str, Result]) -> Result:
    """Steps, videos and replaced clips of all trainings, and the mean of the best scores."""
    every = list(results.values())
    best = [one["best"] for one in every]
    known = None not in best
    return {
        "steps": sum(one["steps"] for one in every),
        "best": round(sum(best) / len(best), 6) if known else None,
        "videos": sum(one["videos"] for one in every),
        "skipped": sum(one["skipped"] for one in every),
    }


def trained_on(model: str, places: str | list[str] | None) -> str | None:
    """The place among some that a model was fine-tuned on, by its lineage; None for none."""
    folder = model_folder(model)
    if folder is None:
        return None
    asked = {Path(place).resolve(): place for place in as_list(places)}
    for step in read_card(folder).lineage:
        for place in as_list(step.get("data")):
            found = Path(place).resolve()
            if step["step"] == "finetune" and found in asked:
                return asked[found]
    return None
