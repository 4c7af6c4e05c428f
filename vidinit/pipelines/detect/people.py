"""Where people are, in videos without boxes: by a detector of torchvision's, or by what moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.boxes.columns import Boxes, offsets
from ...data.loading.loader import Loader
from ...data.loading.quarantine import Quarantine, ReadGuard
from ...data.readers import VideoReadError, open_row
from ...data.rows import Row, Rows
from ...errors import UsageError, VidinitError, suggest
from ...zoo.images.state_dicts import open_weights

MOTION = "motion"
"""The word for boxes of what moves."""

MOVES_SIDE = 144
"""Short side of the frames that motion is looked for in, in pixels."""

PERSON = 1
"""The label of a person among those of COCO, as all of torchvision's detectors have them."""

_BLUR, _JOIN = 5, 3  # pixels: of the differences; of gaps inside of what moves
_LEAST, _TIMES = 4.0, 3.0  # gray levels that are more than noise; times the median difference
_SMALL = 0.01  # share of the frame that is too little for a person


class Finder(Protocol):
    """Finds the boxes of a key frame.

    Attributes:
        reach: how many frames before and behind it it looks at.
        short_side: of the frames that it takes; None: as they are.
    """

    reach: int
    short_side: int | None

    def __call__(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes in pixels, float32 (N, 4), and how sure they are, float32 (N,), best first.

        Args:
            frames: uint8 RGB (2 reach + 1, H, W, 3), the key frame in their middle.
        """


class Moving:
    """Boxes of what moves before a background that does not; it was trained on nothing.

    A pixel moves if it differs from the frames before and behind it: what differs from one of them
    alone has been uncovered, or will be. Differences to the next frames and those after them are
    averaged over 5 x 5 pixels; what is above 4 gray levels and three times the median is joined
    to boxes. Under a camera that moves, everything does; of a thing of one color the edges do.
    """

    reach = 2
    short_side: int | None = MOVES_SIDE

    def __call__(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Finder`; the score is 1 - (what counts as motion) / (the mean motion in the box)."""
        pixels = torch.from_numpy(frames).float()
        key = len(frames) // 2
        motion = torch.zeros(frames.shape[1:3])
        for step in range(1, self.reach + 1):
            sides = [
                F.avg_pool2d(
                    (pixels[key] - pixels[other]).abs().amax(-1)[None],
                    *(_BLUR, 1, _BLUR // 2),
                    count_include_pad=False,
                )[0]
                for other in (key - step, key + step)
            ]
            motion = torch.maximum(motion, torch.minimum(*sides))
        least = max(_LEAST, _TIMES * float(motion.median()))
        parts = connected(_closed(motion > least))
        boxes, scores = [], []
        for part in parts.unique().tolist():
            rows, columns = torch.where(parts == part)
            if part and len(rows) >= _SMALL * parts.numel():
                across = _ends(columns, parts.shape[1])
                down = _ends(rows, parts.shape[0])
                boxes.append([across[0], down[0], across[1], down[1]])
                scores.append(1 - least / float(motion[rows, columns].mean().clamp(min=least)))
        order = np.argsort(-np.array(scores), kind="stable")
        return (
            np.array(boxes, dtype=np.float32).reshape(-1, 4)[order],
            np.array(scores, dtype=np.float32)[order],
        )


def _ends(places: Tensor, whole: int) -> tuple[float, float]:
    """Where pixels begin and end, less what the blur has added inside of the frame."""
    low, high = int(places.min()), int(places.max()) + 1
    added = _BLUR // 2 if high - low > 2 * _BLUR else 0
    return float(low + added * (low > 0)), float(high - added * (high < whole))


def _closed(mask: Tensor) -> Tensor:
    """A mask (H, W) without the gaps that are narrower than `_JOIN` pixels."""
    grown = F.max_pool2d(mask.float()[None], _JOIN, 1, _JOIN // 2)
    return -F.max_pool2d(-grown, _JOIN, 1, _JOIN // 2)[0] > 0


def connected(mask: Tensor) -> Tensor:
    """The parts of a mask that hang together, corners included.

    Args:
        mask: bool (H, W).

    Returns:
        int64 (H, W): 0 where the mask is not set, and a number of its own for each part.
    """
    numbers = torch.arange(1, mask.numel() + 1, dtype=torch.float64).view(mask.shape) * mask
    while True:
        spread = F.max_pool2d(numbers[None], 3, 1, 1)[0] * mask
        if torch.equal(spread, numbers):
            return numbers.long()
        numbers = spread


class PersonDetector:
    """The people that a detector of torchvision's sees in the key frame.

    Args:
        network: takes a list of images (3, H, W) in [0, 1].
        least: boxes of a lower score are left out.
    """

    reach = 0
    short_side: int | None = None

    def __init__(self, network: nn.Module, least: float) -> None:
        self.network, self.least = network.eval(), least

    @torch.no_grad()
    def __call__(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Finder`."""
        device = next(self.network.parameters()).device
        image = torch.from_numpy(frames[0]).to(device).permute(2, 0, 1).float() / 255
        (found,) = self.network([image])
        keep = (found["labels"] == PERSON) & (found["scores"] >= self.least)
        boxes, scores = (found[name][keep].float().cpu().numpy() for name in ("boxes", "scores"))
        order = np.argsort(-scores, kind="stable")
        return boxes[order], scores[order]


def check_people(name: str) -> None:
    """Refuse a word that names no way to find people.

    Raises:
        UsageError: it is neither `MOTION` nor a detector of torchvision's.
    """
    if name != MOTION and name not in _detectors():
        hint = suggest(name, [MOTION, *_detectors()]) or (
            "take motion, or one of torchvision's, as fasterrcnn_resnet50_fpn_v2"
        )
        raise UsageError(f"nothing called '{name}' finds people", hint)


def _detectors() -> list[str]:
    from torchvision import models

    return list(models.list_models(module=models.detection))


def open_detector(name: str, weights: str | Path | None, device: Any) -> nn.Module:
    """A detector of torchvision's with its weights, on a device.

    Args:
        name: as `check_people` allows it.
        weights: file with its state dict; default: torchvision's own, downloaded at first use.
        device: of its weights.

    Raises:
        UsageError: the file holds no weights of this detector.
        VidinitError: they cannot be downloaded.
    """
    from torchvision import models

    if weights is None:
        try:
            return _on(models.get_model(name, weights="DEFAULT"), device)
        except (OSError, RuntimeError) as error:  # no network, no room, a file that was cut off
            raise VidinitError(
                f"torchvision's weights of {name} cannot be had ({error})",
                "pass --people-weights FILE with them, boxes as --boxes FILE, or --people motion",
            ) from error
    network = models.get_model(name, weights=None, weights_backbone=None)
    state = open_weights(weights).wholes()[0].state
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UsageError(f"{weights} does not hold the weights of {name}: {reason}") from error
    return _on(network, device)


def _on(network: nn.Module, device: Any) -> nn.Module:
    return network.to(device).requires_grad_(False)


def key_frames(row: Row, every: float) -> list[int]:
    """The key frames of a video: the middle ones of equal parts, about ``every`` seconds long.

    Of a video without a rate, parts are about ``every`` frames long.

    Args:
        row: with its probe.
        every: seconds, above 0.
    """
    assert row.probe is not None
    count = row.probe.num_frames
    parts = min(count, max(1, round(count / (every * (row.probe.fps or 1.0)))))
    return [int((part + 0.5) * count / parts) for part in range(parts)]


@dataclass(frozen=True)
class _Frames:
    """Key frames and those beside them, one at a time: the data set of `find_people`."""

    rows: Rows
    keys: Sequence[tuple[int, int]]
    reach: int
    short_side: int | None
    reader: str

    def load(self, key: int, guard: ReadGuard) -> dict[str, Any]:
        """``frames`` uint8 (T, H, W, 3), their number ``key``, and ``error`` or None."""
        number, frame = self.keys[key]
        row = self.rows.rows[number]
        try:
            with guard.reading(number, row.path):
                video = open_row(row, reader=self.reader, short_side=self.short_side)
                around = np.arange(frame - self.reach, frame + self.reach + 1)
                frames = video.get(np.clip(around, 0, video.num_frames - 1))
        except VideoReadError as error:
            return {"frames": torch.zeros(0), "key": key, "error": error.reason}
        return {"frames": torch.from_numpy(frames), "key": key, "error": None}

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The only item: frames differ in size."""
        (item,) = items
        return item


def find_people(
    rows: Rows,
    keys: Sequence[tuple[int, int]],
    finder: Finder,
    *,
    workers: int,
    deadline: float,
    reader: str,
    quarantine: Quarantine,
    progress: Callable[[int, int], None],
) -> tuple[Boxes, dict[int, str]]:
    """The boxes of key frames, without actions, and why videos could not be read.

    Args:
        rows: with their probes.
        keys: row and frame of each, rising.
        finder: finds them.
        workers, deadline, reader, quarantine: how videos are read, see `Loader`.
        progress: called with key frames done and key frames in all.

    Returns:
        Boxes of all key frames that could be read, in fractions, with scores; and reasons by row.
    """
    data = _Frames(rows, keys, finder.reach, finder.short_side, reader)
    loader = Loader(
        data, range(len(keys)), 1, workers=workers, deadline=deadline, quarantine=quarantine
    )
    found: list[tuple[int, np.ndarray, np.ndarray]] = []
    errors: dict[int, str] = {}
    for done, item in enumerate(loader, start=1):
        if item["error"] is not None:
            errors[keys[item["key"]][0]] = item["error"]
        else:
            frames = item["frames"].numpy()
            height, width = frames.shape[1:3]
            boxes, scores = finder(frames)
            size = np.array([width, height, width, height], dtype=np.float32)
            found.append((item["key"], (boxes / size).clip(0, 1), scores))
        progress(done, len(keys))
    return boxes_of([(*keys[key], box, score) for key, box, score in found]), errors


def boxes_of(found: Sequence[tuple[int, int, np.ndarray, np.ndarray]]) -> Boxes:
    """Boxes without actions, in columns.

    Args:
        found: row, frame, boxes (N, 4) in fractions and scores (N,) of each key frame, rising.
    """
    counts = np.array([len(box) for _, _, box, _ in found], dtype=np.int64)
    box = np.concatenate([np.zeros((0, 4)), *(box for _, _, box, _ in found)])
    score = np.concatenate([np.zeros(0), *(score for *_, score in found)])
    return Boxes(
        classes=(),
        row=np.array([row for row, *_ in found], dtype=np.int32),
        frame=np.array([frame for _, frame, *_ in found], dtype=np.int32),
        time=None,
        starts=offsets(counts),
        box=box.astype(np.float32),
        fractions=True,
        label_starts=np.zeros(len(box) + 1, dtype=np.int32),
        labels=np.zeros(0, dtype=np.int16),
        score=score.astype(np.float32),
    )


def all_key_frames(rows: Rows, every: float) -> Iterator[tuple[int, int]]:
    """Row and frame of the key frames of all videos."""
    for number, row in enumerate(rows.rows):
        for frame in key_frames(row, every):
            yield number, frame
