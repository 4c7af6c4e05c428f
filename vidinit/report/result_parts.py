"""result.json of a run as tables, however it is nested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..console import duration
from .html import Section, details, table

LABELS = {
    "out": "Run folder",
    "steps": "Training steps",
    "best": "Best validation score",
    "videos": "Videos",
    "skipped": "Clips skipped while training",
    "views": "Views per video (clips x crops)",
    "missing": "Videos that could not be read",
    "top1": "Top-1 accuracy",
    "train_top1": "Top-1 on training clips",
    "val_loss": "Validation loss",
    "top5": "Top-5 accuracy",
    "mean_class_accuracy": "Mean class accuracy",
    "top1_interval": "95 % interval of top-1",
    "map": "Mean average precision",
    "frame_ap": "Frame-AP, mean over classes",
    "frame_ap_at": "Frame-AP by the least IoU of a right box",
    "video_ap": "Video-AP, mean over classes",
    "video_ap_at": "Video-AP by the least IoU of a right tube",
    "no_video_ap": "No video-AP",
    "protocol": "Protocol of average precision",
    "iou": "Least IoU of a right box",
    "given": "Boxes that were scored",
    "key_frames": "Key frames",
    "unread": "Key frames that could not be read",
    "tubes": "Tubes",
    "top1_action": "Top-1 of the action",
    "top1_verb": "Top-1 of the verb",
    "top1_noun": "Top-1 of the noun",
    "top5_action": "Top-5 of the action",
    "top5_verb": "Top-5 of the verb",
    "top5_noun": "Top-5 of the noun",
    "epochs": "Epochs",
    "seconds": "Time in all",
    "clips_per_second": "Clips per second",
    "data_wait": "Waiting for data",
    "top1_per_view": "Top-1 accuracy of single views",
    "average": "What is averaged over views",
    "expected": "Videos expected",
    "decoded": "Videos decoded",
    "intervals": "95 % intervals",
    "ece": "Expected calibration error",
    "classes": "Classes",
    "empty_classes": "Classes of the model without a video",
    "map_interval": "95 % interval of the mean average precision",
    "curve": "By fewer views",
    "temporal": "With the frames in another order",
    "against": "Against another evaluation",
    "sources": "Sources",
    "overlap": "Validation clips that are trained on, too",
    "class_clips": "Training clips of a class",
    "left_out": "Training clips left out, as other sources have them",
    "notes": "What to know of the data",
    "probe": "Probe in the model folder",
    "probes": "Probes",
    "choice": "The probe was chosen on held-out training clips",
    "test": "Test clips, scored once by the model that is kept",
    "clips": "Clips per video",
    "crops": "Crops per clip",
}
"""By key of result.json and metrics.jsonl."""
_OF_THE_RUN = (
    *("out", "best", "steps", "epochs", "videos", "skipped"),
    *("seconds", "clips_per_second", "data_wait"),
    *("views", "clips", "crops", "average", "expected", "decoded", "missing", "empty_classes"),
    "classes",
    *("overlap", "class_clips", "left_out"),
)
"""Entries that count the work rather than how good it is."""
METRICS = (
    *("frame_ap", "video_ap", "map"),
    *("top1", "top5", "mean_class_accuracy", "top1_verb", "top1_noun"),
)
"""Those that are fractions of the videos and share a picture."""
_ELSEWHERE = {
    *("curve", "temporal", "against", "two_class", "by_class"),
    *("health", "scores"),  # in the answer
}
"""Entries that have a part of the page of their own."""
_NOTES = "notes"  # sentences
_COUNTS = ("skipped", "overlap", "left_out", "empty_classes")  # of which there are often none
_ROWS, _ROWS_AT_ONCE = 1000, 20  # of a table; more than a few are there to be opened


def result_sections(result: Mapping[str, Any]) -> list[Section]:
    """The figures of a run: how good it is, folded what it took, and a part for what has parts."""
    notes = result.get(_NOTES)
    shown = {k: v for k, v in result.items() if k != _NOTES and k not in _ELSEWHERE}
    count = result.get("classes")
    if isinstance(count, int) and count <= 5 and "top1_verb" not in result:
        shown.pop("top5", None)  # all of them are among the first five
    single = {key: value for key, value in shown.items() if not _has_parts(value)}
    figures = {key: value for key, value in single.items() if key not in _OF_THE_RUN}
    work = {key: single[key] for key in _OF_THE_RUN if key in single}
    sections = [Section("Result", _single(figures))] if figures else []
    if work:
        sections.append(Section("The run in numbers", _single(work), folded=True))
    if notes:
        sections.append(Section(LABELS[_NOTES], table(("",), [(note,) for note in notes])))
    for key, value in shown.items():
        if _has_parts(value):
            sections.append(Section(LABELS.get(key, key.capitalize()), _parts(value)))
    return sections


def split(key: str) -> tuple[str, str]:
    """A metric's name and its source: ``top1_photos`` is top1 of photos, ``top1`` of no source."""
    for metric in METRICS:
        if key == metric or key.startswith(f"{metric}_"):
            return metric, key[len(metric) + 1 :]
    return key, ""


def phrase(value: Any) -> Any:
    """A value in words; numbers and texts stay."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {phrase(item)}" for key, item in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    if not isinstance(value, list):
        return value
    if len(value) == 2 and all(isinstance(item, float) for item in value):
        return f"{value[0]:.4g} to {value[1]:.4g}"
    if not value:
        return 0
    more = ", …" if len(value) > 5 else ""
    return f"{len(value)}: {', '.join(str(phrase(item)) for item in value[:5])}{more}"


def _has_parts(value: Any) -> bool:
    items = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, (Mapping, list)) and any(isinstance(one, Mapping) for one in items)


def _single(values: Mapping[str, Any]) -> str:
    return table(("", ""), [(LABELS.get(k, k), _in_words(k, v)) for k, v in values.items()])


def _in_words(key: str, value: Any) -> Any:
    """A figure of a run as a person would say it."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if key == "data_wait":
            return f"{'less than 1 %' if 0 < value < 0.005 else f'{value:.0%}'} of the time"
        if key == "seconds":
            return f"{value:.1f} s" if value < 60 else f"{duration(value)} (h:min:s)"
        if key == "clips_per_second":
            return f"{value:.1f}"
    if value is None or value == [] or (value == 0 and key in _COUNTS):
        return "none"
    return phrase(value)


def _parts(value: Any) -> str:
    if isinstance(value, list):
        return _rows([dict(item) for item in value if isinstance(item, Mapping)])
    if all(isinstance(item, Mapping) for item in value.values()):
        if any(_has_parts(part) for item in value.values() for part in item.values()):
            return "".join(_titled(key, item) for key, item in value.items())
        return _rows([{"": key, **item} for key, item in value.items()])
    single = {key: item for key, item in value.items() if not isinstance(item, (Mapping, list))}
    others = {key: item for key, item in value.items() if key not in single}
    return _single(single) + "".join(_titled(key, item) for key, item in others.items())


def _titled(key: str, value: Any) -> str:
    body = _parts(value) if _has_parts(value) else _flat(value)
    return f"<h3>{escape(LABELS.get(key, key))}</h3>{body}"


def _flat(value: Any) -> str:
    return _single(value) if isinstance(value, Mapping) else table(("",), [(phrase(value),)])


def _rows(items: Sequence[Mapping[str, Any]]) -> str:
    """Dicts as the rows of a table, by their keys."""
    keys = list(dict.fromkeys(key for item in items for key in item))
    headers = [LABELS.get(key, key) for key in keys]
    cells = [[_cell(item.get(key)) for key in keys] for item in items[:_ROWS]]
    first, then = cells[:_ROWS_AT_ONCE], cells[_ROWS_AT_ONCE:]
    left = len(items) - len(cells)
    rest = f", {left} are in result.json" if left else ""
    body = table(headers, first)
    return body + (details(f"{len(then)} more{rest}", table(headers, then)) if then else "")


def _cell(value: Any) -> Any:
    return phrase(value) if isinstance(value, (Mapping, list)) else value
