"""Key frames with boxes: from the files that the configuration names to what is read and scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ...config import DataConfig, DetectConfig, DetectScoring
from ...console import say
from ...data.boxes import BoxPart, read_boxes
from ...data.boxes.columns import Boxes
from ...data.boxes.joining import joined, of_boxes, of_rows, with_classes
from ...data.boxes.located import Located, locate
from ...data.rows import Probe, Row, Rows
from ...data.sources import hold_out
from ...data.sources.parts import fold_of
from ...errors import DataError, UsageError
from ..shared.arguments import as_list

Kind = Literal["multi", "single"]


@dataclass(frozen=True)
class Keyframes:
    """Key frames of videos that can be read.

    Attributes:
        rows: the videos.
        boxes: with frames, in fractions.
        where: the files, for messages.
        origin: second of the film that the videos begin at, where boxes had times.
        excluded: key frames that count for nothing, as row and frame.
    """

    rows: Rows
    boxes: Boxes
    where: str
    origin: float | None = None
    excluded: frozenset[tuple[int, int]] = frozenset()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.boxes.classes

    def described(self) -> str:
        """How much it is, in words."""
        boxes = self.boxes
        videos = len(np.unique(boxes.row))
        several = f"{len(boxes.box):,} boxes of {len(self.classes)} classes"
        return f"{len(boxes):,} key frames in {videos:,} videos, {several}"


def training_parts(
    data: DataConfig, seed: int, fold: tuple[int, int] | None = None
) -> tuple[list[BoxPart], list[BoxPart]]:
    """The files of training and validation boxes, as they stand there.

    Validation is an explicit ``data.val``; with ``fold`` that fold of the training videos; the
    validation or test part of data that has parts; else a share of the videos of each class, by
    seed.

    Raises:
        UsageError, DataError: as `read_boxes`, or a file has not the part that is wanted.
    """
    train: list[BoxPart] = []
    val: list[BoxPart] = [
        _picked(_read(place, data), ("val", "test")) for place in as_list(data.val)
    ]
    for place in as_list(data.train):
        parts = _read(place, data)
        own = _picked(parts, ("train",))
        if data.val is None and len(parts) > 1 and fold is None:
            val.append(_picked(parts, ("val", "test")))
        elif data.val is None:
            own, held = _held_out(own, data.val_fraction, seed, fold)
            val += held
        train.append(own)
    return train, val


def scored_parts(data: DataConfig) -> list[BoxPart]:
    """The boxes that are scored against: ``data.val``, else the validation part of ``data.train``.

    Raises:
        UsageError: no data is named.
    """
    places = as_list(data.val) or as_list(data.train)
    if not places:
        raise UsageError("no data to score", "pass --data BOXES.csv")
    return [_picked(_read(place, data), ("val", "test")) for place in places]


def _read(place: str, data: DataConfig) -> list[BoxPart]:
    return read_boxes(place, root=data.root, class_names=data.class_names, split=data.one_split)


def _picked(parts: Sequence[BoxPart], wanted: Iterable[str]) -> BoxPart:
    """The wanted part; a file without parts, or with a single one, is what is wanted."""
    if len(parts) == 1:
        return parts[0]
    by_name: dict[str, BoxPart] = {part.name: part for part in parts}
    names = list(wanted)
    for name in names:
        if name in by_name:
            return by_name[name]
    raise DataError(
        f"{parts[0].where} has no part '{names[0]}'", f"it has {' and '.join(sorted(by_name))}"
    )


def _held_out(
    part: BoxPart, fraction: float, seed: int, fold: tuple[int, int] | None
) -> tuple[BoxPart, list[BoxPart]]:
    """A share of the videos of each class held out, or a fold; nothing of a single video."""
    boxes = part.boxes
    row_of_label = np.repeat(boxes.row[boxes.key_of_box()], np.diff(boxes.label_starts))
    pairs = np.unique(np.stack([row_of_label, boxes.labels.astype(np.int64)], axis=1), axis=0)
    found: dict[int, list[int]] = {}
    for row, label in pairs.tolist():
        found.setdefault(row, []).append(label)
    rows = [replace(row, label=tuple(found.get(i, ()))) for i, row in enumerate(part.rows.rows)]
    labeled = Rows(tuple(rows), boxes.classes, "multi")
    kept, held = (
        hold_out(labeled, fraction, seed) if fold is None else fold_of(labeled, *fold, seed)
    )
    if not len(held):
        return part, []
    places = {row.path: i for i, row in enumerate(part.rows.rows)}

    def only(some: Rows) -> BoxPart:
        numbers = sorted({places[row.path] for row in some.rows})
        own = Rows(tuple(part.rows.rows[i] for i in numbers))
        return replace(part, rows=own, boxes=of_rows(boxes, numbers))

    train, val = only(kept), only(held)
    why = "data.val_fraction and train.seed" if fold is None else f"fold {fold[0]} of {fold[1]}"
    counts = f"{len(val.rows)} of {len(part.rows)} videos"
    say(f"{part.where}: {counts} are held out for validation, by {why}")
    return train, [val]


def rows_of(parts: Iterable[BoxPart]) -> Rows:
    """The videos of some parts, one after the other."""
    return Rows(tuple(row for part in parts for row in part.rows.rows))


def probes_of(*parts: Rows) -> dict[str, Probe | None]:
    """Facts of each video, by path, once they are checked."""
    return {row.path: row.probe for rows in parts for row in rows.rows}


def keyframes(
    parts: Sequence[BoxPart],
    probes: Mapping[str, Probe | None],
    *,
    origin: float | None,
    classes: Sequence[str] | None = None,
) -> Keyframes:
    """The key frames of the videos that can be read, of all parts as one; what is left out is said.

    Args:
        parts: as read.
        probes: by path of a video; None, or missing, where it cannot be read.
        origin: see ``data.time_origin``.
        classes: of the model or the training; default: of all parts, in the order of their first
            appearance.

    Raises:
        DataError: no key frame is left, or a class is not among the given ones.
    """
    names = classes or tuple(dict.fromkeys(n for part in parts for n in part.boxes.classes))
    found: list[tuple[Sequence[Row], Boxes]] = []
    excluded: set[tuple[str, int]] = set()
    begins = None
    for part in parts:
        boxes = with_classes(part.boxes, names, where=part.where)
        rows = [replace(row, probe=probes.get(row.path)) for row in part.rows.rows]
        located = locate(boxes, rows, origin=origin)
        _say_left_out(located, part)
        begins = located.origin if begins is None else begins
        found.append((rows, located.boxes))
        excluded |= _frames_of(part, rows, located.origin)
    rows_, boxes = joined(found)
    where = ", ".join(part.where for part in parts)
    if not len(boxes):
        raise DataError(f"no key frame of {where} is left", "see what was said of it above")
    place = {row.path: i for i, row in enumerate(rows_)}
    numbers = frozenset((place[path], frame) for path, frame in excluded)
    return Keyframes(Rows(rows_), boxes, where, begins, numbers)


def _frames_of(part: BoxPart, rows: Sequence[Row], origin: float | None) -> set[tuple[str, int]]:
    """The excluded key frames of a part by path and frame, as `locate` numbers them."""
    rates = {row.path: row.probe.fps for row in rows if row.probe is not None}
    if origin is None:
        return {(path, int(when)) for path, when in part.excluded if path in rates}
    return {
        (path, int(np.round((when - origin) * rates[path])))
        for path, when in part.excluded
        if path in rates
    }


def _say_left_out(located: Located, part: BoxPart) -> None:
    where = part.where
    if located.unread:
        say(f"note: {where}: {located.unread:,} key frames of videos that cannot be read, left out")
    if located.behind:
        path, count = located.behind[0]
        total = sum(n for _, n in located.behind)
        say(
            f"note: {where}: {total:,} key frames lie behind the end of their videos and are left "
            f"out, {count:,} of {path} among them"
        )
    if located.outside:
        say(f"note: {where}: {located.outside:,} boxes reach beyond the picture")
    if located.origin:
        say(f"{where}: videos begin at second {located.origin:g} of the film (data.time_origin)")


def trained_boxes(found: Keyframes, detect: DetectConfig) -> Keyframes:
    """The key frames and boxes of them that are trained on.

    Raises:
        DataError: none is left.
    """
    boxes = found.boxes
    keep = reliable(boxes, detect.min_score)
    if not detect.negatives:
        keep &= np.diff(boxes.label_starts) > 0
    if not keep.all():
        say(f"{int((~keep).sum()):,} boxes are left out by detect.min_score and detect.negatives")
    kept = of_boxes(boxes, keep, empty=False)
    if not len(kept) or not len(kept.labels):
        raise DataError(
            f"no box of {found.where} that is trained on has an action",
            "boxes need a label, and a score of at least detect.min_score where they have one",
        )
    return replace(found, boxes=kept)


def reliable(boxes: Boxes, least: float) -> np.ndarray:
    """Which boxes have no lower score of their own, bool (M,); without a score a box stays."""
    if boxes.score is None:
        return np.ones(len(boxes.box), dtype=bool)
    return np.asarray(~(boxes.score < least))


def kind_of(boxes: Boxes, wanted: Literal["auto", "multi", "single"]) -> Kind:
    """Several actions of a box at once, or one at most.

    Raises:
        DataError: one is wanted, and a box has several.
    """
    most = int(np.diff(boxes.label_starts).max(initial=0))
    if wanted == "single" and most > 1:
        raise DataError(
            f"a box has {most} actions, and detect.kind=single has one",
            "set detect.kind=multi, which is a sigmoid for each",
        )
    if wanted != "auto":
        return wanted
    kind: Kind = "multi" if most > 1 else "single"
    words = "several actions" if most > 1 else "one action at most"
    say(f"boxes have {words}: detect.kind={kind}")
    return kind


def people_of(truth: Keyframes, scoring: DetectScoring, data: DataConfig) -> tuple[Keyframes, str]:
    """The boxes that a model classifies where it is scored, and in words where they come from.

    Those of ``detect.boxes`` in the videos of the truth, in key frames that this does not exclude
    and of at least ``detect.min_score``; else the true ones themselves.

    Raises:
        DataError: the file has no box in these videos.
    """
    if scoring.boxes is None:
        return truth, "boxes are given: the true ones"
    file = scoring.boxes
    parts = read_boxes(file, root=data.root, class_names=data.class_names, split=data.one_split)
    probes = {row.path: row.probe for row in truth.rows.rows}
    nobody = truth.boxes.keys(np.zeros(len(truth.boxes), dtype=bool))
    found: list[tuple[Sequence[Row], Boxes]] = [(truth.rows.rows, nobody)]
    others: set[str] = set()
    for part in parts:
        known = [i for i, row in enumerate(part.rows.rows) if row.path in probes]
        others |= {row.path for row in part.rows.rows if row.path not in probes}
        rows = [replace(part.rows.rows[i], probe=probes[part.rows.rows[i].path]) for i in known]
        located = locate(of_rows(part.boxes, known), rows, origin=truth.origin)
        _say_left_out(located, part)
        found.append((rows, without_actions(located.boxes, truth.classes)))
    if others:
        say(f"{file}: boxes of {len(others):,} videos that are not scored are left out")
    rows_, boxes = joined(found)
    boxes = of_boxes(boxes, reliable(boxes, scoring.min_score), empty=False)
    counted = np.array([one not in truth.excluded for one in _frames(boxes)], dtype=bool)
    boxes = boxes.keys(counted)
    if not len(boxes):
        raise DataError(f"{file} has no box in the videos of {truth.where}", "check its paths")
    people = Keyframes(Rows(rows_), boxes, file, truth.origin, truth.excluded)
    alone = len(set(_frames(boxes)) - set(_frames(truth.boxes)))
    if alone:
        say(f"{alone:,} key frames have boxes in {file} and no true one: all found there is wrong")
    return people, f"boxes of {file}"


def without_actions(boxes: Boxes, classes: tuple[str, ...]) -> Boxes:
    """The boxes alone, as those of some classes."""
    return replace(
        boxes,
        classes=classes,
        label_starts=np.zeros(len(boxes.box) + 1, dtype=np.int32),
        labels=np.zeros(0, dtype=np.int16),
    )


def _frames(boxes: Boxes) -> Iterable[tuple[int, int]]:
    assert boxes.frame is not None
    return zip(boxes.row.tolist(), boxes.frame.tolist(), strict=True)
