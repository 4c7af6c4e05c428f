"""Distill image teachers into a video model on unlabeled videos (DistInit)."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

from ...console import say, with_messages
from ...data.loading.teacher_frames import TeacherFrames
from ...data.sources import unlabeled_rows
from ...data.views import Picks
from ...engine.collectives import from_main
from ...engine.fit import to_device
from ...engine.job import Job
from ...errors import UsageError
from ...report.html import Section
from ...zoo.base import VideoModel
from ...zoo.spec import ClipSpec
from ..shared.clips import check_rows, clip_batches, data_name, flips, quarantine_of, training_clips
from ..shared.dry_run import random_videos
from ..shared.on_device import OnDevice
from ..shared.training import Training, finished_result, open_for_training, saver
from . import teacher_statistics
from .settings import DistillConfig, parse_teachers
from .task import DistillTask
from .teacher_cache import Caches
from .teachers import Teacher, load_source, make_teacher


def execute(
    config: DistillConfig, *, resume: bool, overwrite: bool, dry_run: bool = False
) -> dict[str, Any]:
    """See `vidinit.distill`; the course is that of `shared.training.Training`."""
    data, train = config.data, config.train
    _check(config, dry_run)
    if (done := finished_result(config, resume)) is not None:
        return done
    place = data.train
    found = None
    if place is not None:
        found = with_messages(lambda: unlabeled_rows(place, root=data.root))
    training = Training(config, resume=resume, overwrite=overwrite, dry_run=dry_run)
    accelerator = training.accelerator
    videos = (
        random_videos()
        if found is None
        else from_main(
            accelerator, lambda: check_rows(found, data, data_name(data.train), training.resumed)
        )
    )
    student, teachers = _networks(config, accelerator, pretrained=not dry_run)
    spec = student.spec
    quarantine = quarantine_of(videos.rows, videos.known)
    clips = training_clips(
        videos.rows,
        spec,
        data,
        seed=train.seed,
        flip=flips(data.flip, videos.rows, "videos"),
        teachers=_frames(config, spec, teachers),
    )
    task = DistillTask(student, teachers)
    task.move_teachers(accelerator.device)
    teacher_statistics.begin(teachers)
    on_device = OnDevice(spec.mean, spec.std, spec.channels == "bgr")
    training.choose_batch_size(task, clips, on_device, quarantine)
    run = training.open_run([videos.health], [quarantine])
    step = {"step": "distill", "videos": data.train, "teachers": config.distill.teachers}
    settings: dict[str, Any] = {
        "title": "distill",
        "task": task,
        "on_device": on_device,
        "save_model": saver(student, run, step),
    }
    if dry_run:
        job = Job(**settings, **clip_batches(clips, config, accelerator, quarantine))
        return training.rehearse(job, clips=None if found is None else len(videos.rows))
    with closing(Caches.open(teachers, videos.rows, config, spec.frames)) as caches:
        clips = replace(clips, teachers=_frames(config, spec, teachers, caches))
        batches = clip_batches(clips, config, accelerator, quarantine, caches.look_up)
        job = Job(**settings, **batches)
        # A killed run resumes to the same bits only if no checkpoint is ahead of the caches: the
        # last bits of a teacher's outputs depend on which images it is given together.
        accelerator.register_save_state_pre_hook(lambda *_: caches.flush())
        sections = _first_pass(job, teachers, config, training)
        result = training.fit(job)
    return training.finish(job, result, videos=len(videos.rows), sections=sections)


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
    teachers are listed does not matter.
    """
    section, device = config.distill, accelerator.device
    settings = parse_teachers(section)
    sources = [load_source(one, pretrained=pretrained) for one in settings]
    if not all(source.pretrained for source in sources):
        say("a dry run needs no teacher's weights: random weights where no file is given")
    student = open_for_training(config)
    teachers = [
        make_teacher(one, source, section, student.spec, device)
        for one, source in zip(settings, sources, strict=True)
    ]
    confident = section.keep is not None or section.max_entropy is not None
    if confident and all(teacher_statistics.of_features(teacher) for teacher in teachers):
        raise UsageError(
            "distill.keep and distill.max_entropy are for teachers with class logits",
            "leave them out, or add such a teacher",
        )
    where = (
        "beside the student, on a stream of their own (CUDA)"
        if device.type == "cuda"
        else "before the student, one after the other: there is no GPU"
    )
    say(f"the teachers work {where}")
    return student, sorted(
        teachers, key=lambda one: (teacher_statistics.of_features(one), one.name)
    )


def _frames(
    config: DistillConfig, spec: ClipSpec, teachers: list[Teacher], caches: Caches | None = None
) -> TeacherFrames:
    """The frames that a data set gives the teachers; a view that several share is there once."""
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
    job: Job, teachers: list[Teacher], config: DistillConfig, training: Training[DistillConfig]
) -> list[Section]:
    """Estimate thresholds and whitenings, or read them where the run began with them.

    Returns:
        The part of the report that shows them, if there is one.
    """
    needing = [teacher for teacher in teachers if teacher_statistics.needs_first_pass(teacher)]
    if not needing:
        return []
    task, accelerator = job.task, training.accelerator
    assert isinstance(task, DistillTask)

    def estimate() -> dict[str, Any]:
        ready = (
            job.on_device(to_device(batch, accelerator.device), 0, place)
            for place, batch in enumerate(b for group in job.steps(0, 0) for b in group)
        )
        return teacher_statistics.estimate(task, needing, ready, config.distill.estimate_on)

    found = from_main(accelerator, lambda: teacher_statistics.read(training.run) or estimate())
    teacher_statistics.apply(needing, found)
    teacher_statistics.write(training.run, found)
    section = teacher_statistics.section(needing, found)
    return [] if section is None else [section]
