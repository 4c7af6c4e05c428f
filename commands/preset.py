"""`vidinit preset list`, `show`, `copy` and `check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidinit.errors import UsageError

from . import completion
from . import options as opt

Name = Annotated[
    str,
    typer.Argument(
        help="With or without its command.",
        show_default=False,
        autocompletion=completion.presets,
    ),
]


def list_all(
    pattern: Annotated[str, typer.Argument(help="Shell pattern; quote it.")] = "*",
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """List the recipes, with the figures that their papers or code bases published.

    Examples:
        vidinit preset list
        vidinit preset list '*_ssv2'
        vidinit preset list 'distill/*' --json
    """
    from vidinit.config.presets import list_presets, preset_path, read_header

    headers = {
        name: read_header(preset_path(name).read_text(encoding="utf-8"))
        for name in list_presets(pattern)
    }
    if not headers:
        raise UsageError(f"no presets match '{pattern}'", "`vidinit preset list` shows all")
    if json:
        opt.print_json([{"name": name, **header.as_dict()} for name, header in headers.items()])
        return
    from rich.table import Table

    from vidinit.console import result_console

    console = result_console()
    if not console.is_terminal:
        console.width = 1000  # one line each, for grep
    table = Table("preset", "what", "published", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for name, header in headers.items():
        table.add_row(name, header.title.rstrip("."), header.published)
    console.print(table)


def show(
    name: Name,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Settings, e.g. train.epochs=20."),
    ] = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value comes from.")
    ] = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Print the whole configuration that a recipe stands for, as YAML that --config takes.

    Examples:
        vidinit preset show sts-r3d50_k400 --origin
        vidinit preset show sts-r3d50_k400 train.epochs=100 > my.yaml
    """
    from vidinit.config.build import build, dumped
    from vidinit.config.presets import find_preset
    from vidinit.pipelines.registry import config_class

    full = find_preset(name)
    command = full.partition("/")[0]
    built = build(config_class(command), preset=full, overrides=overrides or ())
    if json:
        config = {"command": command, **built.model_dump(mode="json")}
        opt.print_json({"name": full, "config": config, "origins": built.origins})
        return
    for line in dumped(built, origins=origin).splitlines():
        opt.put(line)


def copy(
    name: Name,
    file: Annotated[Path, typer.Argument(help="File to write.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    debug: opt.Debug = False,
) -> None:
    """Copy a recipe, header included, to edit it.

    Examples:
        vidinit preset copy sts-r3d50_k400 my.yaml
    """
    from vidinit.config.presets import copy_preset

    command = copy_preset(name, file, force=force).partition("/")[0]
    opt.put(f"{file}: edit it, then `vidinit {command} ... --config {file}`")


def check(
    file: Annotated[Path, typer.Argument(help="YAML for --config.", show_default=False)],
    command: Annotated[
        str | None,
        typer.Option(help="Command the file is for; default: the one it names, else finetune."),
    ] = None,
    debug: opt.Debug = False,
) -> None:
    """Find every mistake in a configuration file, with its line, without running anything.

    Examples:
        vidinit preset check my.yaml
        vidinit preset check my.yaml --command distill
    """
    from vidinit.config.build import check_file
    from vidinit.pipelines.registry import config_classes

    opt.put(f"{file}: valid for `vidinit {check_file(file, config_classes(), command)}`")
