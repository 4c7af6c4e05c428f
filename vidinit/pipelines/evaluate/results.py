"""Results of an evaluation: result.json, analysis.json, predictions.csv and report.html.

They come from predictions alone, whether a model has just made them or they were saved earlier, so
nothing here needs torch.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...console import say
from ...engine.run_folder import RunFolder, default_out
from ...errors import UsageError
from ...files import check_out, folder_locks
from ...report import plots
from ...report.clip_examples import clip_sections
from ...report.html import Section, table
from ...report.result_parts import METRICS
from ...report.run_report import write_report
from ...report.scores import (
    calibration_sections,
    interval_words,
    label_sections,
    time_section,
    two_class_sections,
)
from ...scoring.analysis import calibration_of, class_analysis, classes_without_videos
from ...scoring.comparison import compare, mcnemar
from ...scoring.fusion import fuse
from ...scoring.metrics import Scores, intervals, wilson
from ...scoring.predictions import FILE, LAYOUTS, Predictions, curve_of, load
from ...scoring.two_class import Wish, positive_class, two_class
from ...zoo.probabilities import Average
from ..shared.run_records import open_recorded, replaced_folder
from .answer import evaluation_answer
from .settings import EvaluateConfig

ANALYSIS = "analysis.json"
"""Classes, calibration, mistakes, confusion and comparison of an evaluation."""


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation, whether a model ran or saved predictions were read.

    Attributes:
        predictions: of the videos as they are.
        scores: of these.
        title: of the report.
        tests: scores of the same videos, by the name of a temporal test.
        time: whether the data needs time, see `scoring.time_test`; empty where it was not asked.
        against: how they compare with other predictions; see `comparison.compare`.
    """

    predictions: Predictions
    scores: Scores
    title: str
    tests: dict[str, Scores] = field(default_factory=dict)
    time: dict[str, Any] = field(default_factory=dict)
    against: dict[str, Any] = field(default_factory=dict)


# Settings that the saved logits were computed with: scoring them again cannot change these.
_SETTLED = ("clips", "crops", "dense", "step", "tests", "time_test", "scores")


def rescore(
    config: EvaluateConfig, keys: set[str], *, processes: int, overwrite: bool
) -> dict[str, Any]:
    """`vidinit.evaluate` of saved predictions.

    Args:
        config: names them.
        keys: settings that the user set, as ``eval.clips``.
        processes: 1.
        overwrite: replace what an earlier evaluation wrote.

    Raises:
        UsageError: settings that need the model.
        DataError: the predictions cannot be read.
    """
    ours = {"model", "predictions", "fuse", "weight", "against", "out", "seed"}
    ours |= {f"eval.{key}" for key in type(config.eval).model_fields if key not in _SETTLED}
    if (foreign := sorted(keys - ours)) or processes > 1:
        name = foreign[0] if foreign else "--processes"
        raise UsageError(
            f"{name} needs the model, and saved predictions are scored without it",
            "leave it out, or leave --predictions out",
        )
    assert config.predictions is not None
    predictions = load(config.predictions)
    config.out = config.out or str(default_out("eval", config.model))
    check_out(Path(config.out), overwrite=overwrite)
    videos, layout = len(predictions.rows), predictions.layout
    say(f"{config.predictions}: {videos} videos, {layout} views, of {predictions.model}")
    average = config.eval.average if "eval.average" in keys else None
    fused: dict[str, Any] = {}
    if config.fuse is not None:
        predictions, fused = _fused(predictions, config, average)
    elif "weight" in keys:
        raise UsageError("--weight is for two predictions", "name the second by --fuse")
    elif average is not None:
        predictions = replace(predictions, average=average)
    check_positive(config, predictions)
    evaluation = Evaluation(
        predictions,
        predictions.scores(),
        title=f"eval {predictions.model}",
        against=comparison_of(predictions, config),
    )
    out = summary(evaluation, config)
    if fused:
        out.pop("top1_per_view", None)
        out |= fused
    out["out"] = config.out
    with (
        folder_locks(),
        replaced_folder(config.out, lambda: open_recorded(config, "eval")) as run,
    ):
        write_results(run, config, evaluation, out)
    return out


def _fused(
    predictions: Predictions, config: EvaluateConfig, average: Average | None
) -> tuple[Predictions, dict[str, Any]]:
    """Predictions averaged with those of a second stream, and what a result says of the two."""
    assert config.fuse is not None
    if config.eval.curve:
        raise UsageError(
            "--curve is over the views of one model, and --fuse averages those of two",
            "leave out one of them",
        )
    other = load(config.fuse)
    say(f"{config.fuse}: {len(other.rows)} videos, {other.layout} views, of {other.model}")
    streams, weights = (predictions, other), (config.weight, round(1 - config.weight, 6))
    views = [one.layout if one.layout in LAYOUTS else one.clips * one.crops for one in streams]
    fixed = all(isinstance(count, int) for count in views)
    told: dict[str, Any] = {
        "views": sum(map(int, views)) if fixed else " + ".join(map(str, views)),
        "clips": None,  # the two may differ in them
        "crops": None,
        "fused": [
            {"model": one.model, "weight": weight, "views": count}
            for one, weight, count in zip(streams, weights, views, strict=True)
        ],
    }
    return fuse(predictions, other, weight=config.weight, average=average), told


def summary(evaluation: Evaluation, config: EvaluateConfig) -> dict[str, Any]:
    """result.json, which ``--json`` prints: fractions, views, videos counted, videos missing."""
    predictions, scores = evaluation.predictions, evaluation.scores
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
        "classes": len(predictions.classes),
        "videos": counted,
        "missing": [path for path, _ in scores.missing],
        "empty_classes": classes_without_videos(scores, predictions.classes, nouns),
    }
    spread = intervals(scores, resamples=config.eval.resamples, seed=config.seed)
    out["intervals"] = {name: [round(end, 6) for end in ends] for name, ends in spread.items()}
    if "top1" in spread:
        out["intervals"]["top1"] = out["top1_interval"]  # one interval of one figure
    if "map" in spread:
        out["map_interval"] = out["intervals"]["map"]
    if (calibration := calibration_of(scores, config.eval.bins)) is not None:
        out["ece"] = round(calibration["ece"], 6)
    if config.eval.curve:
        out["curve"] = [{**views, **rounded(metrics)} for views, metrics in curve_of(predictions)]
    if evaluation.tests:
        out["temporal"] = {
            name: _temporal_test(scores, other) for name, other in evaluation.tests.items()
        }
    found = two_classes(evaluation, config, resamples=config.eval.resamples)
    if found is not None:
        out["two_class"] = {k: v for k, v in dict(_rounded(found)).items() if k != "curve"}
    if evaluation.time:
        out["time"] = evaluation.time
    if config.against is not None:
        compared = evaluation.against.items()
        out["against"] = {key: value for key, value in compared if key != "classes"}
    return out


def check_positive(config: EvaluateConfig, predictions: Predictions) -> None:
    """Raise UsageError where ``eval.positive`` is no class, before anything is scored."""
    name = config.eval.positive
    if name is not None and predictions.rows.kind != "single":
        raise UsageError("--positive is for one label a video", "leave it out")
    positive_class(np.zeros(0, np.int64), predictions.classes, name)


def two_classes(
    evaluation: Evaluation, config: EvaluateConfig, *, resamples: int
) -> dict[str, Any] | None:
    """One class against all others, where there are two or one is named; see `two_class`.

    Raises:
        UsageError: there is no such class, or several thresholds are wished.
    """
    views = config.eval
    return two_class(
        evaluation.scores,
        evaluation.predictions.classes,
        positive=views.positive,
        wish=Wish(views.threshold, views.wanted_precision, views.wanted_recall),
        resamples=resamples,
        seed=config.seed,
    )


def _temporal_test(plain: Scores, reordered: Scores) -> dict[str, Any]:
    """Metrics of a temporal test, their change, and the p-value of that (`mcnemar`)."""
    before, after = plain.metrics(), reordered.metrics()
    test = mcnemar(plain.hits()["top1"], reordered.hits()["top1"])
    change = {name: after[name] - before[name] for name in before}
    return {**rounded(after), "change": rounded(change), "p_value": float(f"{test['p_value']:.6g}")}


def comparison_of(predictions: Predictions, config: EvaluateConfig) -> dict[str, Any]:
    """The comparison with another evaluation, if there is to be one."""
    if config.against is None:
        return {}
    other = load(config.against)
    comparison = compare(predictions, other, resamples=config.eval.resamples, seed=config.seed)
    return dict(_rounded(comparison))


def analysis(evaluation: Evaluation, config: EvaluateConfig) -> dict[str, Any]:
    """analysis.json: everything that is too long for result.json."""
    scores, predictions = evaluation.scores, evaluation.predictions
    rows, classes = predictions.rows, predictions.classes
    details = {
        "calibration": calibration_of(scores, config.eval.bins),
        **class_analysis(scores, rows.rows, classes, rows.nouns or ()),
    }
    if evaluation.against:
        details["against"] = evaluation.against
    if (found := two_classes(evaluation, config, resamples=0)) is not None:
        details["two_class"] = found
    return dict(_rounded(details))


def rounded(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics with six digits: a kernel's rounding errors are too small to change these."""
    return {key: round(value, 6) for key, value in metrics.items()}


def _rounded(value: Any) -> Any:
    """`rounded` of nested values; p-values keep six significant digits, as they may be small."""
    if isinstance(value, dict):
        return {
            key: float(f"{one:.6g}") if key == "p_value" else _rounded(one)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


def write_results(
    run: RunFolder, config: EvaluateConfig, evaluation: Evaluation, out: dict[str, Any]
) -> None:
    """predictions.npz and .csv, analysis.json, result.json and report.html of an evaluation.

    Raises:
        VidinitError: the disk does not take them.
    """
    predictions, scores = evaluation.predictions, evaluation.scores
    predictions.save(run.claim(FILE))
    run.write("predictions.csv", _table(evaluation))
    details = analysis(evaluation, config)
    if "two_class" in out:
        details["two_class"] |= out["two_class"]  # with the interval of the area
    run.write_json(ANALYSIS, details)
    run.write_json("result.json", out)
    write_report(
        run,
        title=evaluation.title,
        config=config,
        confusion=scores.confusion() if scores.kind == "single" else None,
        classes=predictions.classes if scores.kind == "single" else None,
        extra=evaluation_sections(details, out, predictions, scores, reader=config.data.reader),
        answer=evaluation_answer(out, scores, predictions.classes),
    )


def _table(evaluation: Evaluation) -> str:
    """predictions.csv: a row a video."""
    text, rows = io.StringIO(), evaluation.predictions.rows
    writer = csv.writer(text)
    writer.writerow(["path", "label", "prediction", "probability"])
    classes = evaluation.predictions.classes
    predictions = evaluation.scores.predictions(classes, rows.nouns or ())
    for row, cells in zip(rows.rows, predictions, strict=True):
        writer.writerow([row.path, *cells])
    return text.getvalue()


def evaluation_sections(
    analysis: Mapping[str, Any],
    result: Mapping[str, Any],
    predictions: Predictions,
    scores: Scores,
    *,
    reader: str = "auto",
) -> list[Section]:
    """The sections of an evaluation's report; those of what was not asked for are left out.

    Args:
        analysis: analysis.json.
        result: result.json.
        predictions: of the videos, for the pictures of some.
        scores: of these.
        reader: what decodes.
    """
    names, nouns = predictions.classes, predictions.rows.nouns or ()
    parts = two_class_sections(analysis["two_class"]) if "two_class" in analysis else []
    parts += label_sections(analysis, scores, names, nouns)
    if analysis["calibration"] is not None:
        parts += calibration_sections(analysis["calibration"])
    if "curve" in result:
        parts.append(_curve(result["curve"]))
    if "temporal" in result:
        parts.append(_temporal(result))
    if "time" in result:
        parts.append(time_section(result["time"]))
    if "against" in analysis:
        parts.append(_against(analysis["against"]))
    keys = zip(predictions.rows.rows, predictions.keys, strict=True)
    located = [replace(row, path=path) for row, (path, _, _) in keys]
    return parts + clip_sections(located, scores, names, nouns, reader=reader)


def _metrics(values: Mapping[str, Any]) -> list[str]:
    return [name for name in METRICS if name in values]


def _curve(points: list[dict[str, Any]]) -> Section:
    first = _metrics(points[0])[0]
    series: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        crops = point["crops"]
        name = "1 crop" if crops == 1 else f"{crops} crops"
        series.setdefault(name, []).append((point["clips"], point[first]))
    names = _metrics(points[0])
    rows = [[f"{p['clips']} x {p['crops']}", *(p[name] for name in names)] for p in points]
    body = plots.curves(series, xlabel="clips of a video", ylabel=first)
    body += table(["clips x crops", *names], rows)
    note = "All from one pass: of the clips those that lie nearest to where so few would."
    return Section("Views", body, note)


def _temporal(result: Mapping[str, Any]) -> Section:
    names = _metrics(result)
    rows = [["as they are", *(result[name] for name in names), None]]
    for test, values in result["temporal"].items():
        rows.append([test, *(values[name] for name in names), values["p_value"]])
    note = (
        "The same clips with their frames reversed, shuffled, or the one in the middle repeated. "
        "p: how often chance alone would change as many videos (McNemar)."
    )
    return Section("Other orders of the frames", table(["frames", *names, "p"], rows), note)


_MOST = 10  # of those with the largest gain, and of those with the largest loss


def _against(comparison: Mapping[str, Any]) -> Section:
    rows = [
        [name, value["here"], value["there"], value["gain"], interval_words(value["interval"])]
        for name, value in comparison["metrics"].items()
    ]
    body = table(["", "here", "there", "gain", "95 % interval"], rows)
    counts = comparison["mcnemar"]
    headers = ["both right", "only here", "only there", "neither", "p (McNemar)"]
    keys = ("both", "here", "there", "neither", "p_value")
    body += table(headers, [[counts[key] for key in keys]])
    classes = comparison["classes"]
    shown = classes if len(classes) <= 2 * _MOST else classes[:_MOST] + classes[-_MOST:]
    if shown:
        points = {str(one["class"]): 100 * one["gain"] for one in shown}
        body += plots.gains(points, xlabel=f"gain over {comparison['model']}, points")
    lines = [
        [
            one["class"],
            one["videos"],
            one["here"],
            one["there"],
            one["gain"],
            interval_words(one["interval"]),
        ]
        for one in shown
    ]
    body += table(["class", "videos", "here", "there", "gain", "95 % interval"], lines)
    note = (
        f"{comparison['videos']} videos that both have; only here {comparison['only_here']}, only "
        f"there {comparison['only_there']}, without scores in one {comparison['unscored']}."
    )
    if len(shown) < len(classes):
        note += f" The {_MOST} classes of largest gain and loss; analysis.json has all."
    return Section(f"Against {comparison['model']}", body, note)
