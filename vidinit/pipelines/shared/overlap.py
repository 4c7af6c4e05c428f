"""Clips that are trained on and validated on: they stay in both, and how many they are is said.

Clips are the same where `data.rows.clip_keys` says so, whatever their labels are, or where their
files are byte for byte the same. Clips of one group in both parts are no copies of one another, but
what the two have in common is learned, too: that is said as well.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...console import say
from ...data.index.duplicates import identical_files
from ...data.rows import Row, Rows, clip_keys
from ...data.sources import unlabeled_rows
from ...errors import VidinitError

_COMPARED = 20_000
"""Files up to which their contents are compared before a run; `data check` does it for more."""


def say_overlap(train: Rows, val: Rows | None, what: str, *, named: bool) -> tuple[int, list[str]]:
    """How many validation rows are clips that are trained on, and what is said of it, if any are.

    Args:
        train, val: the two parts of the data.
        what: the data, for the message.
        named: True where the user named the validation clips, False where they are a part of the
            data.
    """
    others = "name others with --val"
    (count,), notes = _say({what: train}, {what: val}, {what: named}, others)
    copies = _copies(train, val)
    if copies:
        first, second = copies[0]
        notes.append(
            f"{what}: {len(copies)} validation clips are byte for byte training clips under "
            f"another name, as {first} and {second}; leave them out of one of the two, or {others}"
        )
        say(f"note: {notes[-1]}")
    if shared := _shared_groups(train, val):
        clips = sum(row.group in shared for row in (val.rows if val is not None else ()))
        notes.append(
            f"{what}: {len(shared)} groups stand in training and in validation, as "
            f"'{min(shared)}': {clips} validation clips show what is trained on; without val or a "
            "split column whole groups are held out"
        )
        say(f"note: {notes[-1]}")
    return count + len(copies), notes


def say_distilled(lineage: Sequence[Mapping[str, Any]], val: Rows | None) -> list[str]:
    """The remark where a model was distilled on files that it is validated on, without labels.

    Args:
        lineage: of the model.
        val: the validation clips.
    """
    places = [step["videos"] for step in lineage if step.get("step") == "distill"]
    files = {os.path.realpath(row.path) for row in (val.rows if val is not None else ())}
    learned: set[str] = set()
    for place in filter(None, places):
        # Of a folder that has moved since nothing is known.
        with suppress(VidinitError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            learned |= {
                os.path.realpath(row.path) for row in unlabeled_rows(place, part="train").rows
            }
    count = len(files & learned)
    if not count:
        return []
    note = (
        f"{count} of {len(files)} validation videos were distilled on, without their labels; of "
        "data with a split column or val/, distill takes the training part alone"
    )
    say(f"note: {note}")
    return [note]


def _shared_groups(train: Rows, val: Rows | None) -> set[str]:
    """The groups that both parts have clips of."""
    if val is None:
        return set()
    found = [{row.group for row in part.rows if row.group is not None} for part in (train, val)]
    return found[0] & found[1]


def _copies(train: Rows, val: Rows | None) -> list[tuple[str, str]]:
    """Validation clips and a training clip each whose files differ in their names alone.

    Only whole files are compared, and clips that are the same by their names are left out.
    """
    if val is None or len(train) + len(val) > _COMPARED:
        return []
    known = set(clip_keys(train.rows))
    keys = zip(val.rows, clip_keys(val.rows), strict=True)
    own = [row for row, key in keys if key not in known]

    def whole(rows: Sequence[Row]) -> dict[str, None]:
        return dict.fromkeys(row.path for row in rows if row.start is None and row.end is None)

    trained, validated = whole(train.rows), whole(own)
    found = []
    for same in identical_files([*trained, *validated]):
        source = next((path for path in same if path in trained), None)
        if source is not None:
            found += [(path, source) for path in same if path not in trained]
    return found


def say_overlaps(
    train: Mapping[str, Rows], val: Mapping[str, Rows | None], named: Mapping[str, bool]
) -> tuple[list[int], list[str]]:
    """`say_overlap` of several sources, by name: of each with the training clips of all.

    Returns:
        A number for each source, and what was said.
    """
    return _say(train, val, named, "give it others as val=")


def _say(
    train: Mapping[str, Rows],
    val: Mapping[str, Rows | None],
    named: Mapping[str, bool],
    others: str,
) -> tuple[list[int], list[str]]:
    trained = {name: set(clip_keys(rows.rows)) for name, rows in train.items()}
    counts, notes = [], []
    for name, rows in val.items():
        keys = clip_keys(rows.rows) if rows is not None else []
        found = {other: [key in own for key in keys] for other, own in trained.items()}
        counts.append(sum(map(any, zip(*found.values(), strict=True))))
        for other, hits in found.items():
            if not any(hits):
                continue
            which = f"all {len(hits)}" if all(hits) else f"{sum(hits)} of {len(hits)}"
            way_out = f"leave them out of one of the two, or {others}"
            if other == name and named[name]:
                way_out = f"{others}, or none: data.val_fraction of each class is held out then"
            notes.append(
                f"{name}: {which} validation clips are trained on, too"
                f"{'' if other == name else f', as clips of {other}'}, so their scores say little "
                f"about new clips; {way_out}"
            )
            say(f"note: {notes[-1]}")
    return counts, notes
