"""Options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vidinit.processes import is_main_process

from . import completion

INPUT, TRAINING, OUTPUT = "Input", "Training", "Output"

Model = Annotated[
    str | None,
    typer.Argument(help="Zoo name, model folder or run folder.", autocompletion=completion.models),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Settings, e.g. train.epochs=20."),
]
Val = Annotated[
    list[Path] | None,
    typer.Option(help="Validation data; default: a split.", rich_help_panel=INPUT),
]
Root = Annotated[
    Path | None,
    typer.Option(
        help="Folder that the paths of a list are relative to; default: the list's own.",
        rich_help_panel=INPUT,
    ),
]
Modality = Annotated[
    str | None,
    typer.Option(
        help="What the model sees: rgb, or flow (optical flow); default: as it was trained.",
        rich_help_panel=INPUT,
    ),
]
MaxBad = Annotated[
    str | None,
    typer.Option(
        help="Share of unreadable files above which nothing starts; default 5%.",
        rich_help_panel=INPUT,
    ),
]
ValFraction = Annotated[
    float | None,
    typer.Option(
        help="Share of each class held out where there is no validation data; default 0.2.",
        rich_help_panel=INPUT,
    ),
]
InitFrom = Annotated[
    Path | None,
    typer.Option(
        help="Model, run or checkpoint folder whose weights MODEL starts with; a new run.",
        rich_help_panel=TRAINING,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="A shipped recipe: <target>_<data>.",
        rich_help_panel=TRAINING,
        autocompletion=completion.presets,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help="YAML in the form of a run's config.yaml.", rich_help_panel=TRAINING),
]
Epochs = Annotated[
    int | None, typer.Option(help="train.epochs", rich_help_panel=TRAINING, show_default=False)
]
Lr = Annotated[
    float | None, typer.Option(help="train.lr", rich_help_panel=TRAINING, show_default=False)
]
BatchSize = Annotated[
    str | None,
    typer.Option(
        help="data.batch_size, per process: a number, or in training auto.",
        rich_help_panel=TRAINING,
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="Of everything random; default 0.", rich_help_panel=TRAINING)
]
Device = Annotated[
    str | None,
    typer.Option(
        help="auto, cpu, cuda or mps.",
        rich_help_panel=TRAINING,
        autocompletion=completion.words("auto", "cpu", "cuda", "mps"),
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="fp32, bf16, fp16; default auto: bf16 on GPUs that are fast at it, else fp32.",
        rich_help_panel=TRAINING,
        autocompletion=completion.words("auto", "fp32", "bf16", "fp16"),
    ),
]
MeasurePrecision = Annotated[
    str | None,
    typer.Option(
        help="fp32, bf16 or fp16; default fp32, so that a result is the same on all devices.",
        rich_help_panel=TRAINING,
        autocompletion=completion.words("fp32", "bf16", "fp16"),
    ),
]
Processes = Annotated[
    int, typer.Option(help="Processes on this machine.", rich_help_panel=TRAINING)
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on in the folder of --out.", rich_help_panel=OUTPUT),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder to write, empty or absent; default runs/<command>-<model>-<n>.",
        rich_help_panel=OUTPUT,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what a run wrote.", rich_help_panel=OUTPUT)
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Show configuration, shapes and memory, take one step, write nothing.",
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="The result as JSON on stdout.", rich_help_panel=OUTPUT)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=OUTPUT)]


def split_model(model: str | None, overrides: list[str] | None) -> tuple[str | None, list[str]]:
    """MODEL may be left out where a preset names it: the first word is then an override."""
    given = list(overrides or [])
    if model is not None and "=" in model:
        return None, [model, *given]
    return model, given


def passed_on(given: dict[str, Any], *own: str) -> dict[str, Any]:
    """A command's options as keywords of the library's function, less the command's own.

    Args:
        given: the command's ``locals()``, taken before anything else is assigned.
        own: names that the command deals with itself, beside ``json`` and ``debug``.
    """
    return {key: value for key, value in given.items() if key not in (*own, "json", "debug")}


def print_json(value: Any) -> None:
    """The result on stdout, for scripts."""
    if is_main_process():
        typer.echo(json.dumps(value, indent=2))


def print_training(result: dict[str, Any], *, as_json: bool, dry_run: bool) -> None:
    """The end of a training command."""
    if as_json:
        print_json(result)
    elif is_main_process():
        from vidinit.pipelines.shared.summary import dry_run_summary, summary

        for line in dry_run_summary(result) if dry_run else summary(result):
            typer.echo(line)
