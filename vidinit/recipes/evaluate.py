"""Score a model on labelled videos."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from ..checkpoint import load, model_folder
from ..config import EvaluateConfig
from ..data.index import Health, check
from ..data.sources import Row, Rows, align, labelled_rows
from ..engine.fit import make_accelerator
from ..engine.run_folder import RunFolder
from ..engine.scoring import Scores, score, wilson
from ..errors import UsageError
from ..report.progress import say
from ..report.run_report import write_report
from ..zoo.base import VideoModel
from ..zoo.build import create_model
from .common import from_main, open_run, set_spec, with_messages, workers_of


def held_out(model_ref: str, data: Path) -> Rows | None:
    """The videos that the run behind a model held out of ``data``, or None.

    A run that split its data itself must not be scored on what it was trained on.
    """
    for folder in (Path(model_ref), Path(model_ref).parent):
        file = folder / "split.json"
        if file.is_file():
            split = json.loads(file.read_text())
            if Path(split["data"]) == data.resolve():
                rows = tuple(Row(Path(path), label) for path, label in split["val"])
                say(f"scoring the {len(rows)} videos that the run held out of {data}")
                return Rows(rows, None)
    return None


def rows_to_score(config: EvaluateConfig) -> Rows:
    """``data.val``, else val/ inside ``data.train``, else what the run held out, else all of it."""
    data = config.data
    if data.val is not None:
        return labelled_rows(data.val, kinds="any")
    if data.train is None:
        raise UsageError("no data to score", "pass --data DIR (a folder per class, or a list)")
    folder = Path(data.train)
    if (folder / "val").is_dir():
        return labelled_rows(folder / "val", kinds="any")
    rows = held_out(config.model, folder)
    if rows is None:
        return labelled_rows(folder, kinds="any")
    return Rows(rows.rows, labelled_rows(folder, kinds="any").classes)


def open_scored(config: EvaluateConfig, rows: Rows) -> tuple[VideoModel, Rows]:
    """The model, and the rows with labels in the order of its classes."""
    classes = list(rows.classes or ())
    if model_folder(config.model) is None:
        say(f"{config.model}: a zoo name, so its weights are random")
        model = create_model(config.model, num_classes=len(classes))
        model.classes = classes
        return model.eval(), rows
    model = load(config.model, head=config.head)
    if model.classes is None:
        if model.num_classes < len(classes):
            raise UsageError(
                f"the data has {len(classes)} classes, the model {model.num_classes} unnamed ones",
                "fine-tune the model on this data first",
            )
        return model, rows
    return model, align(rows, model.classes, where=config.data.val or config.data.train or "")


def execute(config: EvaluateConfig, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """See `vidinit.evaluate`."""
    rows = with_messages(lambda: rows_to_score(config))
    accelerator = make_accelerator(config, seed=config.seed)
    # Nothing readable at all is an error; single unreadable files stay rows, to be missing.
    health = from_main(accelerator, lambda: check(rows, max_bad=1.0))
    model, rows = open_scored(config, rows)
    spec = set_spec(model, config.data)
    run = open_run(config, "eval", accelerator, resume=False, overwrite=overwrite)
    model.to(accelerator.device)
    scores = score(
        model,
        rows,
        spec,
        accelerator,
        num_classes=model.num_classes,
        clips=config.eval.clips,
        crops=config.eval.crops,
        batch_size=config.data.batch_size,
        workers=workers_of(config.data, accelerator.num_processes),
    )
    out = summary(scores, config)
    out["out"] = str(run.root)
    if accelerator.is_main_process:
        write_results(run, config, model, rows, scores, health, out)
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
    model: VideoModel,
    rows: Rows,
    scores: Scores,
    health: Health,
    out: dict[str, Any],
) -> None:
    """result.json, predictions.csv, data_health.json and report.html of an evaluation."""
    classes = model.classes or [str(i) for i in range(model.num_classes)]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "label", "prediction", "probability"])
    for row, values, ok in zip(rows.rows, scores.probabilities, scores.readable, strict=True):
        label = "" if row.label is None else classes[row.label]
        best = int(values.argmax()) if ok else -1
        predicted = [classes[best], f"{values[best]:.6f}"] if ok else ["", ""]
        writer.writerow([row.path, label, *predicted])
    run.write("predictions.csv", text.getvalue())
    run.write_json("data_health.json", health.as_dict())
    run.write_json("result.json", out)
    few = len(classes) <= 60  # a larger matrix cannot be read in a report
    write_report(
        run,
        title=f"eval {config.model}",
        config=config.model_dump(mode="json"),
        confusion=scores.confusion() if few else None,
        classes=classes if few else None,
    )
