"""Distill image teachers into a video model on unlabeled videos."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

from ...console import say, with_messages
from ...data.loading.teacher_frames import TeacherFrames
from ...data.rows import Rows
from ...data.sources import unlabeled_rows
from ...data.views import SPLIT, Picks, rng
from ...engine import sharding
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
from . import costs, teacher_statistics
from .evidence import Evidence
from .objective_text import Hide
from .objectives.counted import Counted
from .objectives.grids import frames_seen
from .objectives.making import check_student, make_objectives, patches_wanted
from .objectives.masked import MaskedObjective
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
        found = with_messages(lambda: unlabeled_rows(place, root=data.root, part="train"))
    section = config.distill
    training = Training(
        config,
        resume=resume,
        overwrite=overwrite,
        dry_run=dry_run,
        # Of a student that learns no outputs the head has no gradient.
        find_unused=section.targets.keys() != {"logits"},
    )
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
    rows, held_out = _held_out(videos.rows, section.hold_out, train.seed)
    quarantine = quarantine_of(rows, videos.known)
    clips = training_clips(
        rows,
        spec,
        data,
        seed=train.seed,
        flip=flips(data.flip, rows, "videos"),
        teachers=_frames(config, spec, teachers),
    )
    task = _task(config, student, teachers, training)
    task.move_teachers(accelerator.device)
    teacher_statistics.begin(task, teachers)
    on_device = _counted(config, spec, task)
    training.choose_batch_size(task, clips, on_device, quarantine)
    run = training.open_run([videos.health], [quarantine])
    step = {"step": "distill", "videos": data.train, "teachers": section.teachers}
    if section.targets.keys() != {"logits"}:
        step["target"] = ",".join(f"{name}:{weight:g}" for name, weight in section.targets.items())
    settings: dict[str, Any] = {
        "title": "distill",
        "task": task,
        "on_device": on_device,
        "save_model": saver(student, run, step),
    }
    if dry_run:
        job = Job(**settings, **clip_batches(clips, config, accelerator, quarantine))
        count = None if found is None else len(rows)
        kinds = costs.kinds(job, task)
        rehearsed = training.rehearse(job, clips=count, kinds=kinds)
        return costs.told(rehearsed, job, kinds, train, accelerator)
    with closing(Caches.open(task, teachers, rows, config, spec.frames)) as caches:
        clips = replace(clips, teachers=_frames(config, spec, teachers, caches))
        batches = clip_batches(clips, config, accelerator, quarantine, caches.look_up)
        job = Job(**settings, **batches)
        # A killed run resumes to the same bits only if no checkpoint is ahead of the caches: the
        # last bits of a teacher's outputs depend on which images it is given together.
        accelerator.register_save_state_pre_hook(lambda *_: caches.flush())
        sections = _first_pass(job, teachers, config, training)
        evidence = Evidence(task, on_device, held_out, clips, caches, training)
        evidence.note_start()
        result = training.fit(job)
        learned = evidence.at_the_end()
    return training.finish(
        job,
        result,
        videos=len(rows),
        sections=[*evidence.sections(), *sections],
        **({} if learned is None else {"learned": learned}),
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


def _held_out(rows: Rows, count: int, seed: int) -> tuple[Rows, Rows]:
    """The videos that are trained on, and those that are kept for the report.

    Raises:
        UsageError: none is left to train on.
    """
    if not count:
        return rows, rows.of([])
    if count >= len(rows.rows):
        raise UsageError(
            f"distill.hold_out={count} leaves none of {len(rows.rows)} videos to train on",
            "hold out fewer",
        )
    # By file: parts of one video are not new to who has seen the others.
    paths = list(dict.fromkeys(row.path for row in rows.rows))
    chosen: set[str] = set()
    for place in rng(seed, 0, 0, stream=SPLIT).permutation(len(paths)).tolist():
        parts = sum(row.path in chosen for row in rows.rows)
        if parts >= count:
            break
        chosen.add(paths[place])
    kept = [row for row in rows.rows if row.path not in chosen]
    if not kept:
        raise UsageError(
            f"distill.hold_out={count} takes every file: they are held out whole", "hold out fewer"
        )
    held = [row for row in rows.rows if row.path in chosen]
    say(f"{len(held)} videos are held out of the training, for the report")
    return rows.of(kept), rows.of(held)


def _task(
    config: DistillConfig,
    student: VideoModel,
    teachers: list[Teacher],
    training: Training[DistillConfig],
) -> DistillTask:
    """What is trained.

    Raises:
        UsageError: student, teachers and objectives do not go together.
    """
    section = config.distill
    if section.temporal_anchor and sharding.kind(training.accelerator) != "whole":
        raise UsageError(
            "distill.temporal_anchor compares whole kernels, and the weights are sharded",
            "leave it out, or train without FSDP and DeepSpeed",
        )
    task = DistillTask(
        student,
        teachers,
        make_objectives(section, student, teachers),
        logits=section.targets.get("logits"),
        anchor=section.temporal_anchor,
        frozen_norms=section.norms == "frozen",
    )
    if section.targets.keys() != {"logits"}:
        weights = ", ".join(f"{name} (weight {value:g})" for name, value in section.targets.items())
        say(f"the student learns {weights}")
    if "logits" not in section.targets:
        say("its head is not trained: fine-tuning makes a new one")
    return task


def _counted(config: DistillConfig, spec: ClipSpec, task: DistillTask) -> Counted | OnDevice:
    """What happens to batches on the device."""
    plain = OnDevice(spec.mean, spec.std, spec.channels == "bgr")
    hide = Hide.parse(config.distill.hide)
    masked = next((one for one in task.each() if isinstance(one, MaskedObjective)), None)
    if hide.kind == "none" and masked is None:
        return plain
    if hide.kind != "none":
        count = hide.number(spec.frames)
        say(f"{count} of {spec.frames} frames are hidden from the student: it sees mean pixels")
    if masked is not None:
        how = "by the teacher's attention" if masked.by == "attention" else "at random"
        say(
            f"the student sees {masked.visible} of {masked.patches} patches of a frame, drawn {how}"
        )
    return Counted(
        plain,
        config.train.seed,
        spec.frames,
        config.data.repeats,
        hide,
        0 if masked is None else masked.patches,
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
    check_student(section, student)
    patches = patches_wanted(section, student)
    teachers = [
        make_teacher(one, source, section, student.spec, device, patches)
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
    section = config.distill
    picks = Picks.parse(section.picks)
    if picks.kind in ("random", "uniform") and picks.count > spec.frames:
        raise UsageError(
            f"distill.picks={section.picks} is more than the clip's {spec.frames} frames",
            "lower it, or raise data.frames",
        )
    whole = any(teacher.whole is not None for teacher in teachers)
    if whole:
        numbers = frames_seen(spec.frames, section.teacher_every)
        wanted = Picks("uniform", len(numbers))
        same = picks.kind in ("all", "uniform") and picks.number(spec.frames) == len(numbers)
        if "logits" in section.targets and not same:
            raise UsageError(
                f"distill.view=frame shows teachers the same frames for tokens and logits: "
                f"distill.picks={section.picks} are others",
                f"set distill.picks=uniform:{len(numbers)}, or distill.view=clip",
            )
        picks = wanted
    views = dict.fromkeys(
        view
        for teacher in teachers
        for view in ((teacher.view if "logits" in section.targets else None), teacher.whole)
        if view is not None
    )
    # Teachers see RGB, whatever the student sees.
    crops = spec.flow is not None and any(teacher.view is None for teacher in teachers)
    known = () if caches is None else caches.known()
    return TeacherFrames(picks, tuple(views), known, crops, cuts=whole)


def _first_pass(
    job: Job, teachers: list[Teacher], config: DistillConfig, training: Training[DistillConfig]
) -> list[Section]:
    """Estimate thresholds and whitenings, or read them where the run began with them.

    Returns:
        The part of the report that shows them, if there is one.
    """
    task, accelerator = job.task, training.accelerator
    assert isinstance(task, DistillTask)
    needing = [
        teacher
        for teacher in teachers
        if task.heads is not None and teacher_statistics.needs_first_pass(teacher)
    ]
    if not needing and not teacher_statistics.whitened(task):
        return []

    def estimate() -> dict[str, Any]:
        ready = (
            job.on_device(to_device(batch, accelerator.device), 0, place)
            for place, batch in enumerate(b for group in job.steps(0, 0) for b in group)
        )
        return teacher_statistics.estimate(task, needing, ready, config.distill.estimate_on)

    found = from_main(accelerator, lambda: teacher_statistics.read(training.run) or estimate())
    teacher_statistics.apply(task, needing, found)
    teacher_statistics.write(training.run, found)
    section = teacher_statistics.section(needing, found)
    return [] if section is None else [section]
