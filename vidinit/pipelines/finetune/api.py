"""`vidinit.finetune`: its keywords are the options of the command, and their texts its help."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..shared.arguments import (
    Overrides,
    Places,
    as_list,
    as_places,
    as_text,
    one_or_several,
    training_flags,
)


def finetune(
    model: str | Path | None = None,
    *,
    data: Places | None = None,
    val: Places | None = None,
    test: Places | None = None,
    folds: int | None = None,
    seeds: int | None = None,
    root: str | Path | None = None,
    task: str | None = None,
    source: str | None = None,
    shots: int | None = None,
    modality: str | None = None,
    max_bad: float | str | None = None,
    val_fraction: float | None = None,
    option: str | Sequence[str] | None = None,
    init_from: str | Path | None = None,
    freeze: str | Sequence[str] | None = None,
    probe: str | Sequence[str] | None = None,
    whole: bool = False,
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
    """Train a video model on labeled videos.

    ``preset``, ``config`` and ``overrides`` reach all settings (`vidinit.config`); the other
    keywords are shortcuts of some, and win over them.

    Args:
        model: zoo name (random weights), model folder or run folder; may stand in the preset;
            without any, all is chosen (`fit`). With
            ``probe`` also a video encoder of transformers, ``hf:USER/NAME`` or its folder.
        data: folder per class, folder with train/ and val/, list, json, csv, official splits or
            tar shards (docs/data.md); may be repeated, and is then joined.
        val: validation data in the same forms; default: a split of ``data``.
        test: data in the same forms that is scored once, at the end, by the model that is kept.
        folds: make so many runs, each validated on another part of ``data``, and tell the mean.
        seeds: make so many runs that differ in their seed, and tell mean and range.
        root: folder that the paths of lists are relative to; default: the list's own.
        task: ``classify`` clips (default), or ``detect`` actions of the people in boxes: ``data``
            is then a file of boxes (docs/detection.md).
        source: which source of a co-trained ``model`` to go on with: its head is kept, and its data
            is trained on unless ``data`` names other.
        shots: train on this many clips of each class.
        modality: what the model sees: ``rgb``, or ``flow``, optical flow; default: what it was
            trained on. A model of RGB that is to see flow gets kernels for two channels.
        max_bad: share of unreadable files above which nothing starts, as 0.05 or 5%.
        val_fraction: share of each class that the split holds out; default 0.2.
        option: ``KEY=VALUE`` of the plan or family, where ``model`` is a zoo name; repeatable.
        init_from: model, run or checkpoint folder whose weights the run starts from, as far as they
            fit; it is a new run. If no model is named, that folder's network is used.
        freeze: ``trunk``: train the head alone; or patterns of names that are not trained.
        probe: one or several classifiers on the frozen trunk, trained and scored side by side:
            ``linear``, ``attentive``, ``gru``, ``readout``, ``dist``, with settings as
            ``"attentive:blocks=4,lr=1e-3|3e-4"``, which are two. The model folder gets the one that
            is best on held-out training clips. ``ridge`` and ``logistic`` are solved over one pass
            of the trunk instead, in seconds, and chosen by cross-validation.
        whole: store a frozen tower, or a video encoder of transformers, in the model folder, where
            it would be named; the folder then needs nothing beside it.
        out: run folder, empty or absent; default runs/<command>-<model>-<n>.
        preset: a shipped recipe, ``<target>_<data>``, as `vidinit preset list` shows them.
        config: YAML in the form of a run's config.yaml.
        overrides: ``section.key=value`` texts, or a mapping from keys to values.
        epochs: passes over the training clips; sets train.epochs.
        lr: the peak learning rate, before it falls to 0; sets train.lr.
        batch_size: clips of a batch in each process, or ``auto``: as many as fit into memory; sets
            data.batch_size.
        seed: of everything random; default 0.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32``, ``bf16``, ``fp16``; default ``auto``: bf16 on GPUs that are fast at it,
            else fp32.
        processes: processes on this machine.
        resume: go on where the run in the folder ``out`` stopped.
        overwrite: replace an earlier run in ``out``.
        dry_run: say what the configuration is and where each value comes from, check and read the
            data (random clips stand in for none), take one step, and write nothing.

    Returns:
        ``{out, steps, best, videos, skipped, overlap, class_clips, notes}``: ``overlap`` validation
        clips are trained on, too, the rarest and the most frequent class have ``class_clips``, and
        ``notes`` are sentences on both, and on an epoch that was chosen on these clips; with probes
        ``time``, where there are validation clips (`scoring.time_test.time_test`), and
        ``{probe, probes}``, too: which one is in the model folder, and how good each is on the
        validation clips, with several of them ``{choice}``, by which scores one was chosen; of a
        dry run ``{model, params, trained, batch, shapes, memory_mb, steps_per_epoch, seconds,
        losses}``, see `pipelines.shared.dry_run.rehearse`.
    """
    from ...config.build import build
    from ...config.layers import override_layer
    from ..expand import expand, of_one_split, trained_figures, trained_summary
    from ..run import run_training
    from ..run_set import run_set
    from .settings import FinetuneConfig

    named = override_layer(overrides)
    without = not (model or preset or config or init_from or source or "model" in named.values)
    if data is not None and without:
        return _all_chosen(
            data,
            {
                **named.values,
                "train.epochs": epochs,
                "train.lr": lr,
                "data.batch_size": batch_size,
                "data.val_fraction": val_fraction,
                "data.max_bad": max_bad,
            },
            {
                **{"task": task, "shots": shots, "modality": modality, "option": option},
                **{"freeze": freeze, "probe": probe, "folds": folds, "seeds": seeds},
                "processes": None if processes == 1 else processes,
            },
            **{"val": val, "test": test, "root": root, "out": out, "device": device},
            **{"seed": seed or 0},
            **{"precision": precision, "resume": resume, "overwrite": overwrite},
            dry_run=dry_run,
        )
    places = {
        "data.train": as_places(data),
        "data.val": as_places(val),
        "data.root": as_text(root),
    }
    if source is not None and data is None:
        from ..cotrain.finished import data_of_source

        places = {
            **data_of_source(model, source),
            **{k: v for k, v in places.items() if v is not None},
        }
    flags = {
        **training_flags(model, init_from, out, device, precision, batch_size, epochs, lr, seed),
        **places,
        "task": task,
        "test": as_places(test),
        "folds": folds,
        "seeds": seeds,
        "source": source,
        "whole": whole or None,
        "data.val_fraction": val_fraction,
        "data.shots": shots,
        "options": as_list(option) or None,
        "data.modality": modality,
        "data.max_bad": max_bad,
        "train.freeze": one_or_several(freeze),
        "train.probes": as_list(probe) or None,
    }
    built = build(FinetuneConfig, preset=preset, file=config, overrides=overrides, flags=flags)
    runs = expand(built, figures=trained_figures, summary=trained_summary)
    if runs is not None:
        return run_set(
            *("finetune", built, runs),
            processes=processes,
            resume=resume,
            overwrite=overwrite,
            dry_run=dry_run,
        )
    built = of_one_split(built)
    return run_training(
        "finetune", built, processes, resume=resume, overwrite=overwrite, dry_run=dry_run
    )


def _all_chosen(
    data: Places, settings: dict[str, Any], refused: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """A fine-tuning without a MODEL: that of `fit`.

    Args:
        data: labeled videos.
        settings: that are not up for choice; None where they are.
        refused: options that are for one model, by name; None where they were not given.
        options: of `fit`.

    Raises:
        UsageError: an option that is for one model.
    """
    from ...console import say
    from ...errors import UsageError
    from ..fit.api import fit

    for name, value in refused.items():
        if value:
            raise UsageError(
                f"no model is given, and --{name} is for one",
                "name a MODEL; without one all is chosen, as by vidinit fit",
            )
    say("no MODEL: all is chosen, as by vidinit fit")
    given = {key: value for key, value in settings.items() if value is not None}
    return fit(data, overrides=given, **options)
