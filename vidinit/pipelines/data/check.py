"""`vidinit data check`: the rows of a source, the check of their files, and figures about both.

Of a file of boxes the videos are checked, and the boxes are held against what was found of them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ...config import DataConfig
from ...console import ProgressBar, say, with_messages
from ...data.boxes import BoxPart, try_boxes
from ...data.boxes.located import locate
from ...data.index import Health, UnreadableError, check
from ...data.index.cache import file_key
from ...data.readers import require_reader
from ...data.rows import Row, Rows
from ...data.sources import NoLabelsError, labeled_parts, unlabeled_rows
from ...data.sources.parts import join
from ...data.views import Sampling
from ...errors import Interrupted, UsageError
from . import figures


def check_data(
    source: str | Path | Sequence[str | Path],
    *,
    root: str | Path | None = None,
    class_names: str | Path | None = None,
    split: int = 1,
    workers: int | None = None,
    deadline: float = 60.0,
    max_bad: float | str | None = None,
    again: bool = False,
    full: bool = False,
    partial: Literal["keep", "drop"] = "keep",
    reader: Literal["auto", "decord", "pyav"] = "auto",
    clip: str | None = None,
    duplicates: bool = False,
) -> dict[str, Any]:
    """Probe every file of a data set: does it decode, and what is it?

    Of a file that is cut off or damaged the frames before that are kept, and it is named. Damage
    between the frames that are looked at is only found by ``full``. What is found of a file is
    kept in ``$XDG_CACHE_HOME/vidinit`` until the file changes; training and evaluation take it from
    there. Files of a folder that belong to no class are checked too.

    Args:
        source: folder, file, list, json, csv, official splits or tar shards, or several of them.
            Labels are counted where there are any. Or one file of boxes of actions.
        root: folder that the paths of lists are relative to; default: the list's own.
        class_names: file with the class names in order; labels are then required.
        split: which official split of UCF101, HMDB51, NTU RGB+D, Toyota Smarthome or JHMDB.
        workers: processes at a time; default: one per core.
        deadline: seconds for a file of up to 64 MiB, in proportion for larger ones, after which
            its process is killed and the file is bad.
        max_bad: share of unreadable files that is too much, as 0.05 or 5%; default: none is.
        again: probe files anew that were probed before, as after a hang that was the machine's
            fault.
        full: decode every frame of every file, and say where each is damaged; else the first,
            middle and last one, and all of those that leave a doubt.
        partial: ``keep`` the beginning of files that are cut off or damaged, or ``drop`` them.
        reader: ``decord``: find out which files it is exact for, too; PyAV reads the others.
        clip: FRAMESxSTRIDE, or a model: say how many videos are shorter than its clip; default:
            than usual ones.
        duplicates: find videos that look alike, too, by three frames of each: clips of one film or
            camera in two parts.

    Returns:
        ``{files, good, bad: [{path, reason}], ...}`` as `data.index.Health.as_dict` describes, and
        ``durations``, ``clips``, ``parts``, ``both``, ``groups`` as `figures` describes them;
        ``duplicates``: [{paths, parts}] of files with the same bytes; with ``duplicates``
        ``alike``: [{paths, bits, parts}], see `figures.look_alikes`;
        ``rows``; ``classes`` (``nouns``): ``{name: {rows, good}}`` or None without labels;
        ``unlabelled``: rows without a label. Of a file of boxes also ``boxes``: ``{key_frames,
        boxes, classes: {name: boxes}, parts: {name: {videos, key_frames, boxes}}, unread: key
        frames of videos that cannot be read, behind: [{path, key_frames}] of videos with some
        behind their end, outside: boxes that reach beyond the picture by more than a pixel, origin:
        seconds of the film at which its videos begin, or None}``.

    Raises:
        UsageError: a wrong path or value.
        DataError: there is nothing to check, or a file of boxes is wrong; and, as its kind
            `data.index.UnreadableError` with the result as ``report``, nothing is readable, or more
            than ``max_bad`` is not.
        Interrupted: by Ctrl-C; what was found until then is kept.
    """
    arguments = {"split": split, "workers": workers, "deadline": deadline, "max_bad": max_bad}
    arguments |= {"partial": partial, "reader": reader}
    settings = _settings({key: value for key, value in arguments.items() if value is not None})
    require_reader(reader)
    clips = [Sampling(*one) for one in figures.USUAL] if clip is None else [figures.clip_of(clip)]
    parts = with_messages(lambda: _boxes(source, root, class_names, split))
    named: dict[str, Rows] = {}
    if parts is None:
        rows, named = with_messages(lambda: _rows(source, root, class_names, split))
    else:
        rows = Rows(tuple(row for part in parts for row in part.rows.rows))

    def probe_all() -> Health:
        with ProgressBar("checking") as bar:
            return check(
                rows,
                max_bad=1.0 if max_bad is None else settings.max_bad,
                workers=workers or None,
                deadline=deadline,
                progress=bar.update,
                cache=not again,
                full=full,
                partial=partial,
                reader=reader,
            )

    def report(health: Health) -> dict[str, Any]:
        known = {row.path: row.probe for row in health.good.rows}
        probed = rows.of([replace(row, probe=known.get(row.path)) for row in rows.rows])
        told = _report(rows, health, parts)
        told["durations"] = figures.durations(probed)
        told["clips"] = figures.clip_lengths(probed, clips)
        told |= figures.parts_of(named)
        told["duplicates"] = figures.copies_of(probed, named)
        if duplicates:
            told["alike"] = figures.look_alikes(probed, named, workers=workers, deadline=deadline)
        return told

    try:
        return report(with_messages(probe_all))
    except UnreadableError as error:
        error.report = report(error.health)
        raise
    except KeyboardInterrupt:
        raise Interrupted("interrupted", "what was found is kept, a new check goes on") from None


def _settings(arguments: dict[str, Any]) -> DataConfig:
    try:
        return DataConfig.model_validate(arguments)
    except ValidationError as error:
        wrong = error.errors()[0]
        message = wrong["msg"][0].lower() + wrong["msg"][1:]
        raise UsageError(f"{wrong['loc'][0]}: {message}, not {wrong['input']!r}") from error


def _boxes(
    source: str | Path | Sequence[str | Path],
    root: str | Path | None,
    class_names: str | Path | None,
    split: int,
) -> list[BoxPart] | None:
    """The parts of a file of boxes; None for another source.

    Raises:
        UsageError: it is one of several sources.
    """
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    files = [one for one in sources if os.path.isfile(os.path.expanduser(one))]
    for file in files:
        parts = try_boxes(file, root=root, class_names=class_names, split=split)
        if parts is not None and len(sources) > 1:
            raise UsageError(f"{file} holds boxes", "check files of boxes one by one")
        if parts is not None:
            return parts
    return None


def _rows(
    source: str | Path | Sequence[str | Path],
    root: str | Path | None,
    class_names: str | Path | None,
    split: int,
) -> tuple[Rows, dict[str, Rows]]:
    """The rows with their labels, where they have any, and what else lies in their folders.

    Beside them the rows of each part, where the data has parts.
    """
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    try:
        parts = labeled_parts(sources, kinds="any", root=root, class_names=class_names, split=split)
    except (NoLabelsError, UsageError) as error:
        if class_names is not None:
            raise
        bare = unlabeled_rows(sources, kinds="any", root=root)
        say(f"note: no labels: {error.message}")
        return bare, {}
    rows = join(parts)
    named: dict[str, list[Row]] = {}
    for part in parts:
        named.setdefault(part.name, []).extend(part.rows.rows)
    folders = [place for place in sources if os.path.isdir(os.path.expanduser(place))]
    known = {file_key(row.path) for row in rows.rows}
    known |= {os.path.dirname(path) for path in known}  # a class of numbered images is no clip
    below = unlabeled_rows(folders, kinds="any", root=root).rows if folders else ()
    others = (row for row in below if file_key(row.path) not in known)
    return rows.of([*rows.rows, *others]), {name: rows.of(own) for name, own in named.items()}


def _report(rows: Rows, health: Health, parts: Sequence[BoxPart] | None) -> dict[str, Any]:
    report = {**health.as_dict(), "rows": len(rows)}
    if parts is not None:
        report["boxes"] = _box_report(parts, health)
    good = health.good.rows
    report["unlabelled"] = sum(row.label is None for row in rows.rows)
    report["classes"] = _by_class(rows.classes, rows.rows, good, 0 if rows.nouns else None)
    if rows.nouns is not None:
        report["nouns"] = _by_class(rows.nouns, rows.rows, good, 1)
    return report


def _box_report(parts: Sequence[BoxPart], health: Health) -> dict[str, Any]:
    """Figures about boxes and the frames that they are in."""
    probes = {row.path: row.probe for row in health.good.rows}
    classes: Counter[str] = Counter()
    behind: Counter[str] = Counter()
    unread = outside = 0
    origin = None
    for part in parts:
        rows = [replace(row, probe=probes.get(row.path)) for row in part.rows.rows]
        located = locate(part.boxes, rows)
        classes.update(part.boxes.boxes_by_class())
        behind.update(dict(located.behind))
        unread, outside = unread + located.unread, outside + located.outside
        origin = located.origin if origin is None else origin
    return {
        "key_frames": sum(len(part.boxes) for part in parts),
        "boxes": sum(len(part.boxes.box) for part in parts),
        "classes": dict(classes),
        "parts": {
            part.name: {
                "videos": len(part.rows),
                "key_frames": len(part.boxes),
                "boxes": len(part.boxes.box),
            }
            for part in parts
        },
        "unread": unread,
        "behind": [{"path": path, "key_frames": count} for path, count in behind.items()],
        "outside": outside,
        "origin": origin,
    }


def _by_class(
    names: Sequence[str] | None, rows: Iterable[Row], good: Iterable[Row], column: int | None
) -> dict[str, dict[str, int]] | None:
    """How many rows each class has, and how many of them can be read."""
    if names is None:
        return None

    def count(rows: Iterable[Row]) -> Counter[int]:
        labels = (row.label for row in rows if row.label is not None)
        several = ((label,) if isinstance(label, int) else label for label in labels)
        return Counter(
            label
            for one in several
            for label in (one if column is None else one[column : column + 1])
        )

    all_rows, good_rows = count(rows), count(good)
    return {name: {"rows": all_rows[i], "good": good_rows[i]} for i, name in enumerate(names)}
