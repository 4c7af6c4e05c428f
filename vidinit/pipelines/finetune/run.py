"""Fine-tune a video model on labeled videos."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

from torch import nn

from ...checkpoint import label_kind_of, load_pair
from ...config.probe_text import are_solved
from ...console import say, with_messages
from ...data.loading.quarantine import Quarantine
from ...data.rows import Rows
from ...data.sources import train_val
from ...engine.collectives import from_main
from ...engine.job import Job
from ...errors import UsageError
from ...report.scores import time_section
from ...scoring.metrics import CHOICE, WATCH, Scores
from ...scoring.score import score, score_each
from ...zoo.adapters.tower_model import hold_tower
from ..detect.train import execute as detect
from ..evaluate.time_test import has_order
from ..shared import health
from ..shared.clips import (
    clip_batches,
    data_name,
    flips,
    fold_numbers,
    quarantine_of,
    read_options,
    scoring_options,
    split_of,
    training_clips,
)
from ..shared.modality import set_spec
from ..shared.on_device import OnDevice
from ..shared.overlap import say_distilled, say_overlap
from ..shared.skewed_classes import class_lists, class_weights, keep_class_weights, say_skew
from ..shared.text_head import set_text_head
from ..shared.training import Training, finished_result, open_model, saver, set_training
from .choice import for_choice, record
from .feature_cache import Features, ViewClips, open_features, view_clips
from .final_test import open_test, score_test
from .probes import ProbeTask, probe_results, probe_saver, score_probes
from .settings import FinetuneConfig
from .solved import execute_solved
from .tap_cache import TapCache, open_taps
from .task import ClassifyTask
from .time_test import time_of_run
from .validation import Validation, with_scores


def execute(
    config: FinetuneConfig, *, resume: bool, overwrite: bool, dry_run: bool = False
) -> dict[str, Any]:
    """See `vidinit.finetune`; the course is that of `shared.training.Training`."""
    if config.task == "detect":
        return detect(config, resume=resume, overwrite=overwrite, dry_run=dry_run)
    data, train = config.data, config.train
    if data.train is None and not dry_run:
        raise UsageError("no training data", "pass --data DIR (a folder per class, or a list)")
    solved = are_solved(train.probes)
    if (done := finished_result(config, resume, steps=not solved)) is not None:
        return done
    found = None if data.train is None else with_messages(lambda: _labeled_rows(config))
    training = Training(config, resume=resume, overwrite=overwrite, dry_run=dry_run)
    accelerator = training.accelerator
    split = training.check_split(found)
    if solved:
        return execute_solved(config, training, split)
    rows, held, name = split.train, None, data_name(data.train)
    if train.probes and found is not None:
        rows, held = for_choice(rows, train, scored=bool(config.eval.every))
    overlap, of_overlap = from_main(  # it looks at each file
        accelerator, lambda: say_overlap(rows, split.val, name, named=data.val is not None)
    )
    test = None if found is None else open_test(config, rows, split.val, accelerator)
    clips_of_classes, of_skew = say_skew(
        rows, name, balance=data.balance, class_weights=train.class_weights
    )
    weights = class_weights(train.class_weights, rows, name, real=found is not None)
    if rows.kind == "pair" and (data.mixup or data.cutmix):
        raise UsageError(
            "data.mixup and data.cutmix do not mix two labels a clip", "leave them at 0"
        )
    task = _task(config, rows, accelerator, weights, real=found is not None)
    of_overlap += from_main(accelerator, lambda: say_distilled(task.model.lineage, split.val))
    spec, flip = task.model.spec, flips(data.flip, rows, name)
    clips = training_clips(rows, spec, data, seed=train.seed, flip=flip)
    on_device = OnDevice(
        spec.mean,
        spec.std,
        spec.channels == "bgr",
        mixup=data.mixup,
        cutmix=data.cutmix,
        num_classes=len(rows.classes or ()),
        label_smoothing=train.label_smoothing,
        seed=train.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    quarantine = quarantine_of(rows, split.check.known)
    scored = {"val": split.val, "held-out": held}
    scored_rows = {name: part for name, part in scored.items() if part is not None}
    quarantines = {
        name: quarantine_of(part or rows.of(()), split.check.known) for name, part in scored.items()
    }
    training.choose_batch_size(task, clips, on_device, quarantine)
    prepared: TapCache | Features
    if isinstance(task, ProbeTask) and train.feature_cache is not None and not dry_run:
        prepared = open_features(
            *(task, clips, on_device, config, accelerator),
            rows=split.train,
            scored=scored_rows,
            options=_views(config, accelerator),
        )
        clips = prepared.clips
    else:
        prepared = open_taps(on_device, task.model, clips, config, accelerator, real=not dry_run)
        if train.feature_views is not None:
            clips = view_clips(clips, train.feature_views)
    run = training.open_run([split.check.health], [quarantine, *quarantines.values()])
    names = class_lists(rows)
    keep_class_weights(run, dict(zip(names, weights or (), strict=False)), names)
    if data.train is not None and data.val is None and split.val is not None:
        run.write_json("split.json", split_of(data.train, split.val))
    if held is not None:
        run.write_json("held_out.json", record(held, train))
    step = {"step": "finetune", "data": data.train, "epochs": train.epochs}
    validation = None if split.val is None else Validation(run, split.val)
    job = Job(
        title="finetune",
        task=task,
        **clip_batches(
            clips,
            config,
            accelerator,
            quarantine,
            class_weights=None if task.binary else weights,
            reads=clips.reads if isinstance(clips, ViewClips) else lambda keys: True,
        ),
        on_device=prepared,
        save_model=(
            probe_saver(task, run, step)
            if isinstance(task, ProbeTask)
            else with_scores(saver(task.model, run, step, task.save_options), validation)
        ),
        evaluate=_evaluation(
            *(task, scored_rows, config, accelerator, quarantines, prepared, validation)
        ),
        evaluate_every=config.eval.every,
        watch=WATCH[rows.kind] if held is None else CHOICE,
        scored=None if split.val is None else len(split.val),
    )
    if dry_run:
        return training.rehearse(job, clips=None if found is None else len(rows))
    with closing(prepared):
        result = training.fit(job)
    probes = from_main(accelerator, lambda: probe_results(task, run, held))
    told: dict[str, Any] = {"overlap": overlap, "class_clips": clips_of_classes}
    told["notes"] = of_overlap + of_skew
    sections = []
    if isinstance(task, ProbeTask) and config.eval.time_test and split.val is not None:
        if has_order(task.model.spec):
            told["time"] = time_of_run(run, split.val, config, accelerator, quarantines["val"])
            sections.append(time_section(told["time"]))
        else:
            say("does it need time? not asked: clips of one frame have no order")
    facts = health.facts_of(
        *(rows, split.val, spec.seen),
        losses=len(task.entries) if isinstance(task, ProbeTask) else 1,
        binary=task.binary,
    )
    facts["time"] = told.get("time")
    if test is not None:
        facts["tested"] = True
        told["notes"] += test.notes
        told["test"] = score_test(test, run, config, accelerator)
    if validation is not None:
        sections += from_main(accelerator, lambda: validation.sections(data.reader))
    told |= {"sections": sections, "facts": facts, **probes}
    return training.finish(job, result, videos=len(rows), **told)


def _labeled_rows(config: FinetuneConfig) -> tuple[Rows, Rows]:
    """Training and validation rows as they stand in the data."""
    data = config.data
    assert data.train is not None
    return train_val(
        data.train,
        data.val,
        val_fraction=data.val_fraction,
        seed=config.train.seed,
        kinds="any",
        shots=data.shots,
        fold=None if config.fold is None else fold_numbers(config.fold),
        **read_options(data),
    )


def _task(
    config: FinetuneConfig,
    rows: Rows,
    accelerator: Any,
    weights: list[list[float]] | None,
    *,
    real: bool,
) -> ClassifyTask | ProbeTask:
    """The model with a head for the labels, and the parts of it that are trained.

    Args:
        config: of the run.
        rows: give the classes and their kind.
        accelerator: of the run.
        weights: of the classes in the loss.
        real: False for rows of random clips.
    """
    train, classes = config.train, list(rows.classes or ())
    model = open_model(
        config.model,
        len(classes),
        classes,
        options=config.options,
        init_from=config.init_from,
        head=config.source,
    )
    if config.whole:
        hold_tower(model)
    set_text_head(model, rows, config, accelerator, real=real)
    set_training(model, train)
    noun_head = _trained_nouns(config.model, rows)
    set_spec(model, config.data)
    if train.probes:
        compared = config.eval.time_test and real and has_order(model.spec)
        return ProbeTask.configured(model, rows, train, weights, compared=compared)
    return ClassifyTask(
        model,
        kind=rows.kind,
        nouns=rows.nouns,
        noun_head=noun_head,
        label_smoothing=train.label_smoothing,
        frozen_trunk=train.freeze == "trunk",
        loss=train.loss,
        class_weights=weights,
    )


def _trained_nouns(ref: str, rows: Rows) -> nn.Linear | None:
    """The head that a model has for these nouns already, or None."""
    if rows.nouns is None or label_kind_of(ref) != "pair":
        return None
    pair = load_pair(ref)
    return pair.noun if pair.nouns == list(rows.nouns) else None


def _views(config: FinetuneConfig, accelerator: Any) -> dict[str, Any]:
    """How videos are scored, as `scoring.score.score` takes it, but for what is in quarantine."""
    options = {
        "clips": config.eval.clips,
        "crops": config.eval.crops,
        "start": config.eval.start,
        "average": config.eval.average,
        **scoring_options(config.data, accelerator, Quarantine()),
    }
    del options["quarantine"]
    return options


def _evaluation(
    task: ClassifyTask | ProbeTask,
    rows: dict[str, Rows],
    config: FinetuneConfig,
    accelerator: Any,
    quarantines: dict[str, Quarantine],
    prepared: TapCache | Features,
    validation: Validation | None,
) -> Callable[[], dict[str, float]] | None:
    """Scores the task on the validation clips, ``val``, and probes on those that are ``held-out``.

    None where there are none. ``validation`` gets the scores of ``val``.
    """
    if not rows:
        return None
    options = _views(config, accelerator)

    def scores(name: str) -> dict[str, Scores]:
        assert isinstance(task, ProbeTask)
        part, quarantine = rows[name], quarantines[name]
        if isinstance(prepared, Features):
            return prepared.scores(name, part, quarantine)
        return score_each(
            *(task.classifier(), part, task.model.spec, accelerator),
            names=list(task.entries),
            num_classes=len(part.classes or ()),
            quarantine=quarantine,
            **options,
        )

    def evaluate() -> dict[str, float]:
        if isinstance(task, ProbeTask):
            return score_probes(task, {name: partial(scores, name) for name in rows})
        val = rows["val"]
        found = score(
            *(task.classifier(), val, task.model.spec, accelerator),
            num_classes=len(val.classes or ()),
            quarantine=quarantines["val"],
            **options,
        )
        if validation is not None:
            validation.seen(found)
        more = {"val_loss": found.loss(), "most_predicted": found.most_predicted()}
        if task.binary and val.kind == "single":
            del more["val_loss"]  # of another kind than the loss that is minimized
        return {**found.logged(), **more}

    return evaluate
