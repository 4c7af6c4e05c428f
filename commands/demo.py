"""`vidinit demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options as opt


def demo(
    videos: Annotated[
        Path | None,
        typer.Option(help="Your own footage instead of the packaged videos: at least two files."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute-long run that shows the steps, not the point.")
    ] = False,
    seed: opt.Seed = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    processes: opt.Processes = 1,
    out: opt.Out = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Does this model see motion? An image model becomes a video model, on real footage.

    Examples:
        vidinit demo
        vidinit demo --videos ./my_videos --out runs/my-demo
    """
    given = opt.passed_on(locals(), "seed")
    from vidinit.demo.run import run_demo

    result = run_demo(seed=seed or 0, **given)
    if json:
        opt.print_json(result.as_dict())
    else:
        typer.echo(result.table())
