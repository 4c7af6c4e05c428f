"""How well models did, from the folders that `eval` and training have left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ...checkpoint import model_folder, name_of
from ...errors import DataError, UsageError
from ...zoo.names import ALIASES
from ..registry import COMMANDS

_METRICS = ("map", "top1")  # the first one that a result has is its score


@dataclass(frozen=True)
class RunScore:
    """The score of one model in one run.

    Attributes:
        name: zoo name of the model.
        folder: the model's; None where random weights were scored.
        score: a fraction, 0 to 1.
        metric: which: ``top1``, ``map``, or ``best``: that of the validation while training.
        interval: 95 % interval of the score, where the run has one.
        views: clips x crops of a video.
        file: result.json of the run.
    """

    name: str
    folder: Path | None
    score: float
    metric: str
    interval: tuple[float, float] | None
    views: int
    file: Path

    def as_dict(self) -> dict[str, Any]:
        """As a row of a profile has it."""
        return {
            "score": self.score,
            "metric": self.metric,
            "interval": None if self.interval is None else list(self.interval),
            "views": self.views,
            "result": str(self.file),
        }


def read_scores(root: Path) -> list[RunScore]:
    """The scores of all runs at and below a folder; what is no finished run of a model is passed.

    Zero-shot evaluations are passed, too, whose models have no name of their own; those of two
    streams, which are two models; and those whose number of views is not the same for all videos,
    which have no one cost. Of a set of runs each counts by itself.

    Raises:
        UsageError: there is no such folder.
        DataError: no run with a score in it.
    """
    if not root.is_dir():
        raise UsageError(f"--results {root} is no folder", "name one that holds runs")
    found = [s for file in sorted(root.rglob("result.json")) if (s := _read(file)) is not None]
    if not found:
        raise DataError(
            f"{root} holds no result of `vidinit eval` or of a finished training",
            "evaluate the models first",
        )
    return found


def _read(file: Path) -> RunScore | None:
    """The score of a run; None where it has none, or is no run, or its model is gone."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        config = yaml.safe_load((file.parent / "config.yaml").read_text(encoding="utf-8"))
        trains = COMMANDS[config["command"]].trains
        if "runs" in result or config.get("fuse"):
            return None
        if trains:
            return _trained(result, file)
        return _evaluated(result, config, file) if config["command"] == "eval" else None
    except (UsageError, OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


def _trained(result: dict[str, Any], file: Path) -> RunScore | None:
    if result["best"] is None:
        return None
    run = file.parent
    return RunScore(name_of(run), model_folder(run), float(result["best"]), "best", None, 1, file)


def _evaluated(result: dict[str, Any], config: dict[str, Any], file: Path) -> RunScore | None:
    metric = next((key for key in _METRICS if key in result), None)
    # Of whole videos each has as many views as it is long.
    if config.get("zero_shot") or metric is None or not isinstance(result["views"], int):
        return None
    ref, interval = _located(config["model"], file), result.get(f"{metric}_interval")
    return RunScore(
        name=name_of(ref),
        folder=model_folder(ref),
        score=float(result[metric]),
        metric=metric,
        interval=None if interval is None else (interval[0], interval[1]),
        views=result["views"],
        file=file,
    )


def _located(ref: str, file: Path) -> str:
    """A model as an evaluation recorded it; a relative path may be seen from above its folder."""
    if (Path(ref) / "model").is_dir() or Path(ref).is_absolute() or len(Path(ref).parts) == 1:
        return ref
    for above in file.parents:
        if (above / ref).is_dir():
            return str(above / ref)
    return ref


def score_of(model: str, scores: Sequence[RunScore]) -> RunScore | None:
    """The score of a model among those of runs, or None.

    An evaluation goes before the validation while training; of several, the highest is taken.

    Args:
        model: a folder, for that model's scores; or a zoo name, for those of all such models.
        scores: of runs.
    """
    folder = model_folder(model)
    if folder is None:
        name = ALIASES.get(model, model)
        mine = [s for s in scores if ALIASES.get(s.name, s.name) == name]
    else:
        here = folder.resolve()
        mine = [s for s in scores if s.folder is not None and s.folder.resolve() == here]
    return max(mine, key=lambda s: (s.metric != "best", s.score), default=None)
