"""The text forms of a student's objectives, and of what is hidden from it.

Parsing imports nothing heavy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

OBJECTIVES = ("logits", "tokens", "masked")
"""``logits``: a teacher's outputs for some frames (DistInit). ``tokens``: its maps of the frames,
learned by the student's maps per time step. ``masked``: tokens behind several blocks, where most
patches are taken from the student (Unmasked Teacher)."""

HIDING = ("none", "future", "past", "random")

USUAL_MASK = 0.8
"""Share of the patches that ``masked`` takes away where nothing is said: the paper's."""


def parse_target(text: str) -> dict[str, float]:
    """``NAME[:WEIGHT],...`` as weights by objective, in the order of `OBJECTIVES`.

    Raises:
        ValueError: for another form, an unknown name, one that comes twice, or a weight that is not
            above 0; the message is for people.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, colon, number = part.strip().partition(":")
        if name not in OBJECTIVES:
            raise ValueError(f"'{name}' is no objective: take {', '.join(OBJECTIVES)}")
        if name in found:
            raise ValueError(f"{name} comes twice")
        try:
            weight = float(number) if colon else 1.0
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            raise ValueError(f"the weight of {name} is a number above 0, not '{number}'")
        found[name] = weight
    return {name: found[name] for name in OBJECTIVES if name in found}


@dataclass(frozen=True)
class Hide:
    """The frames of a clip that a student does not see.

    Attributes:
        kind: ``future``: the last ones. ``past``: the first. ``random``: different ones, each set
            of them as likely.
        count: K, how many; None: three of eight.
    """

    kind: Literal["none", "future", "past", "random"] = "none"
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> Hide:
        """``none``, or ``future``, ``past`` or ``random``, with ``:K`` behind it or without.

        Raises:
            ValueError: for other words; the message is for people.
        """
        match = re.fullmatch(r"(none|(future|past|random)(:([1-9]\d*))?)", text)
        if match is None:
            raise ValueError("input should be none, future, past or random, the last three with :K")
        kind = match[2] or "none"
        return cls(kind, int(match[4]) if match[4] else None)  # type: ignore[arg-type]

    def number(self, frames: int) -> int:
        """K of a clip of ``frames`` frames; 0 where nothing is hidden."""
        if self.kind == "none":
            return 0
        return max(1, round(3 * frames / 8)) if self.count is None else self.count
