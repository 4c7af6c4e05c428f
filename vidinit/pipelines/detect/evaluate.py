"""Score a detector in boxes of people."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from ...checkpoint import load_detector
from ...config.section import Section
from ...console import say, with_messages
from ...data.boxes import BoxPart
from ...data.boxes.joining import of_rows
from ...data.rows import Rows
from ...engine.accelerators import make_accelerator, warn_of_slow_precision
from ...engine.collectives import from_main
from ...engine.run_folder import RunFolder
from ...errors import DataError, UsageError
from ...scoring.detection_scores import class_places
from ..evaluate.settings import EvaluateConfig
from ..shared.clips import (
    check_all_rows,
    clip_key,
    data_name,
    held_out,
    quarantine_of,
    scoring_options,
)
from ..shared.modality import set_spec
from ..shared.run_records import HealthFile, holds_something, open_run, replaced_folder
from .data import keyframes, people_of, probes_of, rows_of, scored_parts
from .rescore import result_of, write_detections
from .score import OWN, detect_key_frames, detections_of, proposes

_WHOLE = ("eval", "against", "head", "classes", "ensemble", "text", "fuse", "weight")
"""Settings of an evaluation that are of whole clips."""


def execute(config: EvaluateConfig, *, overwrite: bool) -> dict[str, Any]:
    """`vidinit.evaluate` of a model of ``finetune --task detect``."""
    _check(config)
    parts = with_messages(lambda: _scored(config))
    accelerator = make_accelerator(config, seed=config.seed)
    name = data_name(config.data.val or config.data.train)
    checked = from_main(accelerator, lambda: check_all_rows(rows_of(parts), config.data, name))
    detector = load_detector(config.model)
    warn_of_slow_precision(detector.trunk, accelerator)
    set_spec(detector.trunk, config.data)
    readable = Rows(tuple(r for r in checked.rows.rows if r.path not in checked.known))
    truth = keyframes(parts, probes_of(readable), origin=config.data.time_origin)
    say(f"scored: {truth.described()}")
    classes = tuple(detector.classes or map(str, range(detector.num_classes)))
    used = np.unique(truth.boxes.labels).tolist()
    class_places(classes, truth.classes, used, truth.where)  # an error now, not at the end
    own = proposes(detector, config.detect)
    people, given = (truth, OWN) if own else people_of(truth, config.detect, config.data)
    config.out = from_main(accelerator, lambda: config.out)

    def opened() -> RunFolder:
        return open_run(config, "eval", accelerator, resume=False, overwrite=False)

    # An earlier evaluation is replaced when the new one is done. An absent folder is taken at once.
    late = overwrite and from_main(accelerator, lambda: holds_something(str(config.out)))
    early = None if late else opened()
    quarantine = quarantine_of(people.rows, checked.known)
    health = HealthFile(early, [checked.health], [quarantine]) if early else None
    detector.to(accelerator.device)
    found = detect_key_frames(
        detector,
        people,
        accelerator,
        own=config.detect.min_score if own else None,
        fit=config.data.fit,
        **scoring_options(config.data, accelerator, quarantine),
    )
    moved = detector.settings.regress
    detections = detections_of(
        found, people, truth, classes=classes, model=config.model, given=given, moved=moved
    )
    out = from_main(accelerator, lambda: result_of(detections, config))
    main = accelerator.is_main_process
    with (
        nullcontext(early) if early else replaced_folder(str(config.out), opened, moves=main) as run
    ):
        (health or HealthFile(run, [checked.health], [quarantine])).gather(accelerator)
        if main:
            write_detections(run, config, detections, out)
        accelerator.wait_for_everyone()
    return out


def _check(config: EvaluateConfig) -> None:
    """Refuse settings that are of whole clips.

    Raises:
        UsageError: one of them was set.
    """
    usual = type(config).model_construct(model="")
    for name in _WHOLE:
        value, before = getattr(config, name), getattr(usual, name)
        if value == before:
            continue
        if isinstance(value, Section):
            keys = type(value).model_fields
            name += "." + next(k for k in keys if getattr(value, k) != getattr(before, k))
        raise UsageError(
            f"{name} is for whole clips, and {config.model} classifies boxes", "leave it out"
        )


def _scored(config: EvaluateConfig) -> list[BoxPart]:
    """The boxes to score against; of data that the run itself split, those that it held out."""
    data = config.data
    parts = scored_parts(data)
    places = data.train if data.val is None else None
    keys = None if places is None else held_out(config.model, places)
    if keys is None:
        return parts
    kept = []
    for part in parts:
        numbers = [i for i, row in enumerate(part.rows.rows) if clip_key(row) in keys]
        if numbers:
            rows = Rows(tuple(part.rows.rows[i] for i in numbers))
            kept.append(replace(part, rows=rows, boxes=of_rows(part.boxes, numbers)))
    if not kept:
        raise DataError(
            f"no video that {config.model} was validated on is in {data_name(places)}",
            "name the data by --val to score all of it",
        )
    return kept
