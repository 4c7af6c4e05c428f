"""Score a model on labelled videos."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..checkpoint import label_kind_of, load, load_pair, model_folder
from ..config import EvaluateConfig
from ..data.rows import Rows, align
from ..data.sources import labelled_rows
from ..engine.accelerators import make_accelerator, warn_of_slow_precision
from ..engine.run_folder import RunFolder
from ..engine.scoring import Scores, score, wilson
from ..engine.together import from_main
from ..errors import UsageError
from ..report.notes import with_messages
from ..report.progress import say
from ..report.run_report import write_report
from ..zoo.base import VideoModel
from ..zoo.build import create_model
from .clips import checked_whole, named, quarantine_of, reading, scoring
from .common import open_run, set_spec
from .health import HealthFile
from .zero_shot import compared, relabelled


def held_out(model_ref: str, data: str | list[str]) -> set[tuple[str, Any, Any]] | None:
    """(path, start, end) of the clips that the run behind a model held out of ``data``, or None.

    A run that split its data itself must not be scored on what it was trained on.
    """
    places = [data] if isinstance(data, str) else data
    for folder in (Path(model_ref), Path(model_ref).parent):
        file = folder / "split.json"
        if file.is_file():
            found = json.loads(file.read_text(encoding="utf-8"))
            for split in found.get("sources", [found]):  # of a co-training there are several
                if split["data"] == [str(Path(place).resolve()) for place in places]:
                    count = len(split["val"])
                    say(f"scoring the {count} clips that the run validated on in {named(data)}")
                    return {(path, start, end) for path, start, end in split["val"]}
    return None


def rows_to_score(config: EvaluateConfig) -> Rows:
    """``data.val``, else the validation part of ``data.train``, else what the run held out of it.

    Where there is none of these, all of ``data.train``.
    """
    data = config.data
    place = data.val or data.train
    if place is None:
        raise UsageError("no data to score", "pass --data DIR (a folder per class, or a list)")
    rows = labelled_rows(place, kinds="any", part="val", **reading(data))
    keys = held_out(config.model, place) if data.val is None else None
    if keys is None:
        return rows
    return rows.of([r for r in rows.rows if (str(Path(r.path).resolve()), r.start, r.end) in keys])


@dataclass(frozen=True)
class Scored:
    """A model, and rows with labels in the order of its classes.

    Attributes:
        classifier: from clips to logits, or to the logits of verb and noun.
        model: the video model in it, or itself.
        rows: what it is scored on.
        classes: names of the logits, of the verbs' where there are two.
    """

    classifier: nn.Module
    model: VideoModel
    rows: Rows
    classes: list[str]


def open_scored(config: EvaluateConfig, rows: Rows, accelerator: Any) -> Scored:
    """The model, and the rows with labels in the order of its classes.

    Raises:
        UsageError: the model gives another kind of label than the data has.
    """
    classes, where = list(rows.classes or ()), named(config.data.val or config.data.train)
    if config.zero_shot:
        classifier = compared(config, classes, accelerator)
        return Scored(classifier, classifier.model, rows, classes)
    if model_folder(config.model) is None:
        say(f"{config.model}: a zoo name, so its weights are random")
        model = create_model(config.model, num_classes=len(classes))
        if rows.kind != "single":
            raise UsageError(f"{where} has several labels a clip", "score a model trained on such")
        model.classes = classes
        return Scored(model.eval(), model, rows, classes)
    if config.head is None and label_kind_of(config.model) == "pair":
        pair = load_pair(config.model)
        verbs = pair.model.classes or []
        rows = align(rows, verbs, where=where, nouns=pair.nouns)
        return Scored(pair, pair.model, rows, verbs)
    model = load(config.model, head=config.head)
    if rows.kind != model.label_kind:
        raise UsageError(
            f"{where} has labels of kind '{rows.kind}', the model gives '{model.label_kind}'",
            "score it on data like that of its training",
        )
    if model.classes is None:
        if model.num_classes < len(classes):
            raise UsageError(
                f"the data has {len(classes)} classes, the model {model.num_classes} unnamed ones",
                "fine-tune the model on this data first",
            )
        return Scored(model, model, rows, [str(i) for i in range(model.num_classes)])
    return Scored(model, model, align(rows, model.classes, where=where), model.classes)


def execute(config: EvaluateConfig, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """See `vidinit.evaluate`."""
    rows = with_messages(lambda: rows_to_score(config))
    if config.zero_shot:
        rows = relabelled(rows, config)
    accelerator = make_accelerator(config, seed=config.seed)
    what = named(config.data.val or config.data.train)
    found = from_main(accelerator, lambda: checked_whole(rows, config.data, what))
    scored = open_scored(config, found.rows, accelerator)
    model, rows = scored.model, scored.rows
    warn_of_slow_precision(model, accelerator)
    spec = set_spec(model, config.data)
    run = open_run(config, "eval", accelerator, resume=False, overwrite=overwrite)
    quarantine = quarantine_of(rows, found.known)
    health = HealthFile(run, [found.health], [quarantine])
    scored.classifier.to(accelerator.device)
    scores = score(
        scored.classifier,
        rows,
        spec,
        accelerator,
        num_classes=len(scored.classes),
        clips=config.eval.clips,
        crops=config.eval.crops,
        **scoring(config.data, accelerator, quarantine),
    )
    health.gather(accelerator)
    out = summary(scores, config)
    out["out"] = str(run.root)
    if accelerator.is_main_process:
        write_results(run, config, scored, scores, out)
    accelerator.wait_for_everyone()
    return out


def summary(scores: Scores, config: EvaluateConfig) -> dict[str, Any]:
    """What ``--json`` prints: fractions, views, videos counted, videos missing."""
    metrics = {key: round(value, 6) for key, value in scores.metrics().items()}
    counted = int(scores.readable.sum())
    low, high = wilson(metrics["top1"], counted)
    return {
        **metrics,
        "top1_interval": [round(low, 6), round(high, 6)],
        "views": config.eval.clips * config.eval.crops,
        "clips": config.eval.clips,
        "crops": config.eval.crops,
        "videos": counted,
        "missing": [path for path, _ in scores.missing],
    }


def write_results(
    run: RunFolder,
    config: EvaluateConfig,
    scored: Scored,
    scores: Scores,
    out: dict[str, Any],
) -> None:
    """result.json, predictions.csv and report.html of an evaluation."""
    classes, text = scored.classes, io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "label", "prediction", "probability"])
    predictions = scores.predictions(classes, scored.rows.nouns or ())
    for row, told in zip(scored.rows.rows, predictions, strict=True):
        writer.writerow([row.path, *told])
    run.write("predictions.csv", text.getvalue())
    run.write_json("result.json", out)
    # A larger matrix cannot be read in a report.
    shown = len(classes) <= 60 and scores.kind == "single"
    write_report(
        run,
        title=f"eval {config.model}",
        config=config.model_dump(mode="json"),
        confusion=scores.confusion() if shown else None,
        classes=classes if shown else None,
    )
