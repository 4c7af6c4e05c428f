"""Clips that are trained on and validated on: they stay in both, and how many they are is said.

Clips are the same where `data.rows.clip_keys` says so, whatever their labels are.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...console import say
from ...data.rows import Rows, clip_keys


def say_overlap(train: Rows, val: Rows | None, what: str, *, named: bool) -> tuple[int, list[str]]:
    """How many validation rows are clips that are trained on, and what is said of it, if any are.

    Args:
        train, val: the two parts of the data.
        what: the data, for the message.
        named: True where the user named the validation clips, False where they are a part of the
            data.
    """
    (count,), notes = _say({what: train}, {what: val}, {what: named}, "name others with --val")
    return count, notes


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
