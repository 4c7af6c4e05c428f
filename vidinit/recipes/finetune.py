"""Fine-tune a video model on labelled videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..checkpoint import label_kind_of, load_pair
from ..config import FinetuneConfig
from ..data.rows import Rows
from ..data.sources import train_val
from ..engine.fit import Job, fit, make_accelerator
from ..engine.metrics import WATCH
from ..engine.on_device import OnDevice
from ..engine.scoring import score
from ..engine.together import from_main
from ..errors import UsageError
from ..report.notes import with_messages
from ..tasks.classify import ClassifyTask
from .clips import (
    checked_split,
    clip_batches,
    flips,
    named,
    quarantine_of,
    reading,
    scoring,
    training_clips,
)
from .common import (
    finish,
    finished_result,
    open_model,
    open_run,
    saver,
    set_spec,
    set_training,
)
from .health import HealthFile


def execute(config: FinetuneConfig, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """See `vidinit.finetune`."""
    data, train = config.data, config.train
    if data.train is None:
        raise UsageError("no training data", "pass --data DIR (a folder per class, or a list)")
    place = data.train
    if (done := finished_result(config.out, resume)) is not None:
        return done
    split = with_messages(
        lambda: train_val(
            place,
            data.val,
            val_fraction=data.val_fraction,
            seed=train.seed,
            kinds="any",
            shots=data.shots,
            **reading(data),
        )
    )
    what = named(data.train)
    accelerator = make_accelerator(config, seed=train.seed)
    resumed = config.out if resume else None
    clips = from_main(accelerator, lambda: checked_split(*split, data, what, resumed))
    rows, val = clips.train, clips.val
    if rows.kind == "pair" and (data.mixup or data.cutmix):
        raise UsageError(
            "data.mixup and data.cutmix do not mix two labels a clip", "leave them at 0"
        )
    classes = list(rows.classes or ())
    model = open_model(config.model, len(classes), classes, init_from=config.init_from)
    set_training(model, train)
    noun_head = trained_nouns(config.model, rows)
    spec = set_spec(model, data)
    dataset = training_clips(rows, spec, data, seed=train.seed, flip=flips(data.flip, rows, what))
    task = ClassifyTask(
        model,
        kind=rows.kind,
        nouns=rows.nouns,
        noun_head=noun_head,
        label_smoothing=train.label_smoothing,
        frozen_trunk=train.freeze == "trunk",
        loss=train.loss,
    )
    run = open_run(config, "finetune", accelerator, resume=resume, overwrite=overwrite)
    quarantine = quarantine_of(rows, clips.check.known)
    val_quarantine = quarantine_of(val or rows.of(()), clips.check.known)
    health = HealthFile(run, [clips.check.health], [quarantine, val_quarantine], resumed=resume)
    if data.val is None and val is not None:
        run.write_json("split.json", split_of(place, val))

    def evaluate() -> dict[str, float]:
        assert val is not None
        return score(
            task.classifier(),
            val,
            spec,
            accelerator,
            num_classes=len(classes),
            clips=config.eval.clips,
            crops=config.eval.crops,
            **scoring(data, accelerator, val_quarantine),
        ).metrics()

    job = Job(
        title="finetune",
        task=task,
        **clip_batches(dataset, config, accelerator, quarantine),
        on_device=OnDevice(
            spec.mean,
            spec.std,
            mixup=data.mixup,
            cutmix=data.cutmix,
            num_classes=len(classes),
            label_smoothing=train.label_smoothing,
            seed=train.seed,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        ),
        save_model=saver(
            model,
            run,
            {"step": "finetune", "data": data.train, "epochs": train.epochs},
            **task.card(),
        ),
        evaluate=evaluate if val is not None else None,
        evaluate_every=config.eval.every,
        watch=WATCH[rows.kind],
    )
    result = fit(job, train, run, accelerator, resume=resume)
    title = f"finetune {config.model}"
    return finish(run, result, len(rows), config, accelerator, health, title)


def trained_nouns(ref: str, rows: Rows) -> nn.Linear | None:
    """The head that a model has for these nouns already, or None."""
    if rows.nouns is None or label_kind_of(ref) != "pair":
        return None
    pair = load_pair(ref)
    return pair.noun if pair.nouns == list(rows.nouns) else None


def split_of(data: str | list[str], held_out: Rows) -> dict[str, Any]:
    """split.json: which clips of ``data`` were validated on, by absolute path and segment."""
    places = [data] if isinstance(data, str) else data
    return {
        "data": [str(Path(place).resolve()) for place in places],
        "val": [[str(Path(row.path).resolve()), row.start, row.end] for row in held_out.rows],
    }
