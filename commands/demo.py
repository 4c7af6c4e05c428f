"""`vidinit demo`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vidinit.errors import UsageError

from . import options as opt
from .derived import command

_TRAINING = {"device": None, "precision": None, "processes": 1}  # of no use to clips alone


@command("demo")
def demo(
    keywords: dict[str, Any],
    clips_only: Annotated[
        bool,
        typer.Option("--clips-only", help="Make the clips, a folder per class, and train nothing."),
    ] = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Run the demo, or make its clips alone.

    Examples:
        vidinit demo
        vidinit demo --videos ./my_videos --out runs/my-demo
        vidinit demo --clips-only --quick --out demo
    """
    if clips_only:
        _make_clips(keywords, as_json=json)
        return
    from vidinit.demo.run import run_demo

    result = run_demo(**keywords)
    if json:
        opt.print_json(result.as_dict())
    else:
        for line in result.table().splitlines():
            opt.put(line)


def _make_clips(keywords: dict[str, Any], *, as_json: bool) -> None:
    """The clips without the trainings."""
    for name, default in _TRAINING.items():
        if keywords.pop(name) != default:
            raise UsageError("--clips-only trains nothing", f"leave out --{name}")
    from vidinit.demo.run import run_clips

    clips = run_clips(**keywords)
    if as_json:
        opt.print_json(clips.as_dict())
        return
    opt.put(f"labelled: {clips.labelled}, train/ and val/ with a folder per class")
    opt.put(f"unlabelled: {clips.unlabelled}")
