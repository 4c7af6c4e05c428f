"""`vidinit list`."""

from __future__ import annotations

import fnmatch
from typing import Annotated

import typer

from vidinit.errors import UsageError, suggest

from . import completion
from . import options as opt


def list_names(
    kind: Annotated[
        str,
        typer.Argument(
            help="models, plans, teachers or layouts.",
            metavar="KIND",
            autocompletion=completion.words("models", "plans", "teachers", "layouts"),
        ),
    ] = "models",
    pattern: Annotated[str, typer.Argument(help="Shell pattern; quote it.")] = "*",
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Names that the other commands take.

    The 72 cuts of the Inception family (s3d@top:2) are listed where the pattern holds an @.

    Examples:
        vidinit list models 's3d*'
        vidinit list models 'i3d@top:*'
        vidinit list plans
    """
    from vidinit.zoo import names

    if kind == "models":
        rows = {name: describe(name) for name in names.list_models(pattern)}
    elif kind == "plans":
        rows = {k: v.help for k, v in names.PLANS.items() if fnmatch.fnmatch(k, pattern)}
    elif kind == "teachers":
        from vidinit.zoo.images.teacher_names import TEACHERS

        rows = {k: t.described() for k, t in TEACHERS.items() if fnmatch.fnmatch(k, pattern)}
    elif kind == "layouts":
        from vidinit.conversion.layouts import IMAGES, LAYOUTS

        about = {name: "" for name in LAYOUTS} | dict.fromkeys(IMAGES, "image networks, too")
        about |= {name: "image networks" for name in IMAGES if name not in LAYOUTS}
        rows = {k: text for k, text in about.items() if fnmatch.fnmatch(k, pattern)}
    else:
        kinds = ["models", "plans", "teachers", "layouts"]
        raise UsageError(
            f"'{kind}' is nothing to list", suggest(kind, kinds) or f"use {', '.join(kinds)}"
        )
    if not rows:
        raise UsageError(f"no {kind} match '{pattern}'", f"`vidinit list {kind}` shows all")
    if json:
        opt.print_json(list(rows))
        return
    width = max(map(len, rows))
    for name, text in rows.items():
        opt.put(f"{name:{width}}  {text}".rstrip())


def describe(name: str) -> str:
    """A model's clip, and the image network it can start from."""
    from vidinit.zoo.names import ALIASES, find_entry

    entry = find_entry(name)
    clip = f"{entry.frames}x{entry.size}x{entry.size}" if entry.size else f"{entry.frames} frames"
    start = f"from {entry.backbone}" if entry.backbone else "no image network fits"
    also = f"  = {ALIASES[name]}" if name in ALIASES else ""
    return f"{clip:14} {start}{also}"
