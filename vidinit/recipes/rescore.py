"""Score saved predictions again: another average, fewer views, another run to compare with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoint import check_out
from ..config import EvaluateConfig
from ..engine.predictions import load
from ..engine.run_folder import default_out
from ..errors import UsageError
from ..report.progress import say
from .recorded import open_recorded
from .replacing import replaced
from .results import Evaluated, comparison_of, summary, write_results

# What decides on the logits, which are what they are.
_SETTLED = ("clips", "crops", "dense", "step", "tests", "scores")


def rescore(
    config: EvaluateConfig, given: set[str], *, processes: int, overwrite: bool
) -> dict[str, Any]:
    """`vidinit.evaluate` of saved predictions.

    Args:
        config: names them.
        given: keys that were set, as ``eval.clips``.
        processes: 1.
        overwrite: replace what an earlier evaluation wrote.

    Raises:
        UsageError: settings that need the model.
        DataError: the predictions cannot be read.
    """
    ours = {"model", "predictions", "against", "out", "seed"}
    ours |= {f"eval.{key}" for key in type(config.eval).model_fields if key not in _SETTLED}
    if (foreign := sorted(given - ours)) or processes > 1:
        name = foreign[0] if foreign else "--processes"
        raise UsageError(
            f"{name} needs the model, and saved predictions are scored without it",
            "leave it out, or leave --predictions out",
        )
    assert config.predictions is not None
    found = load(config.predictions)
    config.out = config.out or str(default_out("eval", config.model))
    check_out(Path(config.out), overwrite=overwrite)
    say(f"{config.predictions}: {len(found.rows)} videos, {found.layout} views, of {found.model}")
    if "eval.average" in given:
        found = replace(found, average=config.eval.average)
    title = f"eval {found.model}"
    evaluated = Evaluated(found, found.scores(), title, against=comparison_of(found, config))
    out = summary(evaluated, config)
    out["out"] = config.out
    with replaced(config.out, lambda: open_recorded(config, "eval")) as run:
        write_results(run, config, evaluated, out)
    return out
