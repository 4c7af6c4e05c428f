"""Detections as files that others read: a csv of our own form, and AVA's."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...data.boxes.ava import read_label_map
from ...errors import DataError, UsageError
from ...files import written
from ...scoring.detections import Detections

NUMBERS = "numbers"
"""The word for ids of AVA's form that count from 1 in the order of the model's classes."""

LABEL_MAP = "ava_classes.pbtxt"
"""The names of the ids, beside the list."""

_SIZE = 60e-6  # MB of a line, about
_ADVICE = "make room, or name another --out"


def write_csv(found: Detections, place: Path, topk: int) -> None:
    """Write ``path,frame,x1,y1,x2,y2,label,score`` lines, boxes in pixels, as `read_boxes` has it.

    A box has a line for each of its ``topk`` best classes, the best first. Paths are relative to
    the file's folder where they lie below it, else absolute.

    Args:
        found: what is written.
        place: the file.
        topk: classes of a box.
    """
    base = os.path.realpath(place.parent)
    names = []
    for path in found.paths:
        whole = os.path.realpath(path) if "::" not in path else path
        inside = whole.startswith(base + os.sep)
        names.append(os.path.relpath(whole, base) if inside else whole)
    boxes = found.in_pixels(found.row, found.box)
    size = len(found) * min(topk, len(found.classes)) * _SIZE
    with (
        written(place, size=size, advice=_ADVICE) as part,
        open(part, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "frame", "x1", "y1", "x2", "y2", "label", "score"])
        for box, label, score in _best(found, topk):
            corners = [f"{side:.3f}" for side in boxes[box]]
            name = names[int(found.row[box])]
            table.writerow(
                [name, int(found.frame[box]), *corners, found.classes[label], f"{score:.6f}"]
            )


def check_ids(labels: str | Path, classes: tuple[str, ...]) -> dict[str, int]:
    """The id of each class in AVA's form.

    Args:
        labels: `NUMBERS`, or a label map (``.pbtxt``).
        classes: of the model.

    Raises:
        UsageError: it is neither.
        DataError: the map lacks a class of the model.
    """
    if str(labels) == NUMBERS:
        return {name: number for number, name in enumerate(classes, start=1)}
    file = Path(labels)
    if file.suffix != ".pbtxt" or not file.is_file():
        raise UsageError(
            f"--ava {labels} is no label map",
            f"name a .pbtxt with the ids of the classes, or pass --ava {NUMBERS}",
        )
    ids = {name: number for number, name in read_label_map(str(file)).items()}
    missing = [name for name in classes if name not in ids]
    if missing:
        raise DataError(f"{file} has no class '{missing[0]}' of the model")
    return {name: ids[name] for name in classes}


def write_ava(
    found: Detections,
    place: Path,
    ids: Mapping[str, int],
    rates: Mapping[str, float],
    *,
    topk: int,
    origin: float = 0.0,
) -> None:
    """Write ``video,second,x1,y1,x2,y2,action,score`` lines as official evaluators of AVA read it.

    A video is called by its file's name without the suffix. The names of the ids stand in
    `LABEL_MAP` beside it.

    Args:
        found: what is written.
        place: the file.
        ids: of the classes.
        rates: frames per second of each video, by path.
        topk: classes of a box.
        origin: second of the film at which the videos begin.

    Raises:
        DataError: a video has no rate, so frames have no seconds.
    """
    for path in {found.paths[row] for row in np.unique(found.row).tolist()}:
        if not rates[path]:
            raise DataError(
                f"{path} has frames without a rate, and AVA's form has seconds", "leave out --ava"
            )
    size = len(found) * min(topk, len(found.classes)) * _SIZE
    with (
        written(place, size=size, advice=_ADVICE) as part,
        open(part, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        for box, label, score in _best(found, topk):
            path = found.paths[int(found.row[box])]
            second = origin + int(found.frame[box]) / rates[path]
            when = f"{second:04.0f}" if second == round(second) else f"{second:.6f}"
            corners = [f"{side:.6f}" for side in found.box[box].clip(0, 1)]
            name = os.path.splitext(os.path.basename(path))[0]
            table.writerow([name, when, *corners, ids[found.classes[label]], f"{score:.6f}"])
    items = (f'item {{\n  name: "{name}"\n  id: {number}\n}}\n' for name, number in ids.items())
    place.with_name(LABEL_MAP).write_text("".join(items), encoding="utf-8")


def _best(found: Detections, topk: int) -> Iterator[tuple[int, int, float]]:
    """Box, class and score of the best classes of each box."""
    order = np.argsort(-found.scores, axis=1, kind="stable")[:, :topk]
    for box, labels in enumerate(order.tolist()):
        for label in labels:
            yield box, label, float(found.scores[box, label])


def box_dicts(found: Detections, rates: Mapping[str, float], topk: int) -> dict[str, Any]:
    """The boxes of each video, ready for JSON, by its path.

    ``[{frame, time, box: [x1, y1, x2, y2] in pixels, [person,] classes: [{class, probability}]}]``;
    ``time`` in seconds is missing where there is none, ``person`` where nobody says how sure the
    box is.
    """
    boxes = found.in_pixels(found.row, found.box)
    result: dict[str, list[dict[str, Any]]] = {path: [] for path in found.paths}
    for box, label, score in _best(found, topk):
        path, frame = found.paths[int(found.row[box])], int(found.frame[box])
        entries = result[path]
        if not entries or entries[-1]["number"] != box:
            one: dict[str, Any] = {"number": box, "frame": frame}
            if rates[path]:
                one["time"] = round(frame / rates[path], 6)
            one["box"] = [round(float(side), 3) for side in boxes[box]]
            if np.isfinite(found.person[box]):
                one["person"] = round(float(found.person[box]), 6)
            entries.append({**one, "classes": []})
        entries[-1]["classes"].append(
            {"class": found.classes[label], "probability": round(score, 6)}
        )
    for entries in result.values():
        for one in entries:
            del one["number"]
    return result
