"""The Python functions behind the commands: the same names, options and defaults.

Every keyword here is a flag of the command. ``preset``, ``config`` and ``overrides`` reach all
other settings (`vidinit.config`); a flag wins over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import CotrainConfig, DistillConfig, EvaluateConfig, FinetuneConfig
from ..configure import build
from ..errors import UsageError
from .run import run

Overrides = Sequence[str] | Mapping[str, Any]
Places = str | Path | Sequence[str | Path]


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _texts(places: Places | None) -> str | list[str] | None:
    """One place as text, several as a list."""
    if places is None or isinstance(places, (str, Path)):
        return _text(places)
    return str(places[0]) if len(places) == 1 else [str(place) for place in places] or None


def _training(
    model: str | Path | None,
    init_from: str | Path | None,
    out: str | Path | None,
    device: str | None,
    precision: str | None,
    batch_size: int | None,
    epochs: int | None,
    lr: float | None,
    seed: int | None,
) -> dict[str, Any]:
    """The flags that all training commands share, by the key each one sets."""
    return {
        "model": _text(model),
        "init_from": _text(init_from),
        "out": _text(out),
        "device": device,
        "precision": precision,
        "data.batch_size": batch_size,
        "train.epochs": epochs,
        "train.lr": lr,
        "train.seed": seed,
    }


def finetune(
    model: str | Path | None = None,
    *,
    data: Places | None = None,
    val: Places | None = None,
    root: str | Path | None = None,
    shots: int | None = None,
    max_bad: float | str | None = None,
    val_fraction: float | None = None,
    init_from: str | Path | None = None,
    out: str | Path | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    overrides: Overrides = (),
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    processes: int = 1,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a video model on labelled videos.

    Args:
        model: zoo name (random weights), model folder or run folder; may stand in the preset.
        data: folder per class, folder with train/ and val/, list, json, csv, official splits or
            tar shards (docs/data.md); several are joined.
        val: validation data in the same forms; default: a split of ``data``.
        root: folder that the paths of lists are relative to; default: the list's own.
        shots: train on this many clips of each class.
        max_bad: share of unreadable files above which nothing starts, as 0.05 or "5%".
        val_fraction: share of each class that the split holds out; default 0.2.
        init_from: model, run or checkpoint folder whose weights ``model`` starts with, as far as
            they fit; the run is a new one. Without ``model`` its network is that one's.
        out: run folder; default runs/finetune-<model>-<n>.
        preset, config, overrides: see `vidinit.configure.build`.
        epochs, lr, batch_size, seed: shortcuts of ``train.*`` and ``data.batch_size``.
        device: auto, cpu, cuda or mps.
        precision: fp32, bf16 or fp16.
        processes: training processes on this machine.
        resume: go on where the run in ``out`` stopped.
        overwrite: replace an earlier run in ``out``.

    Returns:
        ``{out, steps, best, videos, skipped}``.
    """
    flags = {
        **_training(model, init_from, out, device, precision, batch_size, epochs, lr, seed),
        "data.train": _texts(data),
        "data.val": _texts(val),
        "data.val_fraction": val_fraction,
        "data.root": _text(root),
        "data.shots": shots,
        "data.max_bad": max_bad,
    }
    built = build(FinetuneConfig, preset=preset, file=config, overrides=overrides, flags=flags)
    return run("finetune", built, processes=processes, resume=resume, overwrite=overwrite)


def distill(
    student: str | Path | None = None,
    *,
    videos: Places | None = None,
    root: str | Path | None = None,
    max_bad: float | str | None = None,
    teacher: str | Sequence[str] | None = None,
    init_from: str | Path | None = None,
    out: str | Path | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    overrides: Overrides = (),
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    processes: int = 1,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Teach a video model from frozen image models on unlabelled videos (DistInit, ICCV 2019).

    Args:
        student: zoo name, model folder or run folder; default r2plus1d-18.
        videos: folder searched through, or a list of files; labels are not used; several are
            joined.
        root, max_bad: as for `finetune`.
        teacher: one or several of ``imagenet``, ``imagenet-lite``, timm names, or ``NAME=FILE``.
        init_from, out, preset, config, overrides, epochs, lr, batch_size, seed, device, precision,
            processes, resume, overwrite: as for `finetune`.

    Returns:
        ``{out, steps, best, videos, skipped}``; ``best`` is None, nothing is validated.
    """
    teachers = [teacher] if isinstance(teacher, str) else teacher
    flags = {
        **_training(student, init_from, out, device, precision, batch_size, epochs, lr, seed),
        "data.train": _texts(videos),
        "data.root": _text(root),
        "data.max_bad": max_bad,
        "distill.teachers": list(teachers) if teachers else None,
    }
    built = build(DistillConfig, preset=preset, file=config, overrides=overrides, flags=flags)
    return run("distill", built, processes=processes, resume=resume, overwrite=overwrite)


def cotrain(
    model: str | Path | None = None,
    *,
    sources: Mapping[str, str | Path] | Sequence[str] | None = None,
    images: Mapping[str, str | Path] | Sequence[str] | None = None,
    val_fraction: float | None = None,
    max_bad: float | str | None = None,
    init_from: str | Path | None = None,
    out: str | Path | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    overrides: Overrides = (),
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    processes: int = 1,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train one trunk on several video sets and image sets, a head each (CoVeR-style).

    Args:
        model: zoo name, model folder or run folder.
        sources: video sets, name to data, or ``NAME=DIR[,key=value...]`` texts; the first is the
            primary one.
        images: image sets likewise; images are clips of one frame.
        val_fraction: share of each class held out where a source has no validation data.
        max_bad: as for `finetune`, for each source.
        init_from, out, preset, config, overrides, epochs, lr, batch_size, seed, device, precision,
            processes, resume, overwrite: as for `finetune`.

    Returns:
        ``{out, steps, best, videos, skipped, sources}``; ``best`` is the primary source's top-1.
    """
    listed = [parse_source(text, "video") for text in _named(sources)]
    listed += [parse_source(text, "image") for text in _named(images)]
    flags = {
        **_training(model, init_from, out, device, precision, batch_size, epochs, lr, seed),
        "data.val_fraction": val_fraction,
        "data.max_bad": max_bad,
        "sources": listed or None,
    }
    built = build(CotrainConfig, preset=preset, file=config, overrides=overrides, flags=flags)
    return run("cotrain", built, processes=processes, resume=resume, overwrite=overwrite)


def evaluate(
    model: str | Path,
    *,
    data: Places | None = None,
    val: Places | None = None,
    root: str | Path | None = None,
    multi_view: bool = False,
    clips: int | None = None,
    crops: int | None = None,
    head: str | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    overrides: Overrides = (),
    batch_size: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    processes: int = 1,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Score a model on labelled videos; each video counts once.

    Args:
        model: model folder, run folder, or zoo name (random weights).
        data: folder per class (or its val/), or a list. Where a run split the data itself, only
            the videos it held out are scored.
        val: the data to score, as it is.
        root: as for `finetune`.
        multi_view: 10 clips x 3 crops a video, softmax averaged, unless ``clips`` or ``crops`` say
            otherwise.
        clips, crops: views of a video; default 1 x 1.
        head: which head of a co-trained model.
        seed: of the random weights of a zoo name.
        out, config, overrides, batch_size, device, precision, processes, overwrite: as for
            `finetune`.

    Returns:
        ``{top1, top5, mean_class_accuracy, top1_interval, views, clips, crops, videos, missing,
        out}``.
    """
    flags = {
        "model": _text(model),
        "out": _text(out),
        "device": device,
        "precision": precision,
        "data.train": _texts(data),
        "data.val": _texts(val),
        "data.root": _text(root),
        "data.batch_size": batch_size,
        "eval.clips": clips if clips is not None else (10 if multi_view else None),
        "eval.crops": crops if crops is not None else (3 if multi_view else None),
        "head": head,
        "seed": seed,
    }
    built = build(EvaluateConfig, file=config, overrides=overrides, flags=flags)
    return run("eval", built, processes=processes, overwrite=overwrite)


def _named(given: Mapping[str, str | Path] | Sequence[str] | None) -> list[str]:
    if isinstance(given, Mapping):
        return [f"{name}={path}" for name, path in given.items()]
    return list(given or ())


def parse_source(text: str, kind: str) -> dict[str, Any]:
    """``NAME=DIR[,key=value...]`` as the values of a `SourceConfig`.

    Raises:
        UsageError: for another form, or an unknown key.
    """
    from ..config import SourceConfig
    from ..errors import suggest

    first, *rest = text.split(",")
    name, equals, path = first.partition("=")
    if not equals or not name or not path:
        raise UsageError(f"'{text}' is no source", "write NAME=DIR, or NAME=DIR,frames=16")
    values: dict[str, Any] = {"name": name, "data": path, "kind": kind}
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or key not in SourceConfig.model_fields:
            known = list(SourceConfig.model_fields)
            raise UsageError(
                f"unknown setting '{part}' of source '{name}'",
                suggest(key, known) or f"settings are {', '.join(known)}",
            )
        values[key] = value
    return values
