"""Fine-tune a video model on labelled videos."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from torch import nn

from ..checkpoint import label_kind_of, load_pair
from ..config import FinetuneConfig
from ..data.rows import Rows
from ..data.sources import train_val
from ..engine.accelerators import make_accelerator
from ..engine.fit import fit
from ..engine.job import Job
from ..engine.metrics import WATCH
from ..engine.on_device import OnDevice
from ..engine.scoring import score
from ..engine.together import from_main
from ..errors import UsageError
from ..report.notes import with_messages
from ..tasks.classify import ClassifyTask
from ..tasks.probe import ProbeTask
from .batch_size import settle_batch
from .clips import (
    checked_split,
    clip_batches,
    flips,
    named,
    quarantine_of,
    reading,
    scoring,
    split_of,
    training_clips,
)
from .common import (
    finish,
    finished_result,
    frozen_tower,
    open_model,
    open_run,
    saver,
    set_spec,
    set_training,
)
from .dry_run import rehearse, stand_in
from .health import HealthFile
from .probing import compared, probe_saver, probe_task, score_probes
from .tap_cache import open_taps
from .text_head import set_text_head


def execute(
    config: FinetuneConfig, *, resume: bool, overwrite: bool, dry_run: bool = False
) -> dict[str, Any]:
    """See `vidinit.finetune`."""
    data, train = config.data, config.train
    if data.train is None and not dry_run:
        raise UsageError("no training data", "pass --data DIR (a folder per class, or a list)")
    if (done := finished_result(config.out, resume)) is not None:
        return done
    split = None if data.train is None else with_messages(lambda: _split(config))
    what = named(data.train)
    unused = frozen_tower(config.model) is not None
    accelerator = make_accelerator(config, seed=train.seed, find_unused=unused)
    resumed = config.out if resume else None
    clips = (
        stand_in(config)
        if split is None
        else from_main(accelerator, lambda: checked_split(*split, data, what, resumed))
    )
    rows, val = clips.train, clips.val
    if rows.kind == "pair" and (data.mixup or data.cutmix):
        raise UsageError(
            "data.mixup and data.cutmix do not mix two labels a clip", "leave them at 0"
        )
    classes = list(rows.classes or ())
    model = open_model(
        config.model, len(classes), classes, init_from=config.init_from, head=config.source
    )
    set_text_head(model, rows, config, accelerator, real=split is not None)
    set_training(model, train)
    noun_head = trained_nouns(config.model, rows)
    spec = set_spec(model, data)
    dataset = training_clips(rows, spec, data, seed=train.seed, flip=flips(data.flip, rows, what))
    task: ClassifyTask | ProbeTask
    if train.probes:
        task = probe_task(model, rows, train)
    else:
        task = ClassifyTask(
            model,
            kind=rows.kind,
            nouns=rows.nouns,
            noun_head=noun_head,
            label_smoothing=train.label_smoothing,
            frozen_trunk=train.freeze == "trunk",
            loss=train.loss,
        )
    on_device = OnDevice(
        spec.mean,
        spec.std,
        mixup=data.mixup,
        cutmix=data.cutmix,
        num_classes=len(classes),
        label_smoothing=train.label_smoothing,
        seed=train.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    quarantine = quarantine_of(rows, clips.check.known)
    val_quarantine = quarantine_of(val or rows.of(()), clips.check.known)
    settle_batch(config, accelerator, task, dataset, on_device, quarantine, resume=resume)
    taps = open_taps(on_device, model, dataset, config, accelerator, real=not dry_run)
    run = open_run(
        config, "finetune", accelerator, resume=resume, overwrite=overwrite, dry_run=dry_run
    )
    health = HealthFile(run, [clips.check.health], [quarantine, val_quarantine], resumed=resume)
    if data.train is not None and data.val is None and val is not None:
        run.write_json("split.json", split_of(data.train, val))

    def evaluate() -> dict[str, float]:
        assert val is not None
        options = {
            "clips": config.eval.clips,
            "crops": config.eval.crops,
            **scoring(data, accelerator, val_quarantine),
        }
        if isinstance(task, ProbeTask):
            return score_probes(task, val, spec, accelerator, **options)
        scores = score(
            task.classifier(), val, spec, accelerator, num_classes=len(classes), **options
        )
        return scores.metrics()

    step = {"step": "finetune", "data": data.train, "epochs": train.epochs}
    if isinstance(task, ProbeTask):
        save_model = probe_saver(task, run, step)
    else:
        save_model = saver(model, run, step, task.card)

    job = Job(
        title="finetune",
        task=task,
        **clip_batches(dataset, config, accelerator, quarantine),
        on_device=taps,
        save_model=save_model,
        evaluate=evaluate if val is not None else None,
        evaluate_every=config.eval.every,
        watch=WATCH[rows.kind],
    )
    if dry_run:
        return rehearse(job, config, run, accelerator, clips=None if split is None else len(rows))
    with closing(taps):
        result = fit(job, train, run, accelerator, resume=resume)
    title = f"finetune {config.model}"
    more = from_main(accelerator, lambda: compared(task, run))
    return finish(run, result, len(rows), config, accelerator, health, title, **more)


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
        **reading(data),
    )


def trained_nouns(ref: str, rows: Rows) -> nn.Linear | None:
    """The head that a model has for these nouns already, or None."""
    if rows.nouns is None or label_kind_of(ref) != "pair":
        return None
    pair = load_pair(ref)
    return pair.noun if pair.nouns == list(rows.nouns) else None
