"""Fine-tune a video model on labeled videos."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from torch import nn

from ...checkpoint import label_kind_of, load_pair
from ...console import with_messages
from ...data.loading.quarantine import Quarantine
from ...data.rows import Rows
from ...data.sources import train_val
from ...engine.collectives import from_main
from ...engine.job import Job
from ...errors import UsageError
from ...scoring.metrics import WATCH
from ...scoring.score import score
from ..shared.clips import (
    clip_batches,
    data_name,
    flips,
    quarantine_of,
    read_options,
    scoring_options,
    split_of,
    training_clips,
)
from ..shared.modality import set_spec
from ..shared.on_device import OnDevice
from ..shared.overlap import say_overlap
from ..shared.skewed_classes import class_lists, class_weights, keep_class_weights, say_skew
from ..shared.text_head import set_text_head
from ..shared.training import Training, finished_result, open_model, saver, set_training
from .probes import ProbeTask, probe_results, probe_saver, score_probes
from .settings import FinetuneConfig
from .tap_cache import open_taps
from .task import ClassifyTask


def execute(
    config: FinetuneConfig, *, resume: bool, overwrite: bool, dry_run: bool = False
) -> dict[str, Any]:
    """See `vidinit.finetune`; the course is that of `shared.training.Training`."""
    data, train = config.data, config.train
    if data.train is None and not dry_run:
        raise UsageError("no training data", "pass --data DIR (a folder per class, or a list)")
    if (done := finished_result(config, resume)) is not None:
        return done
    found = None if data.train is None else with_messages(lambda: _labeled_rows(config))
    training = Training(config, resume=resume, overwrite=overwrite, dry_run=dry_run)
    accelerator = training.accelerator
    split = training.check_split(found)
    rows, name = split.train, data_name(data.train)
    overlap, of_overlap = from_main(  # it looks at each file
        accelerator, lambda: say_overlap(rows, split.val, name, named=data.val is not None)
    )
    clips_of_classes, of_skew = say_skew(
        rows, name, balance=data.balance, class_weights=train.class_weights
    )
    weights = class_weights(train.class_weights, rows, name, real=found is not None)
    if rows.kind == "pair" and (data.mixup or data.cutmix):
        raise UsageError(
            "data.mixup and data.cutmix do not mix two labels a clip", "leave them at 0"
        )
    task = _task(config, rows, accelerator, weights, real=found is not None)
    spec, flip = task.model.spec, flips(data.flip, rows, name)
    clips = training_clips(rows, spec, data, seed=train.seed, flip=flip)
    on_device = OnDevice(
        spec.mean,
        spec.std,
        mixup=data.mixup,
        cutmix=data.cutmix,
        num_classes=len(rows.classes or ()),
        label_smoothing=train.label_smoothing,
        seed=train.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    quarantine = quarantine_of(rows, split.check.known)
    val_quarantine = quarantine_of(split.val or rows.of(()), split.check.known)
    training.choose_batch_size(task, clips, on_device, quarantine)
    taps = open_taps(on_device, task.model, clips, config, accelerator, real=not dry_run)
    run = training.open_run([split.check.health], [quarantine, val_quarantine])
    names = class_lists(rows)
    keep_class_weights(run, dict(zip(names, weights or (), strict=False)), names)
    if data.train is not None and data.val is None and split.val is not None:
        run.write_json("split.json", split_of(data.train, split.val))
    step = {"step": "finetune", "data": data.train, "epochs": train.epochs}
    job = Job(
        title="finetune",
        task=task,
        **clip_batches(
            clips,
            config,
            accelerator,
            quarantine,
            class_weights=None if task.binary else weights,
        ),
        on_device=taps,
        save_model=(
            probe_saver(task, run, step)
            if isinstance(task, ProbeTask)
            else saver(task.model, run, step, task.save_options)
        ),
        evaluate=_evaluation(task, split.val, config, accelerator, val_quarantine),
        evaluate_every=config.eval.every,
        watch=WATCH[rows.kind],
    )
    if dry_run:
        return training.rehearse(job, clips=None if found is None else len(rows))
    with closing(taps):
        result = training.fit(job)
    probes = from_main(accelerator, lambda: probe_results(task, run))
    told: dict[str, Any] = {"overlap": overlap, "class_clips": clips_of_classes}
    told["notes"] = of_overlap + of_skew
    return training.finish(job, result, videos=len(rows), **told, **probes)


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
        config.model, len(classes), classes, init_from=config.init_from, head=config.source
    )
    set_text_head(model, rows, config, accelerator, real=real)
    set_training(model, train)
    noun_head = _trained_nouns(config.model, rows)
    set_spec(model, config.data)
    if train.probes:
        return ProbeTask.configured(model, rows, train, weights)
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


def _evaluation(
    task: ClassifyTask | ProbeTask,
    val: Rows | None,
    config: FinetuneConfig,
    accelerator: Any,
    quarantine: Quarantine,
) -> Callable[[], dict[str, float]] | None:
    """Scores the task on the validation clips; None where there are none."""
    if val is None:
        return None
    options = {
        "clips": config.eval.clips,
        "crops": config.eval.crops,
        "average": config.eval.average,
        **scoring_options(config.data, accelerator, quarantine),
    }

    def evaluate() -> dict[str, float]:
        spec, num_classes = task.model.spec, len(val.classes or ())
        if isinstance(task, ProbeTask):
            return score_probes(task, val, spec, accelerator, **options)
        classifier = task.classifier()
        return score(
            classifier, val, spec, accelerator, num_classes=num_classes, **options
        ).metrics()

    return evaluate
