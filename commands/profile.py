"""`vidinit profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options as opt


def profile(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Zoo names, model or run folders.")
    ],
    frames: Annotated[int | None, typer.Option(help="Frames of a clip.")] = None,
    size: Annotated[int | None, typer.Option(help="Crop side in pixels.")] = None,
    batch_size: Annotated[int, typer.Option(help="Clips of a forward pass.")] = 1,
    seconds: Annotated[float, typer.Option(help="How long each model is timed.")] = 2.0,
    device: opt.Device = None,
    precision: opt.Precision = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for profile.json; default: none.", rich_help_panel=opt.OUTPUT),
    ] = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Parameters, multiply-adds, throughput and peak memory of models, as a table.

    Examples:
        vidinit profile r3d50 sts-r3d50 c2d-r50
        vidinit profile r2plus1d-18 --frames 16 --batch-size 4 --json
        vidinit profile runs/finetune-mine-1
    """
    given = opt.passed_on(locals(), "device", "precision")
    import vidinit

    rows = vidinit.profile(device=device or "auto", precision=precision or "fp32", **given)
    if json:
        opt.print_json(rows)
    else:
        show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    """The table, for people."""
    from rich.console import Console
    from rich.table import Table

    first = rows[0]
    table = Table(
        title=f"{first['device']}, {first['precision']}, batches of {first['batch_size']}"
    )
    table.add_column("model")
    for column in ("clip", "params M", "GMACs", "clips/s", "ms/batch", "peak MB"):
        table.add_column(column, justify="right")
    for row in rows:
        memory = row["peak_memory_mb"]
        table.add_row(
            row["model"],
            f"{row['frames']}x{row['size']}x{row['size']}",
            f"{row['params'] / 1e6:.2f}",
            f"{row['gmacs']:.3f}",
            f"{row['clips_per_second']:.2f}",
            f"{row['latency_ms']:.1f}",
            "-" if memory is None else f"{memory:.0f}",
        )
    Console().print(table)
