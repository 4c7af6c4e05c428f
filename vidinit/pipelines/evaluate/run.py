"""Score a model on labeled videos."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from ...checkpoint import is_detector, label_kind_of, load_classifier, load_pair, model_folder
from ...console import say, with_messages
from ...data.rows import Rows, align
from ...data.sources import labeled_rows
from ...engine.accelerators import make_accelerator, warn_of_slow_precision
from ...engine.collectives import from_main
from ...engine.run_folder import RunFolder
from ...errors import UsageError
from ...scoring.comparison import check_comparable
from ...scoring.predictions import Predictions
from ...scoring.predictions import load as load_predictions
from ...scoring.score import ViewLogits, logits_of_videos
from ...scoring.time_test import MEAN_POOL, NAMES, SHUFFLED, time_test
from ...zoo.base import VideoModel
from ...zoo.build import create_model
from ...zoo.spec import ClipSpec
from ...zoo.view_outputs import NO_NUMBER
from ..detect.evaluate import execute as detect
from ..shared.clips import (
    check_all_rows,
    clip_key,
    data_name,
    held_out,
    quarantine_of,
    read_options,
    scoring_options,
)
from ..shared.modality import set_spec
from ..shared.run_records import HealthFile, holds_something, open_run, replaced_folder
from ..shared.spans import say_short
from .results import Evaluation, check_positive, comparison_of, summary, write_results
from .settings import EvaluateConfig, EvaluateSection
from .time_test import has_frozen_trunk, has_order, is_mean_pool, mean_pool_beside, say_cost
from .zero_shot import open_zero_shot, relabel


def execute(config: EvaluateConfig, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """See `vidinit.evaluate`."""
    if not config.zero_shot and is_detector(config.model):
        return detect(config, overwrite=overwrite)
    rows = with_messages(lambda: rows_to_score(config))
    if config.zero_shot:
        rows = relabel(rows, config)
    accelerator = make_accelerator(config, seed=config.seed)
    name = data_name(config.data.val or config.data.train)
    checked = from_main(accelerator, lambda: check_all_rows(rows, config.data, name))
    scorable = open_model(config, checked.rows, accelerator)
    warn_of_slow_precision(scorable.model, accelerator)
    spec = set_spec(scorable.model, config.data)
    _check_views(config, spec)
    say_short(scorable.rows, spec.seen, name)
    planned = _planned(config, scorable, spec)
    check_positive(config, planned)
    if config.against is not None:  # an error now, not when all is scored
        check_comparable(planned, load_predictions(config.against))
    config.out = from_main(accelerator, lambda: config.out)

    def opened() -> RunFolder:
        return open_run(config, "eval", accelerator, resume=False, overwrite=False)

    # An earlier evaluation is replaced when the new one is done. An absent folder is taken at once.
    late = overwrite and from_main(accelerator, lambda: holds_something(str(config.out)))
    early = None if late else opened()
    quarantine = quarantine_of(scorable.rows, checked.known)
    health = HealthFile(early, [checked.health], [quarantine]) if early else None
    scorable.classifier.to(accelerator.device)
    passes = _passes(config, scorable, spec)
    for model in passes.beside.values():
        model.to(accelerator.device)
    results = logits_of_videos(
        scorable.classifier,
        scorable.rows,
        spec,
        accelerator,
        tests=passes.tests,
        beside=passes.beside,
        seed=config.seed,
        dtype=config.eval.scores,
        clips=config.eval.clips,
        crops=config.eval.crops,
        start=config.eval.start,
        every=config.eval.step if config.eval.dense else None,
        **scoring_options(config.data, accelerator, quarantine),
    )
    evaluation = _evaluation(config, planned, results, passes)
    out = summary(evaluation, config)
    out["out"] = str(config.out)
    main = accelerator.is_main_process
    with (
        nullcontext(early) if early else replaced_folder(str(config.out), opened, moves=main) as run
    ):
        (health or HealthFile(run, [checked.health], [quarantine])).gather(accelerator)
        if main:
            write_results(run, config, evaluation, out)
        accelerator.wait_for_everyone()
    return out


def rows_to_score(config: EvaluateConfig) -> Rows:
    """``data.val``, else the validation part of ``data.train``, else what the run held out of it.

    Where there is none of these, all of ``data.train``.
    """
    data = config.data
    place = data.val or data.train
    if place is None:
        raise UsageError("no data to score", "pass --data DIR (a folder per class, or a list)")
    rows = labeled_rows(place, kinds="any", part="val", **read_options(data))
    keys = held_out(config.model, place) if data.val is None else None
    if keys is None:
        return rows
    return rows.of([row for row in rows.rows if clip_key(row) in keys])


@dataclass(frozen=True)
class Scorable:
    """A model, and rows with labels in the order of its classes.

    Attributes:
        classifier: from clips to logits, or to the logits of verb and noun.
        model: the video model in it, or itself.
        rows: what it is scored on.
        classes: names of the logits, of the verbs' where there are two.
    """

    classifier: nn.Module
    model: VideoModel
    rows: Rows
    classes: list[str]


def open_model(config: EvaluateConfig, rows: Rows, accelerator: Any) -> Scorable:
    """The model, and the rows with labels in the order of its classes.

    Raises:
        UsageError: the model gives another kind of label than the data has.
    """
    classes, where = list(rows.classes or ()), data_name(config.data.val or config.data.train)
    if config.zero_shot:
        classifier = open_zero_shot(config, classes, accelerator)
        return Scorable(classifier, classifier.model, rows, classes)
    if model_folder(config.model) is None:
        say(f"{config.model}: a zoo name, so its weights are random")
        model = create_model(config.model, num_classes=len(classes))
        if rows.kind != "single":
            raise UsageError(f"{where} has several labels a clip", "score a model trained on such")
        model.classes = classes
        return Scorable(model.eval(), model, rows, classes)
    if config.head is None and label_kind_of(config.model) == "pair":
        pair = load_pair(config.model)
        verbs = pair.model.classes or []
        rows = align(rows, verbs, where=where, nouns=pair.nouns)
        return Scorable(pair, pair.model, rows, verbs)
    model = load_classifier(config.model, head=config.head)
    if rows.kind != model.label_kind:
        raise UsageError(
            f"{where} has labels of kind '{rows.kind}', the model gives '{model.label_kind}'",
            "score it on data like that of its training",
        )
    if model.classes is None:
        if model.only_frozen and not model.num_classes:
            raise UsageError(
                f"{config.model} has no classifier",
                "train a probe on it: vidinit finetune MODEL --probe linear --data DIR",
            )
        if model.num_classes < len(classes):
            raise UsageError(
                f"the data has {len(classes)} classes, the model {model.num_classes} unnamed ones",
                "fine-tune the model on this data first",
            )
        return Scorable(model, model, rows, [str(i) for i in range(model.num_classes)])
    return Scorable(model, model, align(rows, model.classes, where=where), model.classes)


def _check_views(config: EvaluateConfig, spec: ClipSpec) -> None:
    if config.eval.dense and spec.sampling != "dense":
        raise UsageError(
            f"dense views are clips of neighboring frames, and {config.model} samples "
            f"'{spec.sampling}' frames",
            "take --clips, or data.sampling=dense",
        )
    if config.eval.start == "first" and (config.eval.dense or spec.sampling != "dense"):
        shown = "--views dense" if config.eval.dense else f"'{spec.sampling}' frames"
        say(f"note: eval.start=first has no effect on {shown}: it says where dense clips begin")
    if config.eval.tests and spec.flow is not None:
        raise UsageError(
            f"{config.model} sees optical flow, and the flow of a reversed video is not its flow "
            "reversed: --temporal-test would show clips of no video",
            "score its clips as they are; temporal tests are for models that see RGB",
        )


def _planned(config: EvaluateConfig, scorable: Scorable, spec: ClipSpec) -> Predictions:
    """The predictions for these rows, without any logits yet."""
    rows = replace(scorable.rows, classes=tuple(scorable.classes))
    width = len(scorable.classes) + len(rows.nouns or ())
    return Predictions(
        rows,
        logits=np.zeros((0, width), config.eval.scores),
        views=np.zeros(len(rows), dtype=np.int64),
        reasons={},
        undecoded=0,
        crops=config.eval.crops,
        layout=layout_of(config.eval, spec),
        average=config.eval.average,
        model=config.model,
        data=data_name(config.data.val or config.data.train),
        folder=os.getcwd(),
    )


def layout_of(views: EvaluateSection, spec: ClipSpec) -> str:
    """The views of a video in words, as `Predictions` has them."""
    if views.dense:
        return "dense"
    return "whole" if spec.sampling == "all" else f"{views.clips}x{views.crops}"


@dataclass(frozen=True)
class Passes:
    """Further passes over the clips, beside the model's on them as they are.

    Attributes:
        tests: temporal tests, by name.
        beside: further models.
        timed: True where shuffled frames are among the tests to see whether the data needs time.
        is_mean_pool: True where the model itself classifies by the mean of the features.
    """

    tests: list[str]
    beside: dict[str, nn.Module] = field(default_factory=dict)
    timed: bool = False
    is_mean_pool: bool = False


def _passes(config: EvaluateConfig, scorable: Scorable, spec: ClipSpec) -> Passes:
    """The passes that were asked for, and on a frozen trunk those of `time_test`."""
    asked: list[str] = list(config.eval.tests)
    trained = config.zero_shot or model_folder(config.model) is not None
    if not config.eval.time_test or not trained or not has_frozen_trunk(scorable.model):
        return Passes(asked)
    if spec.flow is not None:
        say("does it need time? not asked: shuffled optical flow is the flow of no video")
        return Passes(asked)
    if not has_order(spec):
        say("does it need time? not asked: clips of one frame have no order")
        return Passes(asked)
    mean_pool = mean_pool_beside(scorable.classifier, scorable.model, config.model)
    beside = {} if mean_pool is None else {MEAN_POOL: mean_pool}
    more = [NAMES["shuffled"]] if SHUFFLED not in asked else []
    say_cost([*more, *(NAMES[name] for name in beside)])
    return Passes(
        list(dict.fromkeys([*asked, SHUFFLED])),
        beside,
        timed=True,
        is_mean_pool=is_mean_pool(scorable.model),
    )


def _evaluation(
    config: EvaluateConfig,
    planned: Predictions,
    results: list[tuple[int, ViewLogits | str]],
    passes: Passes,
) -> Evaluation:
    """The evaluation with the logits of all videos put in the order of the rows.

    Args:
        config: of the evaluation.
        planned: the predictions, without logits.
        results: by row, its logits, or why it has none.
        passes: whose logits there are beside the model's.
    """
    views, undecoded = planned.views.copy(), 0
    logits, reasons = [planned.logits], {}
    tests = {name: [planned.logits] for name in (*passes.tests, *passes.beside)}
    for index, result in sorted(results, key=lambda item: item[0]):
        if isinstance(result, str):
            reasons[index] = result
            undecoded += 1
        elif not np.isfinite(result.logits).all():
            reasons[index] = NO_NUMBER
        else:
            views[index] = len(result.logits)
            logits.append(result.logits)
            for test, reordered in result.reordered.items():
                tests[test].append(reordered)
    predictions = replace(
        planned,
        logits=np.concatenate(logits),
        views=views,
        reasons=reasons,
        undecoded=undecoded,
    )
    scores = predictions.scores()
    others = {
        name: replace(predictions, logits=np.concatenate(parts)).scores()
        for name, parts in tests.items()
    }
    plain = scores if passes.is_mean_pool else others.get(MEAN_POOL)
    return Evaluation(
        predictions,
        scores,
        title=f"eval {config.model}",
        tests={test: others[test] for test in map(str, config.eval.tests)},
        time=time_test(scores, others[SHUFFLED], plain) if passes.timed else {},
        against=comparison_of(predictions, config),
    )
