"""`vidinit predict`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as opt
from .derived import command
from .options import COMPUTING, INPUT, OUTPUT

if TYPE_CHECKING:
    from vidinit.pipelines.predict.lines import Prediction

TIMELINE = "Timeline"


@command(
    "predict",
    panels={
        INPUT: "head",
        TIMELINE: "timeline every positive threshold smooth events out",
        COMPUTING: "batch_size seed device precision",
        OUTPUT: "features",
    },
    arguments={"model": "MODEL", "paths": "PATH... [DATA.KEY=VALUE]..."},
    texts={
        "model": "Model folder, run folder or zoo name (random weights).",
        "paths": "Video and image files, folders to be searched through, patterns as clips/*.mp4, "
        "- for a list on stdin; settings as data.workers=4.",
        "device": "auto, cpu, cuda or mps.",
    },
    kinds={"model": str, "paths": list[str], "batch_size": str},
    hidden=("overrides", "tell"),
)
def predict(
    keywords: dict[str, Any],
    form: Annotated[
        str | None, typer.Option("--format", help="Of the lines: table (default), jsonl or csv.")
    ] = None,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Print each prediction as soon as it is known.

    Examples:
        vidinit predict runs/finetune-mine-1 a.mp4 videos/
        vidinit predict runs/finetune-mine-1 'videos/**/*.mp4' --format csv --topk 1
        find . -name '*.mp4' | vidinit predict runs/finetune-mine-1 - --format jsonl
        vidinit predict runs/finetune-mine-1 match.mp4 --every 2 --out runs/match
        vidinit predict runs/falls camera.mp4 --threshold runs/eval-falls-1 --events falls.srt
    """
    from vidinit.console import say
    from vidinit.errors import UsageError, VidinitError
    from vidinit.pipelines.predict.lines import Lines, check_format

    if json and form is not None:
        raise UsageError("--json is one value, --format is lines", "pass one of them")
    lines = Lines(check_format(form or "table"))

    def tell(prediction: Prediction) -> None:
        if prediction.error is not None and prediction.start is None:
            say(f"cannot read {prediction.file}: {prediction.error}")
        for line in [] if json else lines.of(prediction):
            opt.put(line)

    import vidinit

    keywords["paths"], overrides = _paths_and_settings(keywords["paths"])
    found = vidinit.predict(**keywords, overrides=overrides, tell=tell)
    bad = [prediction for prediction in found if prediction.error is not None]
    if json:
        opt.print_json(_summary(keywords["model"], found, bad))
    if bad:
        raise VidinitError(
            f"{len(bad)} of {len(found)} files cannot be read", "they are named above"
        )


def _paths_and_settings(words: list[str]) -> tuple[list[str], list[str]]:
    """Paths and settings; a word in the form of a setting is a path where there is such a file."""
    settings = [
        word for word in words if re.match(r"[a-z]+\.\w+=", word) and not os.path.lexists(word)
    ]
    return [word for word in words if word not in settings], settings


def _summary(model: str, found: list[Prediction], bad: list[Prediction]) -> dict[str, Any]:
    """The output of ``--json``."""
    return {
        "model": model,
        "files": len(found),
        "failed": [{"path": one.file, "reason": one.error} for one in bad],
        "predictions": [one.as_dict() for one in found],
    }
