"""Detections of a model in key frames with boxes, and how good they are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...config import DetectScoring
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


OWN = "boxes are the model's own proposals"
"""Where boxes come from, in words, if from the detector itself."""

OVERLAP = 0.5
"""IoU above which the less sure of two of its boxes is dropped, by the best score of each."""


def proposes(detector: Detector, scoring: DetectScoring) -> bool:
    """True where boxes are the detector's own: it has proposals, and no boxes are given."""
    return detector.proposals is not None and scoring.boxes is None


@dataclass(frozen=True)
class Found:
    """The answers of a model for the boxes of some key frames.

    Attributes:
        key: number of the key frame of each box, int64 (M,).
        place: number of the box in its key frame, int64 (M,).
        box: where it is in the end, fractions of the frame, float32 (M, 4).
        scores: of each class, float32 (M, C).
        person: how sure the box itself is, float32 (M,); NaN where nobody says.
        errors: why key frames have no scores, by their number.
    """

    key: np.ndarray
    place: np.ndarray
    box: np.ndarray
    scores: np.ndarray
    person: np.ndarray
    errors: dict[int, str]


def detect_key_frames(
    detector: Detector,
    people: Keyframes,
    accelerator: Any,
    *,
    own: float | None = None,
    fit: Fit | None = None,
    batch_size: int = 8,
    workers: int = 0,
    deadline: float = 60.0,
    reader: str = "auto",
    decode_side: int | None = None,
    partial: Any = "keep",
    quarantine: Quarantine | None = None,
) -> Found:
    """The answers of a detector for the boxes of key frames; the same on all processes.

    Batches are the same ones whatever the number of processes, which share them out, so that a
    kernel that rounds differently for another number of clips or boxes changes nothing.

    Args:
        detector: on the accelerator's device; in eval mode while it is asked.
        people: key frames and the boxes in them; a key frame without boxes is not read.
        accelerator: gives the device, the precision and the processes.
        own: read all key frames, and take the boxes that the detector itself proposes in them and
            is at least so sure of, 0 to 1, moved, and those dropped that overlap a better one by
            more than `OVERLAP`; scores are then those of the classes times how sure the box is.
            None: the boxes of ``people``.
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
    keys = list(range(len(people.boxes)))
    if own is None:
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
            part, failed = _detect_batch(detector, batch, accelerator, own)
            parts.append(part)
            errors |= failed
    classes = detector.num_classes
    empty = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    sizes = ((0, 4), (0, classes), (0,))
    nothing = (*empty, *(np.zeros(size, np.float32) for size in sizes))
    ours = [np.concatenate(columns) for columns in zip(nothing, *parts, strict=True)]
    gathered = gather_all(accelerator, (ours, errors))
    whole = [np.concatenate(columns) for columns in zip(*(c for c, _ in gathered), strict=True)]
    order = np.lexsort((whole[1], whole[0]))
    key, place, box, scores, person = (column[order] for column in whole)
    if own is None and people.boxes.score is not None:
        person = people.boxes.score[people.boxes.starts[key] + place]
    return Found(key, place, box, scores, person, {k: v for _, e in gathered for k, v in e.items()})


@torch.no_grad()
def _detect_batch(
    detector: Detector, batch: dict[str, Any], accelerator: Any, own: float | None
) -> tuple[tuple[np.ndarray, ...], dict[int, str]]:
    """The columns of `Found` of a batch, and its key frames without scores."""
    from torchvision.ops import batched_nms

    spec, device = detector.spec, accelerator.device
    keys = batch["key"].numpy()
    errors = {int(k): e for k, e in zip(keys, batch["error"], strict=True) if e is not None}
    readable = torch.tensor([error is None for error in batch["error"]])
    pixels = normalize(batch["clip"].to(device), spec.mean, spec.std, bgr=spec.channels == "bgr")
    with accelerator.autocast():
        if own is None:
            boxes = numbered(batch["boxes"], batch["valid"] & readable[:, None]).to(device)
            sure = boxes.new_full((len(boxes),), torch.nan)
        else:
            boxes, sure = detector.own_boxes(pixels)
            kept = (sure >= own) & readable.to(device)[boxes[:, 0].long()]
            boxes, sure = boxes[kept], sure[kept]
        logits, moves = detector.outputs(pixels, boxes)
    scores = detector.scores(logits.float())
    if moves is not None:
        boxes = detector.moved(boxes, moves)
    if own is not None:
        # Features are maxima over a box: a class tells less well than the proposal where it ends.
        scores = scores * sure[:, None]
        best = batched_nms(boxes[:, 1:], scores.amax(dim=1), boxes[:, 0], OVERLAP)
        best = best.sort().values
        boxes, sure, scores = boxes[best], sure[best], scores[best]
    clip = boxes[:, 0].long().cpu()
    place = places_in(clip)
    back = batch["place"][clip]
    fractions = (boxes[:, 1:].cpu() - back[:, 2:].repeat(1, 2)) / back[:, :2].repeat(1, 2)
    if moves is not None:
        fractions = fractions.clamp(0, 1)
    found = scores.cpu().numpy()
    wrong = ~np.isfinite(found).all(axis=1)
    for number in np.unique(clip.numpy()[wrong]).tolist():
        errors[int(keys[number])] = NO_NUMBER
    fine = ~np.isin(keys[clip.numpy()], list(errors))
    if own is not None:  # in the bars of a letterbox there is nobody
        fine &= (fractions[:, 2:] > fractions[:, :2]).all(dim=1).numpy()
    columns = (keys[clip.numpy()], place.numpy(), fractions.numpy(), found, sure.cpu().numpy())
    return tuple(column[fine] for column in columns), errors


def places_in(clip: Tensor) -> Tensor:
    """The number of each box within its clip, of clips' numbers (N,) that rise."""
    return torch.arange(len(clip)) - torch.searchsorted(clip, clip)


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
    box = found.box if moved else boxes.box[boxes.starts[found.key] + found.place]
    columns = (box, found.scores, found.person)
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
