"""What the report of an evaluation has beside the classes: views, changed clips, comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import plots
from .clips import clip_sections
from .html import Section, table
from .scores import calibration_sections, label_sections

if TYPE_CHECKING:
    from ..engine.predictions import Predictions
    from ..engine.scores import Scores

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
