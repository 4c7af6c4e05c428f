"""Does the data need time? Asked at the end of a probe run, of the probe in its model folder."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...checkpoint import load_classifier, with_mean_pool
from ...console import say
from ...data.loading.quarantine import Quarantine
from ...data.rows import Rows
from ...engine.run_folder import RunFolder
from ...scoring.metrics import Scores
from ...scoring.score import ViewLogits, logits_of_videos, split_scores
from ...scoring.time_test import MEAN_POOL, NAMES, SHUFFLED, lines_of, time_test
from ...zoo.probabilities import Average, averaged
from ...zoo.view_outputs import NO_NUMBER
from ..evaluate.time_test import is_mean_pool, say_cost
from ..shared.clips import scoring_options
from .settings import FinetuneConfig


def time_of_run(
    run: RunFolder,
    val: Rows,
    config: FinetuneConfig,
    accelerator: Any,
    quarantine: Quarantine,
) -> dict[str, Any]:
    """Score the model folder of a probe run with frames in order, shuffled, and by mean features.

    All processes of a run call it together.

    Args:
        run: whose model folder holds the probe.
        val: the validation clips.
        config: of the run.
        accelerator: of the run.
        quarantine: files that are not to be tried.

    Returns:
        As `scoring.time_test.time_test`.
    """
    model = load_classifier(run.model)
    mean_pool = with_mean_pool(model, run.model)
    beside = {} if mean_pool is None else {MEAN_POOL: mean_pool.to(accelerator.device)}
    say_cost([NAMES["ordered"], NAMES["shuffled"], *(NAMES[name] for name in beside)])
    results = logits_of_videos(
        model.to(accelerator.device),
        val,
        model.spec,
        accelerator,
        tests=[SHUFFLED],
        beside=beside,
        seed=config.train.seed,
        clips=config.eval.clips,
        crops=config.eval.crops,
        start=config.eval.start,
        **scoring_options(config.data, accelerator, quarantine),
    )
    scores = _scores(val, results, [SHUFFLED, *beside], config.eval.average)
    ordered = scores["ordered"]
    plain = scores.get(MEAN_POOL, ordered if is_mean_pool(model) else None)
    test = time_test(ordered, scores[SHUFFLED], plain)
    for line in ("does it need time?", *lines_of(test)):
        say(line)
    return test


def _scores(
    val: Rows, results: list[tuple[int, ViewLogits | str]], others: list[str], average: Average
) -> dict[str, Scores]:
    """The scores of the model as it is, ``ordered``, and of the other passes by name."""
    classes, passes = len(val.classes or ()), 1 + len(others)

    def probabilities(result: ViewLogits | str) -> np.ndarray | str:
        if isinstance(result, str):
            return result
        if not np.isfinite(result.logits).all():
            return NO_NUMBER
        each = [result.logits, *(result.reordered[name] for name in others)]
        logits = np.concatenate(each, axis=1)
        return averaged(logits, [classes] * passes, kind=val.kind, average=average)

    found = [(index, probabilities(result)) for index, result in results]
    return split_scores(val, found, names=["ordered", *others], num_classes=classes)
