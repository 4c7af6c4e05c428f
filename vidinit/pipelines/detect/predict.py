"""`vidinit predict` with a detector: the actions of people in videos, box by box."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...checkpoint import load_detector, model_folder, read_card
from ...config import DEFAULT, DetectScoring
from ...console import ProgressBar, say, with_messages
from ...data.boxes import read_boxes
from ...data.boxes.columns import Boxes
from ...data.boxes.joining import joined, of_boxes, of_rows, with_classes
from ...data.boxes.located import locate
from ...data.loading.quarantine import Quarantine
from ...data.readers import VideoReadError, open_row
from ...data.rows import Row, Rows, clip_keys
from ...engine.accelerators import make_accelerator
from ...engine.run_folder import RunFolder
from ...errors import DataError, UsageError
from ...measure.speed import pick_device
from ...report.html import Section, page, table
from ...scoring.detections import FILE, Detections
from ...zoo.detector import Detector
from ..evaluate.settings import EvaluateConfig
from ..predict.lines import Prediction
from ..shared.clips import check_all_rows, workers_of
from ..shared.modality import set_spec
from .data import Keyframes, reliable, without_actions
from .draw import Drawn, drawn_box, frames_with, thickness, write_video
from .forms import box_dicts, check_ids, write_ava, write_csv
from .people import (
    MOTION,
    Finder,
    Moving,
    PersonDetector,
    all_key_frames,
    boxes_of,
    check_people,
    find_people,
    open_detector,
)
from .report import key_frame_sections
from .results import scores_of
from .score import OWN, detect_key_frames, detections_of
from .tables import class_section

EVERY = 1.0
"""Seconds from one key frame to the next, where nobody says; AVA's."""

SURE = 0.8
"""Least score of a person whom a detector found, where nobody says (PySlowFast's for AVA)."""


@dataclass(frozen=True)
class Wanted:
    """Where the boxes come from, and what is written; see `vidinit.predict`."""

    boxes: str | Path | None
    people: str | None
    people_weights: str | Path | None
    every: float | None
    ava: str | Path | None
    video: bool
    topk: int

    @property
    def own(self) -> bool:
        """True where nobody says where boxes are, so that the model has to."""
        return self.boxes is None and self.people is None

    def check(self, model: Detector | str | Path) -> None:
        """Refuse what does not go together.

        Args:
            model: a detector, or its folder.

        Raises:
            UsageError: boxes come from nowhere, or from two places.
        """
        if (self.own and not _proposes(model)) or (self.boxes and self.people):
            raise UsageError(
                "a detector tells what people do in boxes, and one place they come from",
                f"pass --boxes FILE, or --people with a detector of torchvision's or {MOTION}",
            )
        if self.people is not None:
            check_people(self.people)
        if self.boxes is not None and self.every is not None:
            raise UsageError("--boxes names the key frames", "leave --every out")
        if self.people_weights is not None and self.people in (None, MOTION):
            raise UsageError("--people-weights are of a detector", "name it with --people")


def _proposes(model: Detector | str | Path) -> bool:
    """True for a detector, or the folder of one, with proposals of its own."""
    if not isinstance(model, (str, Path)):
        return model.proposals is not None
    folder = model_folder(model)
    detect = None if folder is None else read_card(folder).detect
    return detect is not None and detect.proposals is not None


def predict_boxes(
    model: Detector | str | Path,
    config: EvaluateConfig,
    files: Sequence[str],
    wanted: Wanted,
    *,
    overwrite: bool,
    tell: Callable[[Prediction], None] | None,
) -> list[Prediction]:
    """A prediction for each file, with its boxes, and the folder ``config.out`` with all else.

    In the folder are ``boxes.csv``, ``detections.npz``, ``report.html`` and, as wanted, ``ava.csv``
    and ``videos/``.

    Args:
        model: a detector, or its folder.
        config: how files are read and boxes are scored.
        files: as the user named them.
        wanted: where boxes come from, and what is written.
        overwrite: replace an earlier folder.
        tell: called with each prediction.

    Raises:
        UsageError, DataError, VidinitError: as `vidinit.predict`.
    """
    data = config.data
    if not isinstance(model, (str, Path)):
        config.device = next(model.parameters()).device.type  # type: ignore[assignment]
    pick_device(config.device)
    accelerator = make_accelerator(config, seed=config.seed)
    detector = model
    if isinstance(detector, (str, Path)):
        detector = load_detector(detector).to(accelerator.device)
    set_spec(detector.trunk, data)
    classes = tuple(detector.classes or map(str, range(detector.num_classes)))
    ids = None if wanted.ava is None else check_ids(wanted.ava, classes)
    checked = check_all_rows(Rows(tuple(Row(file) for file in dict.fromkeys(files))), data, "files")
    rows = checked.rows.of([row for row in checked.rows.rows if row.probe is not None])
    assert config.out is not None
    run = RunFolder.open(config.out, overwrite=overwrite)
    quarantine = Quarantine()
    truth, origin = None, None
    errors: dict[int, str] = {}
    if wanted.boxes is not None:
        people, truth, origin = boxes_from_file(wanted.boxes, rows, config, classes)
    elif wanted.own:
        people = Keyframes(rows, _nobody(rows, wanted), OWN)
    else:
        people, errors = _found_people(rows, config, wanted, accelerator.device, quarantine)
    found = detect_key_frames(
        detector,
        people,
        accelerator,
        own=config.detect.min_score if wanted.own else None,
        fit=data.fit,
        batch_size=data.clips,
        workers=workers_of(data, 1),
        deadline=data.deadline,
        reader=data.reader,
        decode_side=data.decode_side,
        partial=data.partial,
        quarantine=quarantine,
    )
    detections = detections_of(
        found,
        people,
        truth,
        classes=classes,
        model=config.model,
        given=people.where,
        moved=detector.settings.regress,
    )
    if wanted.own:
        say(f"{OWN}: {len(detections):,} in {len(people.boxes):,} key frames")
    reasons = {
        **checked.known,
        **{rows.rows[number].path: reason for number, reason in errors.items()},
        **dict(detections.missing),
    }
    _write(run, detections, people, rows, wanted, ids, origin or 0.0)
    boxes = box_dicts(detections, _rates(rows), wanted.topk)
    predictions = []
    for file in files:
        entries = boxes.get(file, [])
        best: dict[str, float] = {}
        for one in entries:
            for each in one["classes"]:
                best[each["class"]] = max(best.get(each["class"], 0.0), each["probability"])
        ranked = sorted(best.items(), key=lambda item: -item[1])[: wanted.topk]
        prediction = Prediction(file, ranked, error=reasons.get(file), boxes=entries)
        predictions.append(prediction)
        if tell is not None:
            tell(prediction)
    return predictions


def _rates(rows: Rows) -> dict[str, float]:
    return {row.path: row.probe.fps for row in rows.rows if row.probe is not None}


# ------------------------------------------------------------------------------ where boxes are


def boxes_from_file(
    file: str | Path, rows: Rows, config: EvaluateConfig, classes: tuple[str, ...]
) -> tuple[Keyframes, Keyframes | None, float | None]:
    """The boxes of a file in these videos: each box once, whatever is said to be done in it.

    A video of the file is one of these by its path, or by its name without folder and suffix where
    only one is called so.

    Args:
        file: of boxes.
        rows: the videos, with their probes.
        config: how the file is read, and the least score of a box.
        classes: of the model.

    Returns:
        The boxes; the same with their actions as the truth, where all of these are the model's
        classes; and the second of the film at which the videos begin, where the file has seconds.

    Raises:
        UsageError, DataError: as `read_boxes`; or it has no box in these videos.
    """
    data = config.data
    parts = with_messages(
        lambda: read_boxes(file, root=data.root, split=data.one_split, find=False)
    )
    by_path = {key: number for number, key in enumerate(clip_keys(rows.rows))}
    stems = Counter(_stem(row.path) for row in rows.rows)
    by_stem = {
        stem: number for number, row in enumerate(rows.rows) if stems[stem := _stem(row.path)] == 1
    }
    names = {name for part in parts for name in part.boxes.classes}
    labeled = bool(names) and names <= set(classes)
    some: list[tuple[Sequence[Row], Boxes]] = [(rows.rows, boxes_of([]))]
    true: list[tuple[Sequence[Row], Boxes]] = [(rows.rows, replace(boxes_of([]), classes=classes))]
    others, origin = 0, None
    for part in parts:
        places = [
            by_path.get(key, by_stem.get(_stem(row.path)))
            for key, row in zip(clip_keys(part.rows.rows), part.rows.rows, strict=True)
        ]
        known = [number for number, place in enumerate(places) if place is not None]
        others += len(places) - len(known)
        own = [rows.rows[place] for place in places if place is not None]
        found = locate(of_rows(part.boxes, known), own, origin=data.time_origin)
        origin = found.origin if origin is None else origin
        for path, count in found.behind:
            say(f"note: {count} key frames of {file} lie behind the end of {path}; left out")
        some.append((own, without_actions(found.boxes, ())))
        if labeled:
            true.append((own, with_classes(found.boxes, classes, where=str(file))))
    if others:
        say(f"{file}: boxes of {others:,} videos that are not predicted are left out")
    _, boxes = joined(some)
    boxes = _once(of_boxes(boxes, reliable(boxes, config.detect.min_score)))
    if not len(boxes):
        raise DataError(
            f"{file} has no box in these videos", "their names must be those in the file"
        )
    where = f"boxes of {file}"
    truth = Keyframes(rows, joined(true)[1], str(file)) if labeled else None
    return Keyframes(rows, boxes, where), truth, origin


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path.rstrip("/")))[0]


def _once(boxes: Boxes) -> Boxes:
    """Each box of a key frame once, with its best score."""
    score = np.zeros(len(boxes.box)) if boxes.score is None else np.nan_to_num(boxes.score)
    order = np.lexsort((-score, *boxes.box.T, boxes.key_of_box()))
    columns = np.column_stack([boxes.key_of_box(), boxes.box])[order]
    keep = np.zeros(len(order), dtype=bool)
    keep[order] = np.append(True, (columns[1:] != columns[:-1]).any(axis=1))[: len(order)]
    return of_boxes(boxes, keep)


def _keys(rows: Rows, wanted: Wanted) -> list[tuple[int, int]]:
    """Row and frame of the key frames, where nobody names them."""
    return list(all_key_frames(rows, EVERY if wanted.every is None else wanted.every))


def _nobody(rows: Rows, wanted: Wanted) -> Boxes:
    """The key frames without boxes."""
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    return boxes_of([(row, frame, *empty) for row, frame in _keys(rows, wanted)])


def _found_people(
    rows: Rows, config: EvaluateConfig, wanted: Wanted, device: Any, quarantine: Quarantine
) -> tuple[Keyframes, dict[int, str]]:
    """The boxes that a detector, or motion, gives of key frames; and why videos were not read."""
    assert wanted.people is not None
    least = config.detect.min_score
    finder: Finder = Moving()
    where = "boxes of what moves"
    if wanted.people != MOTION:
        if config.origins.get("detect.min_score", DEFAULT) == DEFAULT:
            least = SURE
        network = open_detector(wanted.people, wanted.people_weights, device)
        finder = PersonDetector(network, least)
        where = f"people of {wanted.people} with a score of {least:g} and more"
    keys = _keys(rows, wanted)
    with ProgressBar("finding people", "key frames") as bar:
        boxes, errors = find_people(
            rows,
            keys,
            finder,
            workers=workers_of(config.data, 1),
            deadline=config.data.deadline,
            reader=config.data.reader,
            quarantine=quarantine,
            progress=bar.update,
        )
    boxes = of_boxes(boxes, reliable(boxes, least))
    say(f"{where}: {len(boxes.box):,} in {len(boxes):,} key frames")
    return Keyframes(rows, boxes, where), errors


# ------------------------------------------------------------------------------ what is written


def _write(
    run: RunFolder,
    found: Detections,
    people: Keyframes,
    rows: Rows,
    wanted: Wanted,
    ids: dict[str, int] | None,
    origin: float,
) -> None:
    """The files of the folder."""
    write_csv(found, run.claim("boxes.csv"), wanted.topk)
    found.save(run.claim(FILE))
    if ids is not None:
        place = run.claim("ava.csv")
        run.claim("ava_classes.pbtxt")
        write_ava(found, place, ids, _rates(rows), topk=wanted.topk, origin=origin)
    if wanted.video:
        folder = run.claim("videos")
        folder.mkdir(exist_ok=True)
        for number, row in enumerate(rows.rows):
            _draw(folder, number, row, found, people.boxes)
    sections = [_overview(found, people)]
    if found.truth is not None:
        scores = {**scores_of(found, DetectScoring(), tubes=True), "given": found.given}
        sections.append(class_section(scores))
    sections += key_frame_sections(found)
    run.write("report.html", page("vidinit predict", sections, subtitle=found.model))


def _overview(found: Detections, people: Keyframes) -> Section:
    """The files, how much is in them, and what is done most surely."""
    cells = []
    for number, path in enumerate(found.paths[:1000]):
        own = found.row == number
        best = ""
        if own.any():
            top = found.scores[own].max(axis=0)
            best = f"{found.classes[int(top.argmax())]} {top.max():.2f}"
        keys = int((people.boxes.row == number).sum())
        cells.append([path, keys, int(own.sum()), best])
    body = table(["file", "key frames", "boxes", "most sure of"], cells)
    note = f"{found.given}." + (
        f" {len(found.paths) - 1000} more files." if len(found.paths) > 1000 else ""
    )
    return Section("Files", body, note)


def _draw(folder: Path, number: int, row: Row, found: Detections, boxes: Boxes) -> None:
    """A video with its boxes: a frame shows those of the key frame that is nearest.

    Where key frames lie far apart, boxes are shown for half of the usual distance.
    """
    assert row.probe is not None and boxes.frame is not None
    keys = boxes.frame[boxes.row == number]
    if not len(keys):
        return
    reach = float(np.median(np.diff(keys))) / 2 if len(keys) > 1 else row.probe.num_frames
    shape = row.probe.height, row.probe.width
    own = np.flatnonzero(found.row == number)
    places = found.in_pixels(found.row[own], found.box[own])
    by_frame: dict[int, list[Drawn]] = {}
    for box, place in zip(own.tolist(), places, strict=True):
        drawn = drawn_box(found, box, place, thickness(shape))
        by_frame.setdefault(int(found.frame[box]), []).append(drawn)

    def shown(frame: int) -> list[Drawn]:
        nearest = int(keys[np.abs(keys - frame).argmin()])
        return by_frame.get(nearest, []) if abs(nearest - frame) <= reach else []

    place = folder / f"{_stem(row.path)}.mp4"
    if place.exists():  # two files of one name
        place = folder / f"{_stem(row.path)}-{number}.mp4"
    try:
        write_video(place, frames_with(open_row(row), shown), row.probe.fps)
    except VideoReadError as error:
        say(f"note: {row.path} is drawn to where it breaks off: {error.reason}")
