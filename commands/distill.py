"""`vidinit distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options as opt


def distill(
    overrides: opt.Overrides = None,
    videos: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of videos, searched through, or a list; may be repeated. No labels.",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    root: opt.Root = None,
    max_bad: opt.MaxBad = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="imagenet, imagenet-lite, a timm name, or NAME=FILE; may be repeated.",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            help="Zoo name or model folder; default r2plus1d-18.", rich_help_panel=opt.INPUT
        ),
    ] = None,
    init_from: opt.InitFrom = None,
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
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Teach a video model from image teachers on unlabelled videos (DistInit).

    Examples:
        vidinit distill --teacher imagenet --videos ./raw
        vidinit distill --teacher imagenet-lite --videos ./raw --student runs/convert-s3d-1
        vidinit distill --teacher resnet50=r50.pth --videos list.txt distill.picks=2
    """
    given = opt.passed_on(locals(), "overrides")
    import vidinit

    result = vidinit.distill(overrides=overrides or (), **given)
    opt.print_training(result, as_json=json)
