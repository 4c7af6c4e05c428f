"""`vidinit distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import completion
from . import options as opt

REPORT = "Report"


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
    modality: opt.Modality = None,
    max_bad: opt.MaxBad = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME[=FILE][,key=value...]: see `vidinit list teachers`; may be repeated.",
            rich_help_panel=opt.INPUT,
            autocompletion=completion.teachers,
        ),
    ] = None,
    picks: Annotated[
        str | None,
        typer.Option(
            help="Frames that teachers see: center, random[:K], uniform:K, all; default random.",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            help="Share of the clips that count: those a teacher is most certain of.",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps what teachers say of frames; with distill.view=frame.",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            help="Zoo name or model folder; default r2plus1d-18.",
            rich_help_panel=opt.INPUT,
            autocompletion=completion.models,
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
    dry_run: opt.DryRun = False,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Train nothing: show what this distilled run has learned, as report.html.",
            rich_help_panel=REPORT,
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Labelled videos, for features by class and gains.", rich_help_panel=REPORT
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="[NAME=]FOLDER of another start, or a zoo name; may be repeated.",
            rich_help_panel=REPORT,
        ),
    ] = None,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Teach a video model from image teachers on unlabelled videos (DistInit).

    Examples:
        vidinit distill --teacher imagenet --videos ./raw
        vidinit distill --teacher imagenet-lite --videos ./raw --student runs/convert-s3d-1
        vidinit distill --teacher resnet50=r50.pth --videos list.txt --picks random:2
        vidinit distill --teacher imagenet --teacher dinov2,weight=0.5 --videos ./raw \
            --cache teachers distill.view=frame
        vidinit distill --report runs/distilled --data videos/ --against runs/start
    """
    given = opt.passed_on(locals(), "overrides")
    import vidinit

    result = vidinit.distill(overrides=overrides or (), **given)
    if report is None or json:
        opt.print_training(result, as_json=json, dry_run=dry_run)
        return
    from vidinit.pipelines.distill.report_page import lines_of

    for line in lines_of(result):
        typer.echo(line)
