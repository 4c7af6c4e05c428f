"""`vidinit demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidinit.errors import UsageError

from . import options as opt

_TRAINING = {"device": None, "precision": None, "processes": 1}  # of no use to clips alone


def demo(
    videos: Annotated[
        Path | None,
        typer.Option(help="Your own footage instead of the packaged videos: at least two files."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute-long run that shows the steps, not the point.")
    ] = False,
    clips_only: Annotated[
        bool,
        typer.Option("--clips-only", help="Make the clips, a folder per class, and train nothing."),
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
        vidinit demo --clips-only --quick --out demo
    """
    if clips_only:
        _make_clips(opt.passed_on(locals(), "clips_only"), as_json=json)
        return
    given = opt.passed_on(locals(), "seed", "clips_only")
    from vidinit.demo.run import run_demo

    result = run_demo(seed=seed or 0, **given)
    if json:
        opt.print_json(result.as_dict())
    else:
        typer.echo(result.table())


def _make_clips(given: dict[str, Any], *, as_json: bool) -> None:
    """The clips without the trainings."""
    for name, default in _TRAINING.items():
        if given.pop(name) != default:
            raise UsageError("--clips-only trains nothing", f"leave out --{name}")
    from vidinit.demo.run import run_clips

    clips = run_clips(**given | {"seed": given["seed"] or 0})
    if as_json:
        opt.print_json(clips.as_dict())
        return
    typer.echo(f"labelled: {clips.labelled}, train/ and val/ with a folder per class")
    typer.echo(f"unlabelled: {clips.unlabelled}")
