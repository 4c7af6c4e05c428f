"""Saved detections scored again, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...console import say
from ...engine.run_folder import RunFolder, default_out
from ...errors import UsageError
from ...files import check_out, folder_locks
from ...report.run_report import write_report
from ...scoring.detections import FILE, Detections, load
from ..evaluate.settings import EvaluateConfig
from ..shared.run_records import open_recorded, replaced_folder
from .report import key_frame_sections
from .results import scores_of
from .tables import class_section


def rescore_boxes(
    config: EvaluateConfig, keys: set[str], *, processes: int, overwrite: bool
) -> dict[str, Any]:
    """`vidinit.evaluate` of saved detections: another protocol, other thresholds, other tubes.

    Args:
        config: names them.
        keys: settings that the user set, as ``detect.protocol``.
        processes: 1.
        overwrite: replace what an earlier evaluation wrote.

    Raises:
        UsageError: settings that need the model, or are for whole clips.
        DataError: the detections cannot be read, or hold no truth.
    """
    ours = {"model", "predictions", "out", "seed"}
    ours |= {f"detect.{key}" for key in type(config.detect).model_fields if key != "boxes"}
    if (foreign := sorted(keys - ours)) or processes > 1:
        name = foreign[0] if foreign else "--processes"
        raise UsageError(
            f"{name} is not for saved detections, which are scored as they are", "leave it out"
        )
    assert config.predictions is not None
    found = load(config.predictions)
    config.out = config.out or str(default_out("eval", config.model))
    check_out(Path(config.out), overwrite=overwrite)
    say(f"{config.predictions}: {len(found):,} boxes of {found.model}")
    out = result_of(found, config)
    with (
        folder_locks(),
        replaced_folder(config.out, lambda: open_recorded(config, "eval")) as run,
    ):
        write_detections(run, config, found, out)
    return out


def result_of(found: Detections, config: EvaluateConfig) -> dict[str, Any]:
    """result.json of an evaluation of boxes."""
    truth = found.truth
    return {
        **scores_of(found, config.detect, tubes=True),
        "given": found.given,
        "videos": len(found.paths),
        "key_frames": 0 if truth is None else len(truth),
        "boxes": len(found),
        "unread": found.unread,
        "missing": [{"path": path, "reason": reason} for path, reason in found.missing],
        "out": str(config.out),
    }


def write_detections(
    run: RunFolder,
    config: EvaluateConfig,
    found: Detections,
    out: dict[str, Any],
) -> None:
    """detections.npz, result.json and report.html of an evaluation of boxes."""
    found.save(run.claim(FILE))
    run.write_json("result.json", out)
    title = f"eval {found.model}"
    write_report(
        run, title=title, config=config, extra=[class_section(out), *key_frame_sections(found)]
    )
