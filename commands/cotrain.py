"""`vidinit cotrain`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options as opt


def cotrain(
    model: opt.Model = None,
    overrides: opt.Overrides = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="A video set, NAME=DIR[,frames=16,...]; repeat. The first is the primary one.",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="An image set, NAME=DIR[,...]; its images are clips of one frame.",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    merge_labels: Annotated[
        bool,
        typer.Option(
            "--merge-labels",
            help="Video sources that have classes in common share a head.",
            rich_help_panel=opt.INPUT,
        ),
    ] = False,
    val_fraction: opt.ValFraction = None,
    modality: opt.Modality = None,
    max_bad: opt.MaxBad = None,
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
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Train one trunk on several video sets and image sets together, a head each (CoVeR-style).

    Examples:
        vidinit cotrain r3d50 --source k400=kinetics/ --source ssv2=something/,flip=false
        vidinit cotrain runs/convert-s3d-1 --source mine=videos/ --images photos=pictures/
        vidinit cotrain sts-r3d50 --source a=a.txt,share=0.7 --source b=b.txt,share=0.3
        vidinit cotrain timesformer-b16 --source k400=k400/ --source k700=k700/ --merge-labels
    """
    given = opt.passed_on(locals(), "model", "overrides", "source")
    import vidinit

    name, words = opt.split_model(model, overrides)
    result = vidinit.cotrain(name, sources=source, overrides=words, **given)
    opt.print_training(result, as_json=json, dry_run=dry_run)
