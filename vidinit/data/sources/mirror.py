"""Left and right in the names of classes: which clips may be mirrored, and what they then show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...errors import UsageError
from ..rows import Label, Rows

# The words, also inside CamelCase, snake_case and with -ward(s): not "bright", not "leftover".
_SIDES = re.compile(
    r"(?<![A-Za-z])(?:[Ll]eft|[Rr]ight)(?:wards?)?(?![a-z])"
    r"|(?<=[a-z])(?:Left|Right)(?:wards?)?(?![a-z])"
    r"|(?<![A-Za-z])(?:LEFT|RIGHT)(?![A-Za-z])"
)
_OTHER = {"left": "right", "Left": "Right", "LEFT": "RIGHT"}
_OTHER |= {right: left for left, right in _OTHER.items()}


def flippable(classes: Iterable[str]) -> bool:
    """Whether clips may be mirrored: False if the word left or right is in any class name."""
    return not any(_SIDES.search(name) for name in classes)


def exchanged(name: str) -> str:
    """A class name with left and right exchanged: "from left to right", "from right to left"."""

    def other(word: re.Match[str]) -> str:
        side = next(side for side in _OTHER if word[0].startswith(side))
        return _OTHER[side] + word[0].removeprefix(side)

    return _SIDES.sub(other, name)


def mirrored(rows: Rows, where: str) -> Rows:
    """The same rows with the labels that their mirror images have (DiST, ICCV 2023).

    A class becomes the one whose name has left and right exchanged, as "Pulling something from left
    to right" and "... from right to left" of Something-Something; all others stay.

    Args:
        rows: of any kind, also without labels.
        where: the data set, for messages.

    Raises:
        UsageError: a class has no such partner.
    """
    classes = _partners(rows.classes or (), where)
    nouns = _partners(rows.nouns or (), where)

    def moved(label: Label) -> Label:
        if label is None or isinstance(label, int):
            return None if label is None else classes[label]
        if rows.kind == "pair":
            return classes[label[0]], nouns[label[1]]
        return tuple(sorted(classes[one] for one in label))

    found = [(row, moved(row.label)) for row in rows.rows]
    return rows.of(
        [row if label == row.label else replace(row, label=label) for row, label in found]
    )


def _partners(names: Sequence[str], where: str) -> list[int]:
    """Where the partner of each name stands among them."""
    ids = {name: place for place, name in enumerate(names)}
    partners = [exchanged(name) for name in names]
    alone = [name for name, partner in zip(names, partners, strict=True) if partner not in ids]
    if alone:
        more = f", nor has any of {len(alone) - 1} more" if len(alone) > 1 else ""
        raise UsageError(
            f"data.flip=swap: class '{alone[0]}' of {where} has no partner "
            f"'{exchanged(alone[0])}'{more}",
            "with data.flip=auto nothing is mirrored where classes are named after left and right",
        )
    return [ids[partner] for partner in partners]
