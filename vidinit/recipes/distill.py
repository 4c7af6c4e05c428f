"""Distil image teachers into a video model on unlabelled videos (DistInit)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import DistillConfig
from ..data.sources import unlabelled_rows
from ..engine.fit import Job, fit, make_accelerator
from ..engine.on_device import OnDevice
from ..engine.together import from_main
from ..errors import UsageError
from ..report.progress import say
from ..tasks.distill import DistillTask, Teacher
from ..zoo.names import find_teacher
from .clips import checked, clip_batches, flips, named, quarantine_of, training_clips
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


def load_teacher(given: str) -> Teacher:
    """A teacher by short name, timm name, or ``NAME=FILE`` with local weights."""
    from ..zoo.image import class_names, clip_spec_of, load_image_model

    name, _, file = given.partition("=")
    source = load_image_model(
        find_teacher(name),
        weights=file or None,
        ways=(
            f"pass a local file with --teacher {name}=FILE",
            "--teacher imagenet-lite, which needs no hub",
        ),
    )
    if source.num_classes < 2:
        raise UsageError(f"teacher '{name}' has no classifier", "use one with class logits")
    spec = clip_spec_of(source.model, frames=1, stride=1, size=None)
    say(f"teacher {name}: {source.arch}, weights from {source.weights}")
    return Teacher(name, source.model, spec.mean, spec.std, class_names(source))


def check_teachers(teachers: list[str]) -> None:
    """Refuse two teachers of one name, and weight files that are not there."""
    names = [given.partition("=")[0] for given in teachers]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two teachers are called '{name}'", "name each once")
    for given in teachers:
        _, equals, file = given.partition("=")
        if equals and not Path(file).is_file():
            raise UsageError(f"no such weights file: {file}", "check the path in --teacher")


def execute(config: DistillConfig, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """See `vidinit.distill`."""
    data, train, settings = config.data, config.train, config.distill
    if data.train is None:
        raise UsageError("no videos", "pass --videos DIR (searched through) or a list of files")
    check_teachers(settings.teachers)
    if (done := finished_result(config.out, resume)) is not None:
        return done
    if data.mixup or data.cutmix:
        raise UsageError(
            "data.mixup and data.cutmix mix labels, and distillation has none",
            "leave them at 0",
        )
    found = unlabelled_rows(data.train, root=data.root)
    accelerator = make_accelerator(config, seed=train.seed)
    resumed = config.out if resume else None
    clips = from_main(accelerator, lambda: checked(found, data, named(data.train), resumed))
    teachers = [load_teacher(given) for given in settings.teachers]
    student = open_model(config.model, init_from=config.init_from)
    set_training(student, train)
    spec = set_spec(student, data)
    if settings.picks > spec.frames:
        raise UsageError(
            f"distill.picks={settings.picks} is more than the clip's {spec.frames} frames",
            "lower it, or raise data.frames",
        )
    run = open_run(config, "distill", accelerator, resume=resume, overwrite=overwrite)
    quarantine = quarantine_of(clips.rows, clips.known)
    health = HealthFile(run, [clips.health], [quarantine], resumed=resume)
    dataset = training_clips(
        clips.rows,
        spec,
        data,
        seed=train.seed,
        flip=flips(data.flip, clips.rows, "videos"),
        teacher_frames=settings.picks,
    )
    task = DistillTask(student, teachers, temperature=settings.temperature)
    task.move_teachers(accelerator.device)

    job = Job(
        title="distill",
        task=task,
        **clip_batches(dataset, config, accelerator, quarantine),
        on_device=OnDevice(spec.mean, spec.std),
        save_model=saver(
            student,
            run,
            {"step": "distill", "videos": data.train, "teachers": settings.teachers},
        ),
    )
    result = fit(job, train, run, accelerator, resume=resume)
    title = f"distill {config.model}"
    return finish(run, result, len(clips.rows), config, accelerator, health, title)
