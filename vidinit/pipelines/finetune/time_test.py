"""Does the data need time? Asked at the end of a probe run, of the probe in its model folder."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...checkpoint import load, with_mean_pool
from ...console import say
from ...data.loading.quarantine import Quarantine
from ...data.rows import Rows
from ...engine.run_folder import RunFolder
from ...scoring.metrics import Scores, labels_of
from ...scoring.score import ViewLogits, logits_of_videos
from ...scoring.time_test import MEAN_POOL, NAMES, SHUFFLED, lines_of, time_test
from ...zoo.probabilities import averaged
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
    model = load(run.model)
    mean_pool = with_mean_pool(model, run.model)
    beside = {} if mean_pool is None else {MEAN_POOL: mean_pool.to(accelerator.device)}
    if accelerator.is_main_process:
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
    average = config.eval.average
    ordered = _scores(val, results, None, average)
    plain = ordered if is_mean_pool(model) else None
    if beside:
        plain = _scores(val, results, MEAN_POOL, average)
    test = time_test(ordered, _scores(val, results, SHUFFLED, average), plain)
    if accelerator.is_main_process:
        for line in ("does it need time?", *lines_of(test)):
            say(line)
    return test


def _scores(
    val: Rows, results: list[tuple[int, ViewLogits | str]], name: str | None, average: Any
) -> Scores:
    """The scores of a pass, of the model as it is where there is no name."""
    classes = len(val.classes or ())
    values = np.full((len(val), classes), np.nan)
    missing = []
    for index, result in results:
        if isinstance(result, str) or not np.isfinite(result.logits).all():
            reason = result if isinstance(result, str) else NO_NUMBER
            missing.append((val.rows[index].path, reason))
            continue
        logits = result.logits if name is None else result.reordered[name]
        values[index] = averaged(logits[None], [classes], kind=val.kind, average=average)[0]
    return Scores(values, labels_of(val, classes), missing, val.kind)
