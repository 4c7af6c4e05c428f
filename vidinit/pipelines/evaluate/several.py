"""Evaluations of several runs: what their set says of them, and what they are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...report.result_parts import METRICS
from ...scoring.predictions import load
from ...text.towers import is_image_tower
from ..expand import trained_on
from ..run_set import RunSet, runs_in
from .settings import EvaluateConfig

Result = dict[str, Any]


def figures_of(result: Result) -> dict[str, float]:
    """The metrics of an evaluation."""
    return {name: result[name] for name in METRICS if name in result}


def summary_of_runs(results: dict[str, Result]) -> Result:
    """Videos of all evaluations; those that are missing by the path."""
    every = list(results.values())
    kept = ("views", "clips", "crops", "average", "protocol", "iou", "given")
    first = {key: every[0][key] for key in kept if key in every[0]}
    added = ("expected", "decoded", "videos", "key_frames", "boxes", "unread")
    counts = {key: sum(one[key] for one in every) for key in added if key in every[0]}
    return {**first, **counts, "missing": [path for one in every for path in one["missing"]]}


def check_runs(config: EvaluateConfig, runs: RunSet) -> None:
    """Refuse splits that one model was trained on; give each run what it is compared with.

    Raises:
        UsageError: a model that has seen test clips, or a comparison with anything but the same
            runs.
    """
    tower = config.zero_shot and is_image_tower(config.model)  # a name of timm, not of ours
    if config.data.split == "all" and runs_in(config.model) is None and not tower:
        place = trained_on(config.model, config.data.val or config.data.train)
        if place is not None:
            raise UsageError(
                f"{config.model} was trained on one split of {place}, and the test clips of the "
                "others are among its training clips",
                "train with data.split=all, or score the split that it was trained on",
            )
    if config.against is None:
        return
    if config.out is not None and Path(config.against).resolve() == Path(config.out).resolve():
        raise UsageError(
            f"--against {config.against} is the folder that --out replaces", "name another --out"
        )
    others = {one["run"]: one["folder"] for one in runs_in(config.against) or []}
    for name, own in runs.configs.items():
        if name not in others:
            raise UsageError(
                f"{config.against} has no run '{name}' to compare with",
                "name the folder of an evaluation of the same runs, or compare them one by one",
            )
        load(others[name])  # an error now, not when all is scored
        assert isinstance(own, EvaluateConfig)
        own.against = others[name]
