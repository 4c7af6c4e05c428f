"""What an evaluation tells and writes, whether a model ran or its predictions were read."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import Any

from ..config import EvaluateConfig
from ..engine.bootstrap import intervals
from ..engine.calibration import calibration_of
from ..engine.class_table import class_analysis, classes_without_videos
from ..engine.comparison import compare, mcnemar
from ..engine.curve import curve_of
from ..engine.predictions import FILE, LAYOUTS, Predictions, load
from ..engine.run_folder import RunFolder
from ..engine.scores import Scores, wilson
from ..report.evaluation import evaluation_sections
from ..report.run_report import write_report

ANALYSIS = "analysis.json"
"""Classes, calibration, mistakes, confusion and comparison of an evaluation."""


@dataclass(frozen=True)
class Evaluated:
    """What there is to tell of.

    Attributes:
        predictions: of the videos as they are.
        scores: of these.
        title: of the report.
        tests: scores of the same videos, by the name of a temporal test.
        against: how they compare with other predictions; see `comparison.compare`.
    """

    predictions: Predictions
    scores: Scores
    title: str
    tests: dict[str, Scores] = field(default_factory=dict)
    against: dict[str, Any] = field(default_factory=dict)


def summary(found: Evaluated, config: EvaluateConfig) -> dict[str, Any]:
    """What ``--json`` prints: fractions, views, videos counted, videos missing."""
    predictions, scores = found.predictions, found.scores
    metrics = rounded(scores.metrics())
    counted, expected = int(scores.readable.sum()), len(predictions.rows)
    nouns = predictions.rows.nouns or ()
    low, high = wilson(metrics["top1"], counted)
    fixed = predictions.layout not in LAYOUTS
    out: dict[str, Any] = {**metrics, "top1_interval": [round(low, 6), round(high, 6)]}
    if (alone := predictions.view_accuracy()) is not None:
        out["top1_per_view"] = round(alone, 6)
    out |= {
        "views": predictions.clips * predictions.crops if fixed else predictions.layout,
        "clips": predictions.clips if fixed else predictions.layout,
        "crops": predictions.crops,
        "average": predictions.average,
        "expected": expected,
        "decoded": expected - predictions.undecoded,
        "videos": counted,
        "missing": [path for path, _ in scores.missing],
        "empty_classes": classes_without_videos(scores, predictions.classes, nouns),
    }
    spread = intervals(scores, resamples=config.eval.resamples, seed=config.seed)
    out["intervals"] = {name: [round(end, 6) for end in ends] for name, ends in spread.items()}
    if "map" in spread:
        out["map_interval"] = out["intervals"]["map"]
    if (calibration := calibration_of(scores, config.eval.bins)) is not None:
        out["ece"] = round(calibration["ece"], 6)
    if config.eval.curve:
        out["curve"] = [{**views, **rounded(metrics)} for views, metrics in curve_of(predictions)]
    if found.tests:
        out["temporal"] = {name: tested(scores, other) for name, other in found.tests.items()}
    if config.against is not None:
        out["against"] = {key: value for key, value in found.against.items() if key != "classes"}
    return out


def comparison_of(predictions: Predictions, config: EvaluateConfig) -> dict[str, Any]:
    """The comparison with another evaluation, if there is to be one."""
    if config.against is None:
        return {}
    other = load(config.against)
    whole = compare(predictions, other, resamples=config.eval.resamples, seed=config.seed)
    return dict(_rounded(whole))


def tested(plain: Scores, changed: Scores) -> dict[str, Any]:
    """What a temporal test says: its metrics, what changed, and whether that can be chance."""
    before, after = plain.metrics(), changed.metrics()
    test = mcnemar(plain.hits()["top1"], changed.hits()["top1"])
    change = {name: after[name] - before[name] for name in before}
    return {**rounded(after), "change": rounded(change), "p_value": float(f"{test['p_value']:.6g}")}


def analysis(found: Evaluated, config: EvaluateConfig) -> dict[str, Any]:
    """analysis.json: what is too long for a result."""
    scores, predictions = found.scores, found.predictions
    rows, classes = predictions.rows, predictions.classes
    whole = {
        "calibration": calibration_of(scores, config.eval.bins),
        **class_analysis(scores, rows.rows, classes, rows.nouns or ()),
    }
    if found.against:
        whole["against"] = found.against
    return dict(_rounded(whole))


def _rounded(value: Any) -> Any:
    """Numbers as `rounded` has them, wherever they stand; but p-values may be small."""
    if isinstance(value, dict):
        return {
            key: float(f"{one:.6g}") if key == "p_value" else _rounded(one)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


def rounded(metrics: dict[str, float]) -> dict[str, float]:
    """The same with six digits, which is as many as no rounding of a kernel reaches."""
    return {key: round(value, 6) for key, value in metrics.items()}


def write_results(
    run: RunFolder, config: EvaluateConfig, found: Evaluated, out: dict[str, Any]
) -> None:
    """predictions.npz and .csv, analysis.json, result.json and report.html of an evaluation.

    Raises:
        VidinitError: the disk does not take them.
    """
    predictions, scores = found.predictions, found.scores
    predictions.save(run.root / FILE)
    run.write("predictions.csv", _table(found))
    whole = analysis(found, config)
    run.write_json(ANALYSIS, whole)
    run.write_json("result.json", out)
    write_report(
        run,
        title=found.title,
        config=config.model_dump(mode="json"),
        confusion=scores.confusion() if scores.kind == "single" else None,
        classes=predictions.classes if scores.kind == "single" else None,
        extra=evaluation_sections(whole, out, predictions, scores, reader=config.data.reader),
    )


def _table(found: Evaluated) -> str:
    """predictions.csv: a row a video."""
    text, rows = io.StringIO(), found.predictions.rows
    writer = csv.writer(text)
    writer.writerow(["path", "label", "prediction", "probability"])
    predictions = found.scores.predictions(found.predictions.classes, rows.nouns or ())
    for row, told in zip(rows.rows, predictions, strict=True):
        writer.writerow([row.path, *told])
    return text.getvalue()
