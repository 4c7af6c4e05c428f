"""`vidinit.distill`: the keywords are the flags of the command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..shared.arguments import Overrides, Places, as_list, as_places, as_text, training_flags


def distill(
    student: str | Path | None = None,
    *,
    videos: Places | None = None,
    root: str | Path | None = None,
    modality: str | None = None,
    max_bad: float | str | None = None,
    teacher: str | Sequence[str] | None = None,
    picks: int | str | None = None,
    keep: float | str | Sequence[float] | None = None,
    cache: str | Path | None = None,
    option: str | Sequence[str] | None = None,
    init_from: str | Path | None = None,
    out: str | Path | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    overrides: Overrides = (),
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | str | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    processes: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    report: str | Path | None = None,
    data: Places | None = None,
    against: Places | None = None,
) -> dict[str, Any]:
    """Teach a video model from image teachers on unlabeled videos (DistInit).

    Girdhar et al., "DistInit: Learning Video Representations Without a Single Labeled Video", ICCV
    2019. Teachers are frozen image models.

    Args:
        student: zoo name, model folder or run folder; default r2plus1d-18.
        videos: folder searched through, or a list of files; labels are not used; several are
            joined.
        root, max_bad: as for `finetune`.
        modality: what the student sees: ``rgb``, or ``flow`` (optical flow); teachers see RGB
            frames of the same decode in any case.
        teacher: one or several of ``NAME[=FILE][,key=value...]``: a short name (`vidinit list
            teachers`) or a timm name, local weights, and settings
            as weight=0.5 (`settings.TeacherSettings`).
        picks: frames of a clip that teachers see: ``center``, ``random[:K]``, ``uniform:K``,
            ``all``, or a number of random ones; their outputs are averaged.
        keep: share of the clips that count for a teacher: those of which it is most certain.
            Several, as 0.3,0.5,0.8,1, are a run each, in folders below ``out``.
        cache: folder that keeps the outputs of teachers for frames; they have to see whole frames
            (``distill.view=frame``).
        option: ``KEY=VALUE`` of the student's plan or family, where it is a zoo name, as
            ``midplanes=per_conv``; repeatable.
        init_from, out, preset, config, overrides, epochs, lr, batch_size, seed, device, precision,
            processes, resume, overwrite, dry_run: as for `finetune`.
        report: a distilled run: draw its pictures (filters, features, gains) into a page; nothing
            is trained (see `report.distill_report`).
        data: of ``report``: labeled videos.
        against: of ``report``: ``[NAME=]FOLDER`` of another start, or a zoo name.

    Returns:
        ``{out, steps, best, videos, skipped}``; ``best`` is None, nothing is validated. Of several
        shares ``runs``, too, with the result of each (`pipelines.run_set`).
    """
    from ...config.build import build
    from ..run import run_training
    from ..run_set import run_set
    from .report import distill_report, refuse_report, refuse_training
    from .settings import DistillConfig, parse_teachers
    from .shares import shares

    if report is not None:
        refuse_training(
            student=student,
            videos=videos,
            modality=modality,
            max_bad=max_bad,
            teacher=teacher,
            picks=picks,
            keep=keep,
            cache=cache,
            option=option,
            init_from=init_from,
            preset=preset,
            config=config,
            epochs=epochs,
            lr=lr,
            processes=processes,
            resume=resume,
            dry_run=dry_run,
        )
        return distill_report(
            report,
            data=data,
            root=root,
            against=against,
            out=out,
            overwrite=overwrite,
            overrides=overrides,
            batch_size=batch_size,
            seed=seed,
            device=device,
            precision=precision,
        )
    refuse_report(data=data, against=against)
    teachers = [teacher] if isinstance(teacher, str) else teacher
    flags = {
        **training_flags(student, init_from, out, device, precision, batch_size, epochs, lr, seed),
        "data.train": as_places(videos),
        "data.root": as_text(root),
        "options": as_list(option) or None,
        "data.modality": modality,
        "data.max_bad": max_bad,
        "distill.teachers": list(teachers) if teachers else None,
        "distill.picks": picks,
        "distill.keep": keep,
        "distill.cache": as_text(cache),
    }
    built = build(DistillConfig, preset=preset, file=config, overrides=overrides, flags=flags)
    parse_teachers(built.distill)
    if isinstance(built.distill.keep, list):
        return run_set(
            *("distill", built, shares(built, built.distill.keep)),
            processes=processes,
            resume=resume,
            overwrite=overwrite,
            dry_run=dry_run,
        )
    return run_training(
        "distill", built, processes, resume=resume, overwrite=overwrite, dry_run=dry_run
    )
