"""`vidinit predict`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import completion
from . import options as opt

if TYPE_CHECKING:
    from vidinit.scoring.predict import Prediction

TIMELINE = "Timeline"


def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="Model folder, run folder or zoo name.", autocompletion=completion.models
        ),
    ],
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH... [DATA.KEY=VALUE]...",
            help="Files, folders, patterns, - for a list on stdin; settings, e.g. data.workers=4.",
        ),
    ],
    topk: Annotated[int, typer.Option(help="Classes of a file.")] = 5,
    form: Annotated[
        str | None, typer.Option("--format", help="Of the lines: table (default), jsonl or csv.")
    ] = None,
    clips: Annotated[
        int | None, typer.Option(help="Clips a video; default 1.", rich_help_panel=opt.INPUT)
    ] = None,
    crops: Annotated[
        int | None, typer.Option(help="Crops a clip, 1 or 3.", rich_help_panel=opt.INPUT)
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="Which head of a co-trained model.", rich_help_panel=opt.INPUT),
    ] = None,
    timeline: Annotated[
        bool,
        typer.Option(
            "--timeline", help="Clips that slide over each video.", rich_help_panel=TIMELINE
        ),
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            help="Seconds from one clip to the next; default: a clip's.", rich_help_panel=TIMELINE
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the timelines; default runs/predict-<model>-<n>.",
            rich_help_panel=TIMELINE,
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Write pooled embeddings into this .npz.", rich_help_panel=opt.OUTPUT),
    ] = None,
    batch_size: opt.BatchSize = None,
    seed: opt.Seed = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """The most probable classes of files, each line as soon as it is known.

    Examples:
        vidinit predict runs/finetune-mine-1 a.mp4 videos/
        vidinit predict runs/finetune-mine-1 'videos/**/*.mp4' --format csv --topk 1
        find . -name '*.mp4' | vidinit predict runs/finetune-mine-1 - --format jsonl
        vidinit predict runs/finetune-mine-1 match.mp4 --timeline --every 2 --out runs/match
    """
    given = opt.passed_on(locals(), "form", "paths")
    from vidinit.console import say
    from vidinit.errors import UsageError, VidinitError
    from vidinit.pipelines.predict.lines import Lines, check_format

    if json and form is not None:
        raise UsageError("--json is one value, --format is lines", "pass one of them")
    lines = Lines(check_format(form or "table"), timeline=timeline)

    def tell(prediction: Prediction) -> None:
        if prediction.error is not None and prediction.start is None:
            say(f"cannot read {prediction.file}: {prediction.error}")
        for line in [] if json else lines.of(prediction):
            typer.echo(line)

    import vidinit

    words, overrides = _split(paths)
    found = vidinit.predict(paths=words, overrides=overrides, tell=tell, **given)
    bad = [prediction for prediction in found if prediction.error is not None]
    if json:
        opt.print_json(_summary(model, found, bad))
    if bad:
        raise VidinitError(
            f"{len(bad)} of {len(found)} files cannot be read", "they are named above"
        )


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Paths and settings; a word in the form of a setting is a path where there is such a file."""
    settings = [
        word for word in words if re.match(r"[a-z]+\.\w+=", word) and not os.path.lexists(word)
    ]
    return [word for word in words if word not in settings], settings


def _summary(model: str, found: list[Prediction], bad: list[Prediction]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "model": model,
        "files": len(found),
        "failed": [{"path": one.file, "reason": one.error} for one in bad],
        "predictions": [one.as_dict() for one in found],
    }
