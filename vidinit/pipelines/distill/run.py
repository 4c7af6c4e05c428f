"""Distil image teachers into a video model on unlabelled videos (DistInit)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

from ...console import say
from ...data.loading.datasets import ClipDataset
from ...data.loading.teacher_frames import TeacherFrames
from ...data.sources import unlabelled_rows
from ...data.views import Picks
from ...engine.accelerators import make_accelerator
from ...engine.collectives import from_main
from ...engine.fit import fit, to_device
from ...engine.job import Job
from ...engine.run_folder import RunFolder
from ...errors import UsageError
from ...report.html import Section
from ...zoo.base import VideoModel
from ...zoo.spec import ClipSpec
from ..shared.batch_size import choose_batch_size
from ..shared.clips import check_rows, clip_batches, data_name, flips, quarantine_of, training_clips
from ..shared.dry_run import rehearse, stand_in_videos
from ..shared.on_device import OnDevice
from ..shared.run_records import HealthFile
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
from . import teacher_statistics
from .settings import DistillConfig
from .task import DistillTask
from .teacher import Teacher
from .teacher_cache import Caches
from .teachers import load_source, make_teacher, parse_teachers


def execute(
    config: DistillConfig, *, resume: bool, overwrite: bool, dry_run: bool = False
) -> dict[str, Any]:
    """See `vidinit.distill`."""
    data, train = config.data, config.train
    _check(config, dry_run)
    if (done := finished_result(config.out, resume)) is not None:
        return done
    found = None if data.train is None else unlabelled_rows(data.train, root=data.root)
    unused = frozen_tower(config.model) is not None
    accelerator = make_accelerator(config, seed=train.seed, find_unused=unused)
    resumed = config.out if resume else None
    clips = (
        stand_in_videos()
        if found is None
        else from_main(accelerator, lambda: check_rows(found, data, data_name(data.train), resumed))
    )
    student, teachers = _networks(config, accelerator, pretrained=not dry_run)
    spec = student.spec
    quarantine = quarantine_of(clips.rows, clips.known)
    dataset = training_clips(
        clips.rows,
        spec,
        data,
        seed=train.seed,
        flip=flips(data.flip, clips.rows, "videos"),
        teachers=_frames(config, spec, teachers),
    )
    task = DistillTask(student, teachers)
    task.move_teachers(accelerator.device)
    teacher_statistics.begin(teachers)
    on_device = OnDevice(spec.mean, spec.std)
    choose_batch_size(config, accelerator, task, dataset, on_device, quarantine, resume=resume)
    run = open_run(
        config, "distill", accelerator, resume=resume, overwrite=overwrite, dry_run=dry_run
    )
    health = HealthFile(run, [clips.health], [quarantine], resumed=resume)
    step = {"step": "distill", "videos": data.train, "teachers": config.distill.teachers}

    def job(dataset: ClipDataset, prepared: Callable[[Iterable[Any]], Iterable[Any]]) -> Job:
        return Job(
            title="distill",
            task=task,
            on_device=on_device,
            save_model=saver(student, run, step),
            **clip_batches(dataset, config, accelerator, quarantine, prepared),
        )

    if dry_run:
        count = None if found is None else len(clips.rows)
        return rehearse(job(dataset, iter), config, run, accelerator, clips=count)
    with closing(Caches.open(teachers, clips.rows, config, spec.frames)) as caches:
        dataset = replace(dataset, teachers=_frames(config, spec, teachers, caches))
        whole = job(dataset, caches.looked_up)
        accelerator.register_save_state_pre_hook(lambda *_: caches.flush())
        pictures = _first_pass(whole, teachers, config, run, accelerator)
        result = fit(whole, train, run, accelerator, resume=resume)
    title = f"distill {config.model}"
    return finish(
        run, result, len(clips.rows), config, accelerator, health, title, student, pictures
    )


def _check(config: DistillConfig, dry_run: bool) -> None:
    if config.data.train is None and not dry_run:
        raise UsageError("no videos", "pass --videos DIR (searched through) or a list of files")
    parse_teachers(config.distill)
    if config.data.mixup or config.data.cutmix:
        raise UsageError(
            "data.mixup and data.cutmix mix labels, and distillation has none",
            "leave them at 0",
        )


def _networks(
    config: DistillConfig, accelerator: Any, *, pretrained: bool
) -> tuple[VideoModel, list[Teacher]]:
    """The student, and the teachers, those with class logits first: one of these has its head.

    Their order is by name and random weights are drawn in that order, so the order in which
    teachers were given does not matter.
    """
    section, device = config.distill, accelerator.device
    settings = parse_teachers(section)
    sources = [load_source(one, pretrained=pretrained) for one in settings]
    if not all(source.pretrained for source in sources):
        say("a dry run needs no teacher's weights: random weights where no file is given")
    student = open_model(config.model, init_from=config.init_from)
    set_training(student, config.train)
    spec = set_spec(student, config.data)
    teachers = [
        make_teacher(one, source, section, spec, device)
        for one, source in zip(settings, sources, strict=True)
    ]
    confident = section.keep is not None or section.max_entropy is not None
    if confident and all(teacher_statistics.of_features(teacher) for teacher in teachers):
        raise UsageError(
            "distill.keep and distill.max_entropy are for teachers with class logits",
            "leave them out, or add such a teacher",
        )
    beside = (
        "beside the student, on a stream of their own (CUDA)"
        if device.type == "cuda"
        else "before the student, one after the other: there is no GPU"
    )
    say(f"the teachers work {beside}")
    return student, sorted(
        teachers, key=lambda one: (teacher_statistics.of_features(one), one.name)
    )


def _frames(
    config: DistillConfig, spec: ClipSpec, teachers: list[Teacher], caches: Caches | None = None
) -> TeacherFrames:
    """What the data set has to hold for the teachers; a view that several share is there once."""
    picks = Picks.parse(config.distill.picks)
    if picks.kind in ("random", "uniform") and picks.count > spec.frames:
        raise UsageError(
            f"distill.picks={config.distill.picks} is more than the clip's {spec.frames} frames",
            "lower it, or raise data.frames",
        )
    views = dict.fromkeys(teacher.view for teacher in teachers if teacher.view is not None)
    # Teachers see RGB, whatever the student sees.
    crops = spec.flow is not None and any(teacher.view is None for teacher in teachers)
    return TeacherFrames(picks, tuple(views), () if caches is None else caches.known(), crops)


def _first_pass(
    job: Job, teachers: list[Teacher], config: DistillConfig, run: RunFolder, accelerator: Any
) -> list[Section]:
    """Estimate what objectives need, or read it where the run began with it; and its picture."""
    needing = [teacher for teacher in teachers if teacher_statistics.needs_first_pass(teacher)]
    if not needing:
        return []
    task = job.task
    assert isinstance(task, DistillTask)

    def look() -> dict[str, Any]:
        ready = (
            job.on_device(to_device(batch, accelerator.device), 0, place)
            for place, batch in enumerate(b for group in job.steps(0, 0) for b in group)
        )
        return teacher_statistics.look(task, needing, ready, config.distill.estimate_on)

    found = from_main(accelerator, lambda: teacher_statistics.read(run) or look())
    teacher_statistics.apply(needing, found)
    teacher_statistics.write(run, found)
    picture = teacher_statistics.section(needing, found)
    return [] if picture is None else [picture]
