"""Boxes and tubes as a reader collects them, one by one, and as rows and columns."""

from __future__ import annotations

import math
import os
import warnings
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, NoReturn

import numpy as np

from ...errors import DataError
from ..rows import Row, Rows
from ..sources import by_id
from ..sources.access import shown
from ..sources.classes import ClassList, read_labels
from ..sources.options import PartName
from ..sources.table import Table
from .columns import Boxes, offsets

LISTS = frozenset((".csv", ".tsv", ".txt"))
"""Suffixes of lists of boxes."""

_MOST_BOXES = 50_000_000  # more than any data set has; small files can name many by repetition
MOST_FRAMES = 2**31 - 1
_PART_NUMBERS: tuple[PartName, ...] = ("all", "train", "val", "test")


@dataclass(frozen=True)
class BoxOptions:
    """How a file of boxes is read.

    Attributes:
        root: folder of the videos; None: that of the file.
        names: the classes in order; None: the file's own.
        split: which official split of JHMDB.
        find: look for videos that are named without a suffix.
    """

    root: str | None = None
    names: ClassList | None = None
    split: int = 1
    find: bool = True

    def base_of(self, file: str) -> str:
        """The folder that the videos are in or below."""
        return os.path.dirname(file) if self.root is None else self.root


@dataclass(frozen=True)
class BoxPart:
    """A part of a data set with boxes: all of it where it has no parts.

    Attributes:
        name: which part.
        rows: its videos, unlabeled.
        boxes: their boxes.
        where: the file, for messages.
        excluded: key frames that count for nothing, as path of a video and frame or time; they are
            not among the boxes.
    """

    name: PartName
    rows: Rows
    boxes: Boxes
    where: str
    excluded: frozenset[tuple[str, float]] = frozenset()


@dataclass
class Collected:
    """Boxes with one label each, as a file has them, in columns of one length.

    Attributes:
        where: the file, for messages.
        unit: what separates it from the number of a line or entry.
        what: whether ``when`` is a number of a frame, from 0, or a time in seconds.
        fractions: coordinates are of width and height, 0 to 1; else pixels.
        named: how videos are named: ``paths`` relative to the root, or ``ids`` that files below it
            have as their name.
        merged: equal boxes of a frame and score are one with several labels; ``tracks``: if of one
            track.
        names: the classes in order, where the file names them.
        names_only: a label is one name, also where it is an integer or looks like several.
        folders: sub-folders of the root of which the first that is there holds the videos.
        form: what the file was taken for.
        excluded: key frames that count for nothing, as video and frame or time.
    """

    where: str
    unit: str = ":"
    what: Literal["frame", "time"] = "frame"
    fractions: bool = False
    named: Literal["paths", "ids"] = "ids"
    merged: Literal["no", "tracks", "boxes"] = "no"
    names: ClassList | None = None
    names_only: bool = False
    folders: tuple[str, ...] = ()
    form: str = ""
    notes: list[str] = field(default_factory=list)
    excluded: set[tuple[str, float]] = field(default_factory=set)
    videos: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    tracks: dict[str, int] = field(default_factory=dict)
    _first_lines: list[int] = field(default_factory=list)
    _columns: dict[str, array[Any]] = field(
        default_factory=lambda: {
            name: array(kind)
            for name, kind in {
                **{"video": "i", "when": "d", "box": "f", "label": "i", "track": "i"},
                **{"score": "f", "part": "b"},
            }.items()
        }
    )

    def add(
        self,
        number: int,
        video: str,
        when: float,
        box: Sequence[float],
        label: str,
        *,
        track: str = "",
        score: float = np.nan,
        part: PartName = "all",
    ) -> None:
        """Add a box with one label; an empty one is none."""
        columns = self._columns
        columns["video"].append(self.videos.setdefault(video, len(self.videos)))
        columns["when"].append(when)
        columns["box"].extend(box)
        columns["label"].append(self._label(label, number))
        columns["track"].append(self.tracks.setdefault(track, len(self.tracks)) if track else -1)
        columns["score"].append(score)
        columns["part"].append(_PART_NUMBERS.index(part))

    def add_tube(
        self,
        number: int,
        video: str,
        frames: np.ndarray,
        boxes: np.ndarray,
        label: str,
        *,
        track: int = -1,
        scores: np.ndarray | None = None,
        part: PartName = "all",
    ) -> None:
        """Add the boxes (n, 4) of a person in frames (n,), all with one label.

        Raises:
            DataError: there are more boxes than any data set has.
        """
        count = len(frames)
        columns = self._columns
        if len(columns["label"]) + count > _MOST_BOXES:
            raise DataError(f"{self.where}: more than {_MOST_BOXES:,} boxes", "read it in parts")
        every = self.videos.setdefault(video, len(self.videos))
        constant = {
            "video": every,
            "label": self._label(label, number),
            "track": track,
            "part": _PART_NUMBERS.index(part),
        }
        for name, value in constant.items():
            columns[name].extend([value] * count)
        columns["when"].frombytes(np.ascontiguousarray(frames, np.float64).tobytes())
        columns["box"].frombytes(np.ascontiguousarray(boxes, np.float32).tobytes())
        values = np.full(count, np.nan) if scores is None else scores
        columns["score"].frombytes(np.ascontiguousarray(values, np.float32).tobytes())

    def tracks_are_scores(self) -> None:
        """Take the texts that were given as tracks for scores."""
        texts = [*self.tracks, "nan"]  # the place of what has none is -1
        values = np.array([float(text) for text in texts], dtype=np.float32)
        track = np.frombuffer(self._columns["track"], np.int32)
        self._columns["score"] = array("f", values[track].tobytes())
        self._columns["track"] = array("i", np.full_like(track, -1).tobytes())
        self.tracks.clear()

    def _label(self, label: str, number: int) -> int:
        if label not in self.labels:
            self.labels[label] = len(self.labels)
            self._first_lines.append(number)
        return self.labels[label]

    def place(self, number: int) -> str:
        """Where a line or entry stands, for messages."""
        return f"{self.where}{self.unit}{number}"

    def parts(self, options: BoxOptions) -> list[BoxPart]:
        """The rows and boxes by part, in the order of the file's videos, frames rising.

        Raises:
            DataError: there is no box, a label or a coordinate is none, or no video is found.
        """
        if not self._columns["label"]:
            raise DataError(f"{self.where} holds no box", "a box is needed at least")
        if self.form:
            warnings.warn(f"{self.where}: {self.form}", stacklevel=3)
        texts = list(self.labels)
        own = [text for text in texts if text]
        lines = dict(zip(texts, self._first_lines, strict=True))
        read = read_labels(
            own,
            options.names or self.names,
            place=lambda i: self.place(lines[own[i]]),
            names_only=self.names_only,
        )
        for note in (*read.notes, *self.notes):
            warnings.warn(f"{self.where}: {note}", stacklevel=3)
        ids = [_several(read.values[text]) if text else () for text in texts]
        paths = self._paths(options)
        columns = {name: np.frombuffer(c, c.typecode) for name, c in self._columns.items()}
        columns["box"] = columns["box"].reshape(-1, 4)
        self._check(columns["box"], columns["when"])
        videos = self.videos
        left_out = frozenset((paths[videos[v]], t) for v, t in self.excluded if v in videos)
        found = []
        for number in np.unique(columns["part"]).tolist():
            keep = columns["part"] == number
            own_columns = {name: column[keep] for name, column in columns.items()}
            rows, boxes = self._built(own_columns, paths, read.classes, ids)
            found.append(BoxPart(_PART_NUMBERS[number], rows, boxes, self.where, left_out))
        return found

    def _check(self, box: np.ndarray, when: np.ndarray) -> None:
        """Refuse coordinates and frames that are none; say how many boxes are empty.

        Raises:
            DataError: one is not finite, or a frame lies before the first.
        """
        if not (when.min() >= 0 and when.max() <= MOST_FRAMES):
            wrong = when.min() if when.min() < 0 else when.max()
            raise DataError(f"{self.where}: {self.what} {wrong:g} is none", "they count from 0")
        if not np.isfinite(box).all():
            raise DataError(f"{self.where}: a coordinate is not a number (nan or infinite)")
        empty = int((box[:, 2:] <= box[:, :2]).any(axis=1).sum())
        if empty:
            warnings.warn(
                f"{self.where}: {empty:,} of {len(box):,} boxes have no area", stacklevel=4
            )

    def _built(
        self,
        columns: dict[str, np.ndarray],
        paths: Sequence[str],
        classes: tuple[str, ...],
        ids: Sequence[tuple[int, ...]],
    ) -> tuple[Rows, Boxes]:
        """Rows and boxes of one part."""
        videos, video = np.unique(columns["video"], return_inverse=True)
        order = np.lexsort((columns["when"], video))
        video, when = video[order], columns["when"][order]
        new_key = np.ones(len(order), dtype=bool)
        new_key[1:] = (video[1:] != video[:-1]) | (when[1:] != when[:-1])
        key = np.cumsum(new_key) - 1
        box, track = columns["box"][order], columns["track"][order]
        first, box_of = self._boxes(key, box, track, columns["score"][order])
        counts = np.array([len(one) for one in ids], dtype=np.int64)
        flat = np.fromiter(chain.from_iterable(ids), np.int64, int(counts.sum()))
        label = columns["label"][order]
        own = counts[label]
        ends = np.cumsum(own)
        within = np.arange(int(ends[-1])) - np.repeat(ends - own, own)
        label_ids = flat[np.repeat(offsets(counts)[label], own) + within]
        pairs = np.repeat(box_of, own) * max(1, len(classes)) + label_ids
        unique = np.unique(pairs)
        if len(unique) < len(pairs):
            count = len(pairs) - len(unique)
            warnings.warn(f"{self.where}: {count:,} labels say what another says", stacklevel=5)
        key_of_box = key[first]
        whose, unique_ids = np.divmod(unique, max(1, len(classes)))
        scores = columns["score"][order][first]
        frames = when[new_key]
        boxes = Boxes(
            classes=classes,
            row=video[new_key].astype(np.int32),
            frame=frames.astype(np.int32) if self.what == "frame" else None,
            time=frames if self.what == "time" else None,
            starts=offsets(np.bincount(key_of_box, minlength=int(new_key.sum()))),
            box=box[first],
            fractions=self.fractions,
            label_starts=offsets(np.bincount(whose, minlength=len(first))),
            labels=unique_ids.astype(np.int16 if len(classes) < 2**15 else np.int32),
            track=None if (track < 0).all() else track[first],
            score=None if np.isnan(scores).all() else scores,
        )
        return Rows(tuple(Row(paths[i]) for i in videos.tolist())), boxes

    def _boxes(
        self, key: np.ndarray, box: np.ndarray, track: np.ndarray, score: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The first entry of each box, rising, and the box that each entry is of."""
        if self.merged == "no":
            every = np.arange(len(key))
            return every, every
        # A list of predictions has a score for each action: these stay boxes of their own.
        sides = [np.unique(one, return_inverse=True)[1] for one in (*box.T, score)]
        if self.merged == "tracks":
            sides.append(np.unique(track, return_inverse=True)[1])
        columns = (*sides, key)
        order = np.lexsort(columns)
        new = np.ones(len(order), dtype=bool)
        new[1:] = np.any([c[order][1:] != c[order][:-1] for c in columns], axis=0)
        group = np.empty(len(order), dtype=np.int64)
        group[order] = np.cumsum(new) - 1
        # Groups in the order of their first entries, which is that of the file in each frame.
        _, first = np.unique(group, return_index=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first, kind="stable")] = np.arange(len(first))
        return np.sort(first), rank[group]

    def _paths(self, options: BoxOptions) -> list[str]:
        """The path of each video."""
        names = list(self.videos)
        base = options.base_of(self.where)
        table = Table(self.where, paths=names)
        if self.named == "paths":
            forms = by_id.turn_slashes(table, base)
            table.paths = [os.path.join(base, path) for path in table.paths]
            if options.find:
                forms += by_id.add_suffixes(table, base)
            for form in forms:
                warnings.warn(f"{self.where}: {form}", stacklevel=4)
            return table.paths
        if not options.find:
            return names
        inner = next((os.path.join(base, f) for f in self.folders if _is_below(base, f)), base)
        stems = [os.path.basename(name) for name in names]
        finder = by_id.Finder(inner, set(stems))
        finder.check(self.where, len(stems))
        paths = []
        for name, stem in zip(names, stems, strict=True):
            near = (os.path.basename(os.path.dirname(name)),)
            paths.append(finder.find([stem], near) or finder.guess(name))
        finder.warn(self.where)
        return paths


def _is_below(base: str, folder: str) -> bool:
    return os.path.isdir(os.path.join(base, folder))


def _several(label: int | tuple[int, ...]) -> tuple[int, ...]:
    return (label,) if isinstance(label, int) else label


def number_in(where: str, cells: Mapping[str, str], name: str) -> float:
    """The finite number in a cell or attribute of a name.

    Raises:
        DataError: it is none, or is not there.
    """
    try:
        value = float(cells.get(name, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {name} '{shown(cells.get(name, ''))}' is no number")
    return value


def refuse(where: str, value: Any, wanted: str) -> NoReturn:
    """Raise the error for a value that is not what stands there in this form."""
    raise DataError(f"{where}: {shown(repr(value))} is not understood", wanted)
