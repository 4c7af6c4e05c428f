"""`vidinit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options as opt


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model or run folder.")],
    layout: Annotated[
        str, typer.Option(help="Whose keys: torchvision, pytorchvideo, ...; see `list layouts`.")
    ],
    out: Annotated[Path, typer.Option(help="File to write: .pth or .safetensors.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file.", rich_help_panel=opt.OUTPUT)
    ] = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Write a model's weights under the keys of a public code base.

    Examples:
        vidinit export runs/finetune-mine-1 --layout torchvision --out mine.pth
    """
    given = opt.passed_on(locals())
    import vidinit

    report = vidinit.export(**given)
    if json:
        opt.print_json(report)
    else:
        typer.echo(f"{report['tensors']} tensors in the layout {report['layout']}: {report['out']}")
