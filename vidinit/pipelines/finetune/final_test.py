"""Clips that had no part in a training or in choosing its epoch: scored once, when all is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ...checkpoint import label_kind_of, load_classifier, load_pair
from ...console import with_messages
from ...data.rows import Rows, align
from ...data.sources import labeled_rows
from ...engine.collectives import from_main
from ...engine.run_folder import RunFolder
from ...scoring.metrics import wilson
from ...scoring.score import score
from ..shared.clips import (
    Checked,
    check_all_rows,
    data_name,
    quarantine_of,
    read_options,
    scoring_options,
)
from ..shared.overlap import say_overlap
from .settings import FinetuneConfig


@dataclass(frozen=True)
class FinalTest:
    """The clips that ``test`` names.

    Attributes:
        checked: all of them, those that cannot be read included: these are counted as missing.
        overlap: how many of them are trained or validated on, too.
        notes: what was said of that.
    """

    checked: Checked
    overlap: int
    notes: list[str]


def open_test(
    config: FinetuneConfig, train: Rows, val: Rows | None, accelerator: Any
) -> FinalTest | None:
    """Read and check the test clips before anything is trained; None where none are named.

    Of data with parts it is the test part.

    Raises:
        UsageError, DataError: as for other data; a class that is unknown in training.
    """
    place = config.test
    if place is None:
        return None
    name = data_name(place)
    rows = with_messages(
        lambda: labeled_rows(
            place,
            kinds="any",
            part="test",
            classes=train.classes,
            nouns=train.nouns,
            **read_options(config.data),
        )
    )
    rows = align(rows, train.classes or (), where=name, nouns=train.nouns)
    seen = train if val is None else train.of([*train.rows, *val.rows])

    def look() -> FinalTest:
        checked = check_all_rows(rows, config.data, name)
        return FinalTest(checked, *say_overlap(seen, checked.rows, name, named=True))

    return from_main(accelerator, look)


def score_test(
    test: FinalTest, run: RunFolder, config: FinetuneConfig, accelerator: Any
) -> dict[str, Any]:
    """Score the model folder of a finished run; all its processes call it together.

    Returns:
        ``{data, videos, missing, overlap, <metric>: value, interval}``; ``interval`` is the 95 %
        one of top-1 (Wilson's), left out for several labels a clip.
    """
    classifier: nn.Module
    if label_kind_of(run.model) == "pair":
        pair = load_pair(run.model)
        classifier, spec = pair, pair.model.spec
    else:
        model = load_classifier(run.model)
        classifier, spec = model, model.spec
    rows = test.checked.rows
    quarantine = quarantine_of(rows, test.checked.known)
    found = score(
        *(classifier.to(accelerator.device), rows, spec, accelerator),
        num_classes=len(rows.classes or ()),
        clips=config.eval.clips,
        crops=config.eval.crops,
        start=config.eval.start,
        average=config.eval.average,
        **scoring_options(config.data, accelerator, quarantine),
    )
    videos = int(found.readable.sum())
    told: dict[str, Any] = {
        "data": config.test,
        "videos": videos,
        "missing": len(rows) - videos,
        "overlap": test.overlap,
        **{name: round(value, 6) for name, value in found.metrics().items()},
    }
    if "map" not in told:
        told["interval"] = [round(end, 6) for end in wilson(told["top1"], videos)]
    return told
