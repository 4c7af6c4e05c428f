"""Does every file decode? Found out once, before a run, so that no run fails over it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from .decode import VideoReadError, open_video
from .sources import Rows

_THREADS = 4


@dataclass(frozen=True)
class Probe:
    """What a readable file holds: frames, average frames per second, pixels."""

    num_frames: int
    fps: float
    height: int
    width: int


@dataclass(frozen=True)
class Health:
    """Outcome of a check.

    Attributes:
        files: how many different files were probed.
        good: the rows that can be read, in their order, with ``num_frames``.
        bad: (path, reason) of every file that cannot.
    """

    files: int
    good: Rows
    bad: tuple[tuple[Path, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """``{files, good, bad: [{path, reason}]}`` in counts of files, ready for JSON."""
        bad = [{"path": str(path), "reason": reason} for path, reason in self.bad]
        return {"files": self.files, "good": self.files - len(bad), "bad": bad}


def probe(path: str | Path) -> Probe:
    """Open a file and decode its first, middle and last frame.

    Raises:
        VideoReadError: one of them does not decode; ``reason`` is short.
    """
    reader = open_video(path)
    last = reader.num_frames - 1
    frames = reader.get(sorted({0, last // 2, last}))
    return Probe(reader.num_frames, reader.fps, frames.shape[1], frames.shape[2])


def check(
    rows: Rows, *, max_bad: float = 0.5, progress: Callable[[int, int], None] | None = None
) -> Health:
    """Probe every file of ``rows`` once and keep the rows that can be read.

    Args:
        rows: what to check.
        max_bad: largest share of unreadable files that is still accepted, 0 to 1.
        progress: called in this thread with (files done, files in all).

    Raises:
        DataError: no file is readable, or more than ``max_bad`` of them are not.
    """
    paths = list(dict.fromkeys(row.path for row in rows.rows))
    lengths: dict[Path, int] = {}
    bad: list[tuple[Path, str]] = []
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for path, result in zip(paths, pool.map(_try_probe, paths), strict=True):
            if isinstance(result, Probe):
                lengths[path] = result.num_frames
            else:
                bad.append((path, result))
            if progress is not None:
                progress(len(lengths) + len(bad), len(paths))
    finally:
        # An interrupted check must not probe the rest first.
        pool.shutdown(cancel_futures=True)
    if not lengths:
        example = f": {bad[0][0]}: {bad[0][1]}" if bad else ""
        raise DataError(f"none of {len(paths)} files can be read{example}")
    if len(bad) > max_bad * len(paths):
        raise DataError(
            f"{len(bad)} of {len(paths)} files cannot be read, the first is "
            f"{bad[0][0]}: {bad[0][1]}",
            f"repair or remove them, or raise data.max_bad (now {max_bad:g})",
        )
    good = tuple(
        replace(row, num_frames=lengths[row.path]) for row in rows.rows if row.path in lengths
    )
    return Health(len(paths), Rows(good, rows.classes), tuple(bad))


def _try_probe(path: Path) -> Probe | str:
    """The probe, or the reason why there is none."""
    try:
        return probe(path)
    except VideoReadError as error:
        return error.reason
