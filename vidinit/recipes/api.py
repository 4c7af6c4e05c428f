"""The Python functions behind the training commands: the same names, options and defaults.

Every keyword here is a flag of the command. ``preset``, ``config`` and ``overrides`` reach all
other settings (`vidinit.config`); a flag wins over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import CotrainConfig, DistillConfig, FinetuneConfig, RunConfig
from ..configure import build, dumped
from ..errors import UsageError
from ..report.progress import say
from .distill_report import distill_report, refuse_report, refuse_training
from .given import (
    Overrides,
    Places,
    as_places,
    as_text,
    named_texts,
    one_or_several,
    parse_source,
)
from .run import run
from .run_sources import data_settings, source_of
from .teachers import parse_teachers


def _training(
    model: str | Path | None,
    init_from: str | Path | None,
    out: str | Path | None,
    device: str | None,
    precision: str | None,
    batch_size: int | str | None,
    epochs: int | None,
    lr: float | None,
    seed: int | None,
) -> dict[str, Any]:
    """The flags that all training commands share, by the key each one sets."""
    return {
        "model": as_text(model),
        "init_from": as_text(init_from),
        "out": as_text(out),
        "device": device,
        "precision": precision,
        "data.batch_size": batch_size,
        "train.epochs": epochs,
        "train.lr": lr,
        "train.seed": seed,
    }


def _train(
    command: str,
    built: RunConfig,
    processes: int,
    *,
    resume: bool,
    overwrite: bool,
    dry_run: bool,
) -> dict[str, Any]:
    if dry_run:
        say(dumped(built, origins=True).rstrip())
    return run(
        command,
        built,
        processes=processes,
        resume=resume,
        overwrite=overwrite,
        dry_run=dry_run,
    )


def _data_of(model: str | Path | None, source: str) -> dict[str, Any]:
    """The data of a source of a co-trained model, by the keys that name it."""
    if model is None:
        raise UsageError("--source is one of a co-trained MODEL", "name its run folder")
    return data_settings(source_of(str(model), source))


def finetune(
    model: str | Path | None = None,
    *,
    data: Places | None = None,
    val: Places | None = None,
    root: str | Path | None = None,
    source: str | None = None,
    shots: int | None = None,
    modality: str | None = None,
    max_bad: float | str | None = None,
    val_fraction: float | None = None,
    init_from: str | Path | None = None,
    freeze: str | Sequence[str] | None = None,
    probe: str | Sequence[str] | None = None,
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
) -> dict[str, Any]:
    """Train a video model on labelled videos.

    Args:
        model: zoo name (random weights), model folder or run folder; may stand in the preset.
        data: folder per class, folder with train/ and val/, list, json, csv, official splits or
            tar shards (docs/data.md); several are joined.
        val: validation data in the same forms; default: a split of ``data``.
        root: folder that the paths of lists are relative to; default: the list's own.
        source: which source of a co-trained ``model`` to go on with: its head is kept, and its data
            is trained on unless ``data`` names other.
        shots: train on this many clips of each class.
        modality: what the model sees: ``rgb``, or ``flow``, optical flow; default: what it was
            trained on. A model of RGB that is to see flow gets kernels for two channels.
        max_bad: share of unreadable files above which nothing starts, as 0.05 or "5%".
        val_fraction: share of each class that the split holds out; default 0.2.
        init_from: model, run or checkpoint folder whose weights ``model`` starts with, as far as
            they fit; the run is a new one. Without ``model`` its network is that one's.
        freeze: ``trunk``: train the head alone; or patterns of names that are not trained.
        probe: one or several classifiers on the frozen trunk, trained and scored side by side:
            ``linear``, ``attentive``, with settings as ``attentive:lr=0.001,blocks=2``. The model
            folder gets the best one.
        out: run folder; default runs/finetune-<model>-<n>.
        preset, config, overrides: see `vidinit.configure.build`.
        epochs, lr, batch_size, seed: shortcuts of ``train.*`` and ``data.batch_size``, a number or
            "auto".
        device: auto, cpu, cuda or mps.
        precision: fp32, bf16, fp16, or auto: bf16 on GPUs that are fast at it, else fp32.
        processes: training processes on this machine.
        resume: go on where the run in ``out`` stopped.
        overwrite: replace an earlier run in ``out``.
        dry_run: say what the configuration is and where each value comes from, check and read the
            data (random clips stand in for none), take one step, and write nothing.

    Returns:
        ``{out, steps, best, videos, skipped}``, with probes ``{probe, probes}``, too: which one
        is in the model folder, and how good each was at best; of a dry run ``{model,
        params, trained, batch, shapes, memory_mb, steps_per_epoch, seconds, losses}``, see
        `recipes.dry_run.rehearse`.
    """
    places = {
        "data.train": as_places(data),
        "data.val": as_places(val),
        "data.root": as_text(root),
    }
    if source is not None and data is None:
        places = {**_data_of(model, source), **{k: v for k, v in places.items() if v is not None}}
    flags = {
        **_training(model, init_from, out, device, precision, batch_size, epochs, lr, seed),
        **places,
        "source": source,
        "data.val_fraction": val_fraction,
        "data.shots": shots,
        "data.modality": modality,
        "data.max_bad": max_bad,
        "train.freeze": one_or_several(freeze),
        "train.probes": [probe] if isinstance(probe, str) else list(probe or ()) or None,
    }
    built = build(FinetuneConfig, preset=preset, file=config, overrides=overrides, flags=flags)
    return _train("finetune", built, processes, resume=resume, overwrite=overwrite, dry_run=dry_run)


def distill(
    student: str | Path | None = None,
    *,
    videos: Places | None = None,
    root: str | Path | None = None,
    modality: str | None = None,
    max_bad: float | str | None = None,
    teacher: str | Sequence[str] | None = None,
    picks: int | str | None = None,
    keep: float | None = None,
    cache: str | Path | None = None,
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
    """Teach a video model from frozen image models on unlabelled videos (DistInit, ICCV 2019).

    Args:
        student: zoo name, model folder or run folder; default r2plus1d-18.
        videos: folder searched through, or a list of files; labels are not used; several are
            joined.
        root, max_bad: as for `finetune`.
        modality: what the student sees, as for `finetune`; teachers see RGB frames of the same
            decode in any case.
        teacher: one or several of ``NAME[=FILE][,key=value...]``: a short name (`vidinit list
            teachers`) or a timm name, local weights, settings of `teachers.TeacherSettings`.
        picks: frames of a clip that teachers see: "center", "random", "random:K", "uniform:K",
            "all", or a number of random ones; their outputs are averaged.
        keep: share of the clips that count for a teacher: those of which it is most certain.
        cache: folder where what teachers said of frames is kept; they have to see whole frames
            (``distill.view=frame``).
        init_from, out, preset, config, overrides, epochs, lr, batch_size, seed, device, precision,
            processes, resume, overwrite, dry_run: as for `finetune`.
        report: a run that was distilled, to be looked at; nothing is trained. See
            `distill_report.distill_report`, also for what is returned then.
        data, against: of ``report``: labelled videos, and the models beside it.

    Returns:
        ``{out, steps, best, videos, skipped}``; ``best`` is None, nothing is validated.
    """
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
        **_training(student, init_from, out, device, precision, batch_size, epochs, lr, seed),
        "data.train": as_places(videos),
        "data.root": as_text(root),
        "data.modality": modality,
        "data.max_bad": max_bad,
        "distill.teachers": list(teachers) if teachers else None,
        "distill.picks": picks,
        "distill.keep": keep,
        "distill.cache": as_text(cache),
    }
    built = build(DistillConfig, preset=preset, file=config, overrides=overrides, flags=flags)
    parse_teachers(built.distill)
    return _train("distill", built, processes, resume=resume, overwrite=overwrite, dry_run=dry_run)


def cotrain(
    model: str | Path | None = None,
    *,
    sources: Mapping[str, str | Path] | Sequence[str] | None = None,
    images: Mapping[str, str | Path] | Sequence[str] | None = None,
    merge_labels: bool = False,
    val_fraction: float | None = None,
    modality: str | None = None,
    max_bad: float | str | None = None,
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
) -> dict[str, Any]:
    """Train one trunk on several video sets and image sets, a head each (CoVeR-style).

    Args:
        model: zoo name, model folder or run folder.
        sources: video sets, name to data, or ``NAME=DIR[,key=value...]`` texts; the first is the
            primary one.
        images: image sets likewise; images are clips of one frame.
        merge_labels: video sources that have classes in common share a head; clips that one of them
            validates on, or another one trains on, are left out.
        val_fraction: share of each class held out where a source has no validation data.
        modality: as for `finetune`; images have no optical flow.
        max_bad: as for `finetune`, for each source.
        init_from, out, preset, config, overrides, epochs, lr, batch_size, seed, device, precision,
            processes, resume, overwrite, dry_run: as for `finetune`.

    Returns:
        ``{out, steps, best, videos, skipped, sources}``; ``best`` is the primary source's top-1.
    """
    listed = [parse_source(text, "video") for text in named_texts(sources)]
    listed += [parse_source(text, "image") for text in named_texts(images)]
    flags = {
        **_training(model, init_from, out, device, precision, batch_size, epochs, lr, seed),
        "data.val_fraction": val_fraction,
        "data.modality": modality,
        "data.max_bad": max_bad,
        "sources": listed or None,
        "cotrain.merge_labels": merge_labels or None,
    }
    built = build(CotrainConfig, preset=preset, file=config, overrides=overrides, flags=flags)
    return _train("cotrain", built, processes, resume=resume, overwrite=overwrite, dry_run=dry_run)
