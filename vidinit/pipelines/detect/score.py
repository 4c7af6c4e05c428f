"""Detections of a model in key frames with boxes, and how good they are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...data.boxes.columns import Boxes
from ...data.loading.keyframes import Fit, KeyframeViews
from ...data.loading.loader import Loader
from ...data.loading.quarantine import Quarantine
from ...data.pixels.batch import normalize
from ...data.rows import Row
from ...engine.collectives import gather_all
from ...scoring.detections import Detections, sorted_detections
from ...zoo.detector import Detector
from ...zoo.modify.eval_mode import in_eval_mode
from ...zoo.spec import ClipSpec
from ...zoo.view_outputs import NO_NUMBER
from .data import Keyframes
from .task import numbered


def views_of(
    people: Keyframes,
    spec: ClipSpec,
    *,
    fit: Fit = "letterbox",
    reader: str = "auto",
    decode_side: int | None = None,
    partial: Any = "keep",
) -> KeyframeViews:
    """The clips in which a model with this specification sees these boxes."""
    return KeyframeViews(
        people.rows,
        people.boxes,
        sampling=spec.seen,
        fill=bars_of(spec),
        size=spec.size,
        fit=fit,
        interpolation="bicubic" if spec.interpolation == "bicubic" else "bilinear",
        flow=spec.flow,
        reader=reader,
        decode_side=decode_side,
        partial=partial,
    )


def bars_of(spec: ClipSpec) -> tuple[int, ...]:
    """The color of a letterbox's bars: the mean, which is 0 once it is normalized."""
    return tuple(min(255, max(0, round(255 * value))) for value in spec.mean)


@dataclass(frozen=True)
class Found:
    """What a model says of the boxes of some key frames.

    Attributes:
        key: number of the key frame of each box, int64 (M,).
        place: number of the box in its key frame, int64 (M,).
        box: where it is in the end, fractions of the frame, float32 (M, 4).
        scores: of each class, float32 (M, C).
        errors: why key frames have no scores, by their number.
    """

    key: np.ndarray
    place: np.ndarray
    box: np.ndarray
    scores: np.ndarray
    errors: dict[int, str]


def detect_key_frames(
    detector: Detector,
    people: Keyframes,
    accelerator: Any,
    *,
    fit: Fit | None = None,
    batch_size: int = 8,
    workers: int = 0,
    deadline: float = 60.0,
    reader: str = "auto",
    decode_side: int | None = None,
    partial: Any = "keep",
    quarantine: Quarantine | None = None,
) -> Found:
    """What a detector says of the boxes of key frames; the same on all processes.

    Batches are the same ones whatever the number of processes, which share them out, so that a
    kernel that rounds differently for another number of clips or boxes changes nothing.

    Args:
        detector: on the accelerator's device; in eval mode while it is asked.
        people: key frames and the boxes in them; a key frame without boxes is not read.
        accelerator: gives the device, the precision and the processes.
        fit: how frames become clips; default: as the detector's settings say.
        batch_size: clips of a forward pass; 1 where clips differ in shape.
        workers, deadline, reader, decode_side, partial, quarantine: as for
            `scoring.score.map_videos`.
    """
    spec = detector.spec
    views = views_of(
        people,
        spec,
        fit=fit or detector.settings.fit,
        reader=reader,
        decode_side=decode_side,
        partial=partial,
    )
    keys = np.flatnonzero(np.diff(people.boxes.starts)).tolist()
    size = batch_size if views.same_shape() else 1
    rank, world = accelerator.process_index, accelerator.num_processes
    batches = [keys[first : first + size] for first in range(0, len(keys), size)]
    own_keys = [key for batch in batches[rank::world] for key in batch]
    loader = Loader(
        views, own_keys, size, workers=workers, deadline=deadline, quarantine=quarantine
    )
    parts: list[tuple[np.ndarray, ...]] = []
    errors: dict[int, str] = {}
    with in_eval_mode(detector):
        for batch in loader:
            part, failed = _detect_batch(detector, batch, accelerator)
            parts.append(part)
            errors |= failed
    classes = detector.num_classes
    empty = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    nothing = (*empty, np.zeros((0, 4), np.float32), np.zeros((0, classes), np.float32))
    own = [np.concatenate(columns) for columns in zip(nothing, *parts, strict=True)]
    gathered = gather_all(accelerator, (own, errors))
    whole = [np.concatenate(columns) for columns in zip(*(c for c, _ in gathered), strict=True)]
    order = np.lexsort((whole[1], whole[0]))
    key, place, box, scores = (column[order] for column in whole)
    return Found(key, place, box, scores, {k: v for _, e in gathered for k, v in e.items()})


@torch.no_grad()
def _detect_batch(
    detector: Detector, batch: dict[str, Any], accelerator: Any
) -> tuple[tuple[np.ndarray, ...], dict[int, str]]:
    """Key frame, place, box and scores of the boxes of a batch, and key frames without scores."""
    spec, device = detector.spec, accelerator.device
    keys = batch["key"].numpy()
    errors = {int(k): e for k, e in zip(keys, batch["error"], strict=True) if e is not None}
    readable = torch.tensor([error is None for error in batch["error"]])
    valid = batch["valid"] & readable[:, None]
    clip, place = torch.nonzero(valid).T
    boxes = numbered(batch["boxes"], valid).to(device)
    pixels = normalize(batch["clip"].to(device), spec.mean, spec.std, bgr=spec.channels == "bgr")
    with accelerator.autocast():
        logits, moves = detector.outputs(pixels, boxes)
    scores = detector.scores(logits.float())
    if moves is not None:
        boxes = detector.moved(boxes, moves)
    back = batch["place"][clip]
    fractions = (boxes[:, 1:].cpu() - back[:, 2:].repeat(1, 2)) / back[:, :2].repeat(1, 2)
    if moves is not None:
        fractions = fractions.clamp(0, 1)
    found = scores.cpu().numpy()
    wrong = ~np.isfinite(found).all(axis=1)
    for number in np.unique(clip.numpy()[wrong]).tolist():
        errors[int(keys[number])] = NO_NUMBER
    fine = ~np.isin(keys[clip.numpy()], list(errors))
    columns = (keys[clip.numpy()], place.numpy(), fractions.numpy(), found)
    return tuple(column[fine] for column in columns), errors


def detections_of(
    found: Found,
    people: Keyframes,
    truth: Keyframes | None,
    *,
    classes: tuple[str, ...],
    model: str,
    given: str,
    moved: bool,
) -> Detections:
    """Detections with the truth of the same videos, less the key frames that could not be read.

    Args:
        found: of `detect_key_frames`.
        people: the boxes that the model was asked about.
        truth: of the same rows; None where there is none.
        classes: of the scores.
        model, given: see `Detections`.
        moved: False where the boxes are where they were: they are then taken as given, to the bit.
    """
    boxes = people.boxes
    assert boxes.frame is not None
    number = boxes.starts[found.key] + found.place
    person = np.full(len(number), np.nan, dtype=np.float32)
    if boxes.score is not None:
        person = boxes.score[number]
    box = found.box if moved else boxes.box[number]
    columns = (box, found.scores, person)
    row, frame, box, scores, person = sorted_detections(
        boxes.row[found.key], boxes.frame[found.key], found.place, columns
    )
    failed = {(int(boxes.row[key]), int(boxes.frame[key])) for key in found.errors}
    reasons = {people.rows.rows[int(boxes.row[k])].path: why for k, why in found.errors.items()}
    return Detections(
        paths=tuple(one.path for one in people.rows.rows),
        sizes=sizes_of(people.rows.rows),
        classes=classes,
        row=row,
        frame=frame,
        box=box,
        scores=scores,
        person=person,
        truth=None if truth is None else _without(truth.boxes, failed),
        missing=tuple(sorted(reasons.items())),
        unread=len(failed),
        model=model,
        data="" if truth is None else truth.where,
        given=given,
        folder=os.getcwd(),
    )


def _without(boxes: Boxes, failed: set[tuple[int, int]]) -> Boxes:
    """The key frames that are not among these."""
    if not failed:
        return boxes
    assert boxes.frame is not None
    frames = zip(boxes.row.tolist(), boxes.frame.tolist(), strict=True)
    return boxes.keys(np.array([frame not in failed for frame in frames], dtype=bool))


def sizes_of(rows: tuple[Row, ...]) -> np.ndarray:
    """Height and width of videos, int32 (videos, 2); 0 of those that cannot be read."""
    probes = [row.probe for row in rows]
    sizes = [(0, 0) if probe is None else (probe.height, probe.width) for probe in probes]
    return np.array(sizes, dtype=np.int32).reshape(-1, 2)
