"""Fine-tune a video model on labelled videos."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from torch import nn

from ...checkpoint import label_kind_of, load_pair
from ...console import with_messages
from ...data.loading.watchdog import Quarantine
from ...data.rows import Rows
from ...data.sources import train_val
from ...engine.accelerators import make_accelerator
from ...engine.collectives import from_main
from ...engine.fit import fit
from ...engine.job import Job
from ...errors import UsageError
from ...scoring.score import score
from ...scoring.scores import WATCH
from ...zoo.spec import ClipSpec
from ..shared.batch_size import choose_batch_size
from ..shared.classify import ClassifyTask
from ..shared.clips import (
    CheckedSplit,
    check_split,
    clip_batches,
    data_name,
    flips,
    quarantine_of,
    read_options,
    scoring_options,
    split_of,
    training_clips,
)
from ..shared.dry_run import rehearse, stand_in
from ..shared.on_device import OnDevice
from ..shared.run_records import HealthFile
from ..shared.text_head import set_text_head
from ..shared.training import (
    finish,
    finished_result,
    frozen_tower,
    open_model,
    open_run,
    saver,
    set_spec,
    set_training,
)
from .probe_task import ProbeTask, compared, probe_saver, probe_task, score_probes
from .settings import FinetuneConfig
from .tap_cache import open_taps


def execute(
    config: FinetuneConfig, *, resume: bool, overwrite: bool, dry_run: bool = False
) -> dict[str, Any]:
    """See `vidinit.finetune`."""
    data, train = config.data, config.train
    if data.train is None and not dry_run:
        raise UsageError("no training data", "pass --data DIR (a folder per class, or a list)")
    if (done := finished_result(config.out, resume)) is not None:
        return done
    given = None if data.train is None else with_messages(lambda: _split(config))
    unused = frozen_tower(config.model) is not None
    accelerator = make_accelerator(config, seed=train.seed, find_unused=unused)
    split = _readable(config, given, accelerator, resume=resume)
    rows = split.train
    task = _task(config, rows, accelerator, real=given is not None)
    spec, flip = task.model.spec, flips(data.flip, rows, data_name(data.train))
    dataset = training_clips(rows, spec, data, seed=train.seed, flip=flip)
    on_device = _on_device(config, spec, len(rows.classes or ()), accelerator)
    quarantine = quarantine_of(rows, split.check.known)
    val_quarantine = quarantine_of(split.val or rows.of(()), split.check.known)
    choose_batch_size(config, accelerator, task, dataset, on_device, quarantine, resume=resume)
    taps = open_taps(on_device, task.model, dataset, config, accelerator, real=not dry_run)
    run = open_run(
        config, "finetune", accelerator, resume=resume, overwrite=overwrite, dry_run=dry_run
    )
    health = HealthFile(run, [split.check.health], [quarantine, val_quarantine], resumed=resume)
    if data.train is not None and data.val is None and split.val is not None:
        run.write_json("split.json", split_of(data.train, split.val))
    step = {"step": "finetune", "data": data.train, "epochs": train.epochs}
    job = Job(
        title="finetune",
        task=task,
        **clip_batches(dataset, config, accelerator, quarantine),
        on_device=taps,
        save_model=(
            probe_saver(task, run, step)
            if isinstance(task, ProbeTask)
            else saver(task.model, run, step, task.card)
        ),
        evaluate=_judge(task, split.val, config, accelerator, val_quarantine),
        evaluate_every=config.eval.every,
        watch=WATCH[rows.kind],
    )
    if dry_run:
        return rehearse(job, config, run, accelerator, clips=None if given is None else len(rows))
    with closing(taps):
        result = fit(job, train, run, accelerator, resume=resume)
    title = f"finetune {config.model}"
    more = from_main(accelerator, lambda: compared(task, run))
    return finish(run, result, len(rows), config, accelerator, health, title, task.model, **more)


def _readable(
    config: FinetuneConfig,
    given: tuple[Rows, Rows] | None,
    accelerator: Any,
    *,
    resume: bool,
) -> CheckedSplit:
    """What can be read of the data; random clips where none is given."""
    data = config.data
    if given is None:
        return stand_in(config)
    resumed = config.out if resume else None
    split = from_main(
        accelerator, lambda: check_split(*given, data, data_name(data.train), resumed)
    )
    if split.train.kind == "pair" and (data.mixup or data.cutmix):
        raise UsageError(
            "data.mixup and data.cutmix do not mix two labels a clip", "leave them at 0"
        )
    return split


def _task(
    config: FinetuneConfig, rows: Rows, accelerator: Any, *, real: bool
) -> ClassifyTask | ProbeTask:
    """The model with a head for the labels, and what is trained of it.

    Args:
        config: of the run.
        rows: give the classes and their kind.
        accelerator: of the run.
        real: whether the rows are those of real data.
    """
    train, classes = config.train, list(rows.classes or ())
    model = open_model(
        config.model, len(classes), classes, init_from=config.init_from, head=config.source
    )
    set_text_head(model, rows, config, accelerator, real=real)
    set_training(model, train)
    noun_head = trained_nouns(config.model, rows)
    set_spec(model, config.data)
    if train.probes:
        return probe_task(model, rows, train)
    return ClassifyTask(
        model,
        kind=rows.kind,
        nouns=rows.nouns,
        noun_head=noun_head,
        label_smoothing=train.label_smoothing,
        frozen_trunk=train.freeze == "trunk",
        loss=train.loss,
    )


def _on_device(
    config: FinetuneConfig, spec: ClipSpec, num_classes: int, accelerator: Any
) -> OnDevice:
    """What happens to a batch once it is there."""
    return OnDevice(
        spec.mean,
        spec.std,
        mixup=config.data.mixup,
        cutmix=config.data.cutmix,
        num_classes=num_classes,
        label_smoothing=config.train.label_smoothing,
        seed=config.train.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )


def _judge(
    task: ClassifyTask | ProbeTask,
    val: Rows | None,
    config: FinetuneConfig,
    accelerator: Any,
    quarantine: Quarantine,
) -> Callable[[], dict[str, float]] | None:
    """What scores the task on the validation clips; None where there are none."""
    if val is None:
        return None
    options = {
        "clips": config.eval.clips,
        "crops": config.eval.crops,
        "average": config.eval.average,
        **scoring_options(config.data, accelerator, quarantine),
    }

    def judge() -> dict[str, float]:
        spec, num_classes = task.model.spec, len(val.classes or ())
        if isinstance(task, ProbeTask):
            return score_probes(task, val, spec, accelerator, **options)
        classifier = task.classifier()
        return score(
            classifier, val, spec, accelerator, num_classes=num_classes, **options
        ).metrics()

    return judge


def _split(config: FinetuneConfig) -> tuple[Rows, Rows]:
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


def trained_nouns(ref: str, rows: Rows) -> nn.Linear | None:
    """The head that a model has for these nouns already, or None."""
    if rows.nouns is None or label_kind_of(ref) != "pair":
        return None
    pair = load_pair(ref)
    return pair.noun if pair.nouns == list(rows.nouns) else None
