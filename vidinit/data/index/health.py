"""What a check found of a data set, in figures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..rows import Probe, Row, Rows

# A data set may hold images of as many sizes as files.
_MOST_COMMON = 20


@dataclass(frozen=True)
class Health:
    """Outcome of a check.

    Attributes:
        files: how many different files the rows have.
        good: the rows whose file can be read, in their order, each with its ``probe``.
        bad: (path, reason) of every file that cannot be read, in their order.
    """

    files: int
    good: Rows
    bad: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """The outcome in counts of files, ready for JSON; all values can be added up.

        ``{files, good, bad: [{path, reason}], reasons: {kind: files}, frames, hours, sizes:
        {"WIDTHxHEIGHT": files}, fps: {rate: files}, rotated, readers: {name: files}, outside:
        [{path, reason}]}``. ``sizes`` and ``fps`` name the 20 most common ones and count the rest
        as "other". ``outside`` are rows whose segment begins behind the end of a good file.
        """
        probes = {row.path: row.probe for row in self.good.rows if row.probe is not None}
        known = probes.values()
        timed = [probe for probe in known if probe.fps > 0]
        return {
            "files": self.files,
            "good": self.files - len(self.bad),
            "bad": [{"path": path, "reason": reason} for path, reason in self.bad],
            "reasons": _counts(kind_of(reason) for _, reason in self.bad),
            "frames": sum(probe.num_frames for probe in known),
            "hours": round(sum(probe.num_frames / probe.fps for probe in timed) / 3600, 4),
            "sizes": _counts(f"{probe.width}x{probe.height}" for probe in known),
            "fps": _counts(f"{probe.fps:.4g}" for probe in timed),
            "rotated": sum(probe.rotation != 0 for probe in known),
            "readers": _counts(probe.reader for probe in known),
            "outside": [
                {"path": row.path, "reason": reason}
                for row in self.good.rows
                if (reason := _outside(row, row.probe))
            ],
        }


def kind_of(reason: str) -> str:
    """A reason without what is particular to its file: numbers, details behind a ( or a colon."""
    return re.sub(r"\d+([.,]\d+)*", "N", re.split(r"\s*[(:]", reason)[0])


def _counts(values: Iterable[str]) -> dict[str, int]:
    counted = Counter(values).most_common()
    counts = dict(counted[:_MOST_COMMON])
    rest = sum(count for _, count in counted[_MOST_COMMON:])
    return {**counts, "other": rest} if rest else counts


def _outside(row: Row, probe: Probe | None) -> str:
    """Why nothing of a row's segment can be read, or the empty string."""
    if probe is None or row.start is None or probe.fps <= 0:
        return ""
    seconds = probe.num_frames / probe.fps
    if row.start < seconds:
        return ""
    return f"it ends at {seconds:.2f} s, before its segment begins at {row.start:g} s"
