"""A data set as rows, whatever form it came in: the data model of this room."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..errors import DataError, suggest

Label = int | tuple[int, ...] | None
LabelKind = Literal["single", "multi", "pair"]

VIDEO_SUFFIXES = frozenset(
    """.3g2 .3gp .asf .avi .divx .f4v .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv
    .ts .vob .webm .wmv""".split()  # noqa: SIM905
)
IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))


@dataclass(frozen=True, slots=True)
class Probe:
    """Facts about a readable file, found by decoding it once.

    Attributes:
        num_frames: frames that decode, from the first one on.
        fps: average frames per second; 0.0 where there is no time (images, frame folders).
        height, width: pixels after rotation.
        rotation: degrees clockwise that the container asks for: 0, 90, 180 or 270.
        reader: what reads it: ``pyav``, ``decord`` (where that was asked for and is exact),
            ``image`` or ``frames`` (pictures); ``auto`` where nobody has found out.
        access: how PyAV finds a frame of it, see `readers.pyav`; empty where nobody has found out.
        total: how many frames there should be, as far as is known, where ``fault`` says why some
            are not there; else 0.
        fault: why the frames behind ``num_frames`` cannot be read; empty where all can.
        full: all of its frames were decoded, not some.
        compared: somebody has looked whether decord is exact for it.
    """

    num_frames: int
    fps: float
    height: int
    width: int
    rotation: int = 0
    reader: str = "auto"
    access: str = ""
    total: int = 0
    fault: str = ""
    full: bool = False
    compared: bool = False

    @property
    def kept(self) -> str:
        """In words how much of a damaged file is there; empty for a sound one."""
        if not self.fault:
            return ""
        of = f" of {self.total}" if self.total else ""
        return f"kept {self.num_frames}{of} frames ({self.fault})"


@dataclass(frozen=True, slots=True)
class Row:
    """One clip of a data set.

    Attributes:
        path: a video or image file, a folder of frames, or a member of a tar archive as
            ``ARCHIVE.tar::MEMBER@OFFSET+SIZE`` (bytes).
        label: position of its class in ``Rows.classes``; several of them (sorted) where labels are
            ``multi``; (verb, noun) where they are a ``pair``; None where there are none.
        start, end: the part of the video that is meant, in seconds from its first frame; None for
            its beginning and its end.
        probe: what the index knows of the file, once ``index.check`` has looked; None before.
        in_frames: ``start`` and ``end`` are numbers of frames instead, from 0, without the frame
            ``end`` itself.
        group: what it shares with clips that must not stand in another part of the data: a camera,
            a person, a film; None where nothing is known of that.
    """

    path: str
    label: Label = None
    start: float | None = None
    end: float | None = None
    probe: Probe | None = None
    in_frames: bool = False
    group: str | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of a data set in a fixed order, and what their labels mean.

    Attributes:
        rows: the rows.
        classes: names of the classes in order (the verbs of a ``pair``); None: unlabeled.
        kind: ``single``: one class a row; ``multi``: any number; ``pair``: a verb and a noun.
        nouns: names of the second classes of a ``pair``.
    """

    rows: tuple[Row, ...]
    classes: tuple[str, ...] | None = None
    kind: LabelKind = "single"
    nouns: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, rows: Sequence[Row]) -> Rows:
        """Other rows with labels of the same meaning."""
        return replace(self, rows=tuple(rows))


ClipKey = tuple[str, float, float | None]
"""A file by the one name that all ways to write it have, and the seconds of it that are meant."""


def clip_keys(rows: Iterable[Row]) -> list[ClipKey]:
    """A key shared by rows of the same clip, however their paths are written; one a row.

    Links are followed, so that the same file in two folders of links is one. A segment that ends
    behind a file whose length is known ends with it.
    """
    folders: dict[str, str] = {}

    def real(path: str) -> str:
        # Of an archive's member the archive is the file, and the rest says which part of it.
        file, member = path.partition("::")[::2]
        folder, name = os.path.split(file)
        if name in ("", os.curdir, os.pardir):
            return f"{os.path.realpath(file)}::{member}"
        if folder not in folders:  # once for all files in it: links are looked for in each part
            folders[folder] = os.path.realpath(folder)
        place = os.path.join(folders[folder], name)
        return f"{os.path.realpath(place) if os.path.islink(place) else place}::{member}"

    return [(real(row.path), row.start or 0.0, _end(row)) for row in rows]


def _end(row: Row) -> float | None:
    """The end of a row's segment; None for that of its file."""
    if row.end is None or row.probe is None or (row.probe.fps <= 0 and not row.in_frames):
        return row.end
    length = row.probe.num_frames / (1 if row.in_frames else row.probe.fps)
    return None if row.end >= length else row.end


def align(
    rows: Rows,
    classes: Sequence[str],
    *,
    where: str | Path,
    nouns: Sequence[str] | None = None,
) -> Rows:
    """The same rows with labels that index ``classes`` (and ``nouns``), matched by class name.

    Raises:
        DataError: a class with rows in it is not in ``classes``; ``where`` is named as its place.
    """
    if rows.classes is None:
        raise DataError(f"{where} has no labels")
    if (rows.nouns is None) != (nouns is None):
        raise DataError(
            f"{where} has {'one label' if rows.nouns is None else 'two labels'} a clip, "
            f"training had {'one' if nouns is None else 'two'}"
        )
    if rows.classes == tuple(classes) and rows.nouns == (None if nouns is None else tuple(nouns)):
        return rows
    first = _moves(rows.classes, classes)
    second = None if rows.nouns is None or nouns is None else _moves(rows.nouns, nouns)

    def move(names: Sequence[str], moves: list[int], label: int) -> int:
        if moves[label] < 0:
            name = names[label]
            hint = suggest(name, classes) or "training and validation must name the same classes"
            raise DataError(f"class '{name}' of {where} is unknown in training", hint)
        return moves[label]

    aligned = []
    for row in rows.rows:
        label = row.label
        if isinstance(label, int):
            label = move(rows.classes, first, label)
        elif label is not None and second is not None and rows.nouns is not None:
            label = (move(rows.classes, first, label[0]), move(rows.nouns, second, label[1]))
        elif label is not None:
            label = tuple(sorted(move(rows.classes, first, one) for one in label))
        aligned.append(replace(row, label=label))
    return Rows(tuple(aligned), tuple(classes), rows.kind, None if nouns is None else tuple(nouns))


def _moves(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Where each name stands among the classes; -1: nowhere."""
    ids = {name: label for label, name in enumerate(classes)}
    return [ids.get(name, -1) for name in names]
