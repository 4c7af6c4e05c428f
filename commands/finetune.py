"""`vidinit finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options as opt


def finetune(
    model: opt.Model = None,
    overrides: opt.Overrides = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder per class, or with train/ and val/, or a list; may be repeated.",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    val: opt.Val = None,
    root: opt.Root = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Go on with this source of a co-trained MODEL: its head, and its data.",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(help="Train on this many clips of each class.", rich_help_panel=opt.INPUT),
    ] = None,
    modality: opt.Modality = None,
    max_bad: opt.MaxBad = None,
    val_fraction: opt.ValFraction = None,
    init_from: opt.InitFrom = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            help="trunk, or names that are not trained (stem*); may be repeated.",
            rich_help_panel=opt.TRAINING,
        ),
    ] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            help="On the frozen trunk: linear, attentive:lr=0.001; may be repeated.",
            rich_help_panel=opt.TRAINING,
        ),
    ] = None,
    preset: opt.Preset = None,
    config: opt.Config = None,
    epochs: opt.Epochs = None,
    lr: opt.Lr = None,
    batch_size: opt.BatchSize = None,
    seed: opt.Seed = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    processes: opt.Processes = 1,
    out: opt.Out = None,
    resume: opt.Resume = False,
    overwrite: opt.Overwrite = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Train a video model on labelled videos.

    Examples:
        vidinit finetune runs/convert-s3d-1 --data videos/ --epochs 20
        vidinit finetune sts-r3d50 --data list.txt --val val.txt train.lr=0.02
        vidinit finetune r2plus1d-18 --data videos/ --out runs/mine --resume
        vidinit finetune runs/mine --data more/ --probe linear --probe attentive:lr=0.001
    """
    given = opt.passed_on(locals(), "model", "overrides")
    import vidinit

    name, words = opt.split_model(model, overrides)
    result = vidinit.finetune(name, overrides=words, **given)
    opt.print_training(result, as_json=json, dry_run=dry_run)
