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
    detect: Annotated[
        bool,
        typer.Option("--detect", help="A detector instead: who does what, in clips with boxes."),
    ] = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Run the demo, or make its clips alone.

    Examples:
        vidinit demo
        vidinit demo --videos ./my_videos --out runs/my-demo
        vidinit demo --resume --out runs/demo-packaged-1
        vidinit demo --clips-only --quick --out demo
        vidinit demo --detect
    """
    if detect:
        _detect(keywords, clips_only=clips_only, as_json=json)
        return
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


def _detect(keywords: dict[str, Any], *, clips_only: bool, as_json: bool) -> None:
    """The detector, or its clips without the trainings."""
    if keywords.pop("resume"):
        raise UsageError("--detect begins anew", "leave --resume out, and pass --overwrite")
    if not clips_only:
        from vidinit.demo.detect import run_detect

        result = run_detect(**keywords)
        if as_json:
            opt.print_json(result.as_dict())
            return
        for line in result.lines():
            opt.put(line)
        return
    _without_trainings(keywords)
    from vidinit.demo.detect import run_patches

    clips = run_patches(**keywords)
    if as_json:
        opt.print_json(clips.as_dict())
        return
    opt.put(f"clips: {clips.folder}, train/ and val/")
    opt.put(f"boxes: {clips.keys} of key frames, {clips.frames} of all frames")


def _without_trainings(keywords: dict[str, Any]) -> None:
    """Take out the options of trainings.

    Raises:
        UsageError: one was set.
    """
    for name, default in _TRAINING.items():
        if keywords.pop(name) != default:
            raise UsageError("--clips-only trains nothing", f"leave out --{name}")


def _make_clips(keywords: dict[str, Any], *, as_json: bool) -> None:
    """The clips without the trainings."""
    _without_trainings(keywords)
    from vidinit.demo.run import run_clips

    clips = run_clips(**keywords)
    if as_json:
        opt.print_json(clips.as_dict())
        return
    opt.put(f"labelled: {clips.labelled}, train/ and val/ with a folder per class")
    opt.put(f"unlabelled: {clips.unlabelled}")
