"""What an evaluation tells and writes, whether a model ran or its predictions were read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...console import say
from ...engine.run_folder import RunFolder, default_out
from ...errors import UsageError
from ...files import check_out
from ...report import plots
from ...report.html import Section, table
from ...report.judged_clips import clip_sections
from ...report.run_report import write_report
from ...report.scores import calibration_sections, label_sections
from ...scoring.analysis import calibration_of, class_analysis, classes_without_videos
from ...scoring.bootstrap import intervals
from ...scoring.comparison import compare, mcnemar
from ...scoring.predictions import FILE, LAYOUTS, Predictions, curve_of, load
from ...scoring.scores import Scores, wilson
from ..shared.run_records import open_recorded, replaced_folder
from .settings import EvaluateConfig

if TYPE_CHECKING:
    from ...scoring.predictions import Predictions
    from ...scoring.scores import Scores

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
        config=config,
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
    with replaced_folder(config.out, lambda: open_recorded(config, "eval")) as run:
        write_results(run, config, evaluated, out)
    return out


_CLASSES = 10  # with the largest gain, and with the largest loss


def evaluation_sections(
    analysis: Mapping[str, Any],
    result: Mapping[str, Any],
    predictions: Predictions,
    scores: Scores,
    *,
    reader: str = "auto",
) -> list[Section]:
    """The parts of an evaluation that there are.

    Args:
        analysis: what analysis.json has.
        result: what result.json has.
        predictions: of the videos, for the pictures of some.
        scores: of these.
        reader: what decodes.
    """
    names, nouns = predictions.classes, predictions.rows.nouns or ()
    parts = label_sections(analysis, scores, names, nouns)
    if analysis["calibration"] is not None:
        parts += calibration_sections(analysis["calibration"])
    if "curve" in result:
        parts.append(_curve(result["curve"]))
    if "temporal" in result:
        parts.append(_temporal(result))
    if "against" in analysis:
        parts.append(_against(analysis["against"]))
    found = zip(predictions.rows.rows, predictions.keys, strict=True)
    located = [replace(row, path=path) for row, (path, _, _) in found]
    return parts + clip_sections(located, scores, names, nouns, reader=reader)


def _metrics(values: Mapping[str, Any]) -> list[str]:
    names = ("map", "top1", "top5", "mean_class_accuracy", "top1_verb", "top1_noun")
    return [name for name in names if name in values]


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


def _against(comparison: Mapping[str, Any]) -> Section:
    rows = [
        [name, value["here"], value["there"], value["gain"], _ends(value["interval"])]
        for name, value in comparison["metrics"].items()
    ]
    body = table(["", "here", "there", "gain", "95 % interval"], rows)
    counts = comparison["mcnemar"]
    headers = ["both right", "only here", "only there", "neither", "p (McNemar)"]
    keys = ("both", "here", "there", "neither", "p_value")
    body += table(headers, [[counts[key] for key in keys]])
    classes = comparison["classes"]
    shown = classes if len(classes) <= 2 * _CLASSES else classes[:_CLASSES] + classes[-_CLASSES:]
    lines = [
        [
            one["class"],
            one["videos"],
            one["here"],
            one["there"],
            one["gain"],
            _ends(one["interval"]),
        ]
        for one in shown
    ]
    body += table(["class", "videos", "here", "there", "gain", "95 % interval"], lines)
    note = (
        f"{comparison['videos']} videos that both have; only here {comparison['only_here']}, only "
        f"there {comparison['only_there']}, without scores in one {comparison['unscored']}."
    )
    if len(shown) < len(classes):
        note += f" The {_CLASSES} classes of largest gain and loss; analysis.json has all."
    return Section(f"Against {comparison['model']}", body, note)


def _ends(interval: list[float] | None) -> str | None:
    return None if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
