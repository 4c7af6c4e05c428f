"""Detections of a model, box by box, in memory and on disk: scored again without the model.

No torch is imported here.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..data.boxes.columns import Boxes
from ..files import written
from .archive import read_archive

FILE = "detections.npz"
"""Its name in the folder of an evaluation."""

_FORMAT = "vidinit detections 1"
_HINT = f"name {FILE} in the folder of an evaluation of boxes, or evaluate again"


@dataclass(frozen=True)
class Detections:
    """Boxes in key frames with a score of each class, and the true ones.

    Boxes are sorted by row, frame and their number in the frame, whatever made them, so that
    figures do not depend on the number of processes.

    Attributes:
        paths: the videos.
        sizes: height and width of each in pixels, int32 (videos, 2).
        classes: names of the classes of the scores.
        row: which video each box is of, int32 (M,).
        frame: its number from 0, int32 (M,).
        box: x1, y1, x2, y2, fractions of the frame, float32 (M, 4).
        scores: of each class, 0 to 1, float32 (M, C).
        person: how sure the box itself is, float32 (M,); not a number where nobody says.
        truth: the true boxes of the same videos, with frames, in fractions, without key frames
            that could not be read; None where there are none.
        missing: (path, reason) of videos with key frames that could not be read.
        unread: how many key frames these are.
        model: whose they are, as the user named it.
        data: what was scored, as the user named it.
        given: where the boxes come from, in words.
        folder: what relative paths are relative to.
    """

    paths: tuple[str, ...]
    sizes: np.ndarray
    classes: tuple[str, ...]
    row: np.ndarray
    frame: np.ndarray
    box: np.ndarray
    scores: np.ndarray
    person: np.ndarray
    truth: Boxes | None = None
    missing: tuple[tuple[str, str], ...] = ()
    unread: int = 0
    model: str = ""
    data: str = ""
    given: str = ""
    folder: str = ""
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        """How many boxes there are."""
        return len(self.row)

    def records(self, *, least: float = 0.0, pixels: bool = False) -> list[dict[str, Any]]:
        """A record for each box and class, as `vidinit.detection` takes them.

        ``{video, frame, label, box: [x1, y1, x2, y2], score}``; ``video`` is its path.

        Args:
            least: classes of a lower score are left out.
            pixels: boxes in pixels of the video instead of fractions.
        """
        which, label = np.nonzero(self.scores >= least)
        box = self.in_pixels(self.row, self.box) if pixels else self.box
        columns = {
            "video": [self.paths[i] for i in self.row[which].tolist()],
            "frame": self.frame[which].tolist(),
            "label": [self.classes[i] for i in label.tolist()],
            "box": box[which].tolist(),
            "score": self.scores[which, label].tolist(),
        }
        return [dict(zip(columns, one, strict=True)) for one in zip(*columns.values(), strict=True)]

    def in_pixels(self, row: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) of these videos in pixels, float64."""
        height, width = self.sizes[row].astype(np.float64).T
        return np.asarray(box * np.stack([width, height, width, height], axis=1))

    def save(self, path: Path) -> None:
        """Write them under a temporary name, then rename.

        Raises:
            VidinitError: the disk does not take them; what was there before is still there.
        """
        size = (self.scores.nbytes + self.box.nbytes) / 1e6
        advice = "make room, or name another --out"
        with written(path, size=size, advice=advice) as part, part.open("wb") as file:
            np.savez(file, **self._arrays())

    def _arrays(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "format": np.array(_FORMAT),
            "paths": _texts(self.paths),
            "classes": _texts(self.classes),
            "missing": _texts(path for path, _ in self.missing),
            "reasons": _texts(reason for _, reason in self.missing),
            "unread": np.array(self.unread),
            "notes": _texts(self.notes),
        }
        for name in ("sizes", "row", "frame", "box", "scores", "person"):
            found[name] = getattr(self, name)
        for name in ("model", "data", "given", "folder"):
            found[name] = np.array(getattr(self, name))
        if self.truth is not None:
            for one in fields(Boxes):
                value = getattr(self.truth, one.name)
                if value is not None:
                    is_names = one.name == "classes"
                    found[f"truth_{one.name}"] = _texts(value) if is_names else np.array(value)
        return found


def _texts(texts: Iterable[str]) -> np.ndarray:
    return np.array(list(texts), dtype=np.str_)


def sorted_detections(
    row: np.ndarray, frame: np.ndarray, place: np.ndarray, others: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Columns of boxes in the order of row, frame and number in the frame."""
    order = np.lexsort((place, frame, row))
    return [column[order] for column in (row, frame, *others)]


def has_detections(path: str | Path) -> bool:
    """True for the folder of an evaluation of boxes, and for such a file."""
    file = Path(path)
    if file.is_dir():
        return (file / FILE).is_file()
    try:
        with np.load(file, allow_pickle=False) as archive:
            return str(archive["format"]) == _FORMAT
    except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile):
        return False


def load(path: str | Path) -> Detections:
    """The detections of an evaluation.

    Args:
        path: a file as `Detections.save` writes it, or a folder with one.

    Raises:
        UsageError: there is no such file.
        DataError: it is cut off, damaged, or another file.
    """
    return read_archive(path, _from_arrays, name=FILE, form=_FORMAT, holds="detections", hint=_HINT)


def _from_arrays(arrays: dict[str, np.ndarray]) -> Detections:
    """Detections from the arrays of a file.

    Raises:
        ValueError, KeyError: they do not fit together.
    """
    columns: dict[str, Any] = {
        n: arrays[n] for n in ("sizes", "row", "frame", "box", "scores", "person")
    }
    texts: dict[str, Any] = {n: str(arrays[n]) for n in ("model", "data", "given", "folder")}
    reasons = zip(arrays["missing"].tolist(), arrays["reasons"].tolist(), strict=True)
    found = Detections(
        paths=tuple(arrays["paths"].tolist()),
        classes=tuple(arrays["classes"].tolist()),
        truth=_truth(arrays),
        missing=tuple(reasons),
        unread=int(arrays["unread"]),
        notes=tuple(arrays["notes"].tolist()),
        **texts,
        **columns,
    )
    count, videos = len(found.row), len(found.paths)
    shapes = [columns[name].shape for name in columns]
    wanted = [(videos, 2), (count,), (count,), (count, 4), (count, len(found.classes)), (count,)]
    if shapes != wanted or (count and not 0 <= found.row.min() <= found.row.max() < videos):
        raise ValueError
    return found


def _truth(arrays: dict[str, np.ndarray]) -> Boxes | None:
    if "truth_row" not in arrays:
        return None
    values: dict[str, Any] = {
        one.name: arrays.get(f"truth_{one.name}") for one in fields(Boxes) if one.name != "classes"
    }
    values["fractions"] = bool(values["fractions"])
    truth = Boxes(classes=tuple(arrays["truth_classes"].tolist()), **values)
    ends = [(truth.starts, len(truth.box)), (truth.label_starts, len(truth.labels))]
    if any(len(starts) == 0 or starts[-1] != end for starts, end in ends) or truth.frame is None:
        raise ValueError
    return truth
