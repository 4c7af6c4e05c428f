"""`vidinit profile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import completion
from . import options as opt

if TYPE_CHECKING:
    from vidinit.report.profile_page import Sheet

MORE = "What to look at"


def numbers(text: str | None, option: str) -> list[int] | None:
    """``1,2,4`` as numbers."""
    from vidinit.errors import UsageError

    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"{option} {text}: not whole numbers", "write one, or several as 1,2,4"
        ) from None


def profile(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Zoo names or patterns of them, model or run folders.",
            autocompletion=completion.models,
        ),
    ],
    frames: Annotated[
        str | None, typer.Option(help="Frames of a clip, or several as 8,16,32.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Crop side in pixels.")] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            "--batch-sizes",
            help="Clips of a forward pass, or several as 1,2,4; default 1.",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long each row is timed.")] = 2.0,
    device: opt.Device = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16; default fp32.")] = None,
    count_only: Annotated[
        bool,
        typer.Option(
            "--count-only",
            help="Parameters and multiply-adds; nothing is run.",
            rich_help_panel=MORE,
        ),
    ] = False,
    stages: Annotated[
        bool,
        typer.Option("--stages", help="Each stage of the network.", rich_help_panel=MORE),
    ] = False,
    training: Annotated[
        bool,
        typer.Option("--training", help="Memory of training, estimated.", rich_help_panel=MORE),
    ] = False,
    kernels: Annotated[
        bool,
        typer.Option(
            "--kernels",
            help="How much of the temporal kernels is appearance; nothing is run.",
            rich_help_panel=MORE,
        ),
    ] = False,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Videos: time of decoding, copying and the model.", rich_help_panel=MORE),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that decode --data.", rich_help_panel=MORE)
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Folder of runs: accuracy against cost, as a picture.", rich_help_panel=MORE
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for profile.json and profile.html; default: none.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Parameters, multiply-adds, speed and memory of models, and what their kernels look at.

    Examples:
        vidinit profile r3d50 sts-r3d50 c2d-r50
        vidinit profile r2plus1d-18 --frames 8,16 --batch-sizes 1,2,4 --training --stages
        vidinit profile runs/finetune-mine-1 --data videos/
        vidinit profile 's3d@top:*' --results runs/ --out runs/tradeoff
        vidinit profile runs/distilled runs/scratch --kernels --out runs/kernels
    """
    given = opt.passed_on(locals(), "frames", "batch_size", "device", "precision")
    import vidinit

    rows = vidinit.profile(
        frames=numbers(frames, "--frames"),
        batch_size=numbers(batch_size, "--batch-size") or 1,
        device=device or "auto",
        precision=precision or "fp32",
        **given,
    )
    if json:
        opt.print_json(rows)
        return
    from vidinit.report.profile_page import sheets

    for sheet in sheets(rows):
        show(sheet)
    if out is not None:
        typer.echo(f"page: {out}/profile.html")


def show(sheet: Sheet) -> None:
    """One table, for people."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=sheet.title,
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for i, header in enumerate(sheet.headers):
        if any(isinstance(row[i], str) for row in sheet.rows):
            longest = max(
                len(word) for row in sheet.rows for word in (*header.split(), str(row[i]))
            )
            table.add_column(header, overflow="fold", min_width=min(longest, 16))
        else:  # numbers are not broken; their headers are
            table.add_column(header.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in sheet.rows:
        table.add_row(*("-" if cell is None else str(cell) for cell in row))
    console = Console()
    # Lines that a narrow terminal breaks are better than numbers that are not there.
    least = console.measure(table).minimum
    console.print(table, width=max(console.width, least), crop=False)
    if sheet.note:
        console.print(sheet.note, markup=False, highlight=False)
