"""Fine-tune a video model on labelled videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import FinetuneConfig
from ..data.sources import Rows, train_val
from ..engine.fit import Job, fit, make_accelerator
from ..engine.scoring import score
from ..errors import UsageError
from ..tasks.classify import ClassifyTask
from .common import (
    checked_split,
    epochs_of,
    finish,
    finished_result,
    from_main,
    open_model,
    open_run,
    saver,
    set_spec,
    set_training,
    training_clips,
    with_messages,
    workers_of,
)


def execute(config: FinetuneConfig, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """See `vidinit.finetune`."""
    data, train = config.data, config.train
    if data.train is None:
        raise UsageError("no training data", "pass --data DIR (a folder per class, or a list)")
    if (done := finished_result(config.out, resume)) is not None:
        return done
    split = with_messages(
        lambda: train_val(
            str(data.train), data.val, val_fraction=data.val_fraction, seed=train.seed, kinds="any"
        )
    )
    accelerator = make_accelerator(config, seed=train.seed)
    clips = from_main(accelerator, lambda: checked_split(*split, data.max_bad, str(data.train)))
    rows, val = clips.train, clips.val
    classes = list(rows.classes or ())
    model = open_model(config.model, len(classes), classes)
    set_training(model, train)
    spec = set_spec(model, data)
    run = open_run(config, "finetune", accelerator, resume=resume, overwrite=overwrite)
    run.write_json("data_health.json", clips.health.as_dict())
    if data.val is None and val is not None:
        run.write_json("split.json", split_of(data.train, val))
    dataset = training_clips(rows, spec, data, seed=train.seed, flip=data.flip)
    task = ClassifyTask(
        model, label_smoothing=train.label_smoothing, frozen_trunk=train.freeze == "trunk"
    )

    def evaluate() -> dict[str, float]:
        assert val is not None
        return score(
            model,
            val,
            spec,
            accelerator,
            num_classes=len(classes),
            clips=config.eval.clips,
            crops=config.eval.crops,
            batch_size=data.batch_size,
            workers=workers_of(data, accelerator.num_processes),
        ).metrics()

    batches = epochs_of(dataset, data, train.seed, accelerator)
    job = Job(
        title="finetune",
        task=task,
        batches=batches,
        steps_per_epoch=len(batches(0, 0)),
        save_model=saver(
            model, run, {"step": "finetune", "data": data.train, "epochs": train.epochs}
        ),
        evaluate=evaluate if val is not None else None,
        evaluate_every=config.eval.every,
    )
    result = fit(job, train, run, accelerator, resume=resume)
    title = f"finetune {config.model}"
    return finish(run, result.progress, len(rows), config, accelerator, title)


def split_of(data: str, held_out: Rows) -> dict[str, Any]:
    """split.json: which videos of ``data`` were validated on, by absolute path."""
    return {
        "data": str(Path(data).resolve()),
        "val": [[str(row.path.resolve()), row.label] for row in held_out.rows],
    }
