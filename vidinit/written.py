"""Files that appear with all of their contents, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import VidinitError


@contextmanager
def written(
    path: str | Path,
    *,
    size: float | None = None,
    advice: str = "make room, or name another --out",
) -> Iterator[Path]:
    """A file beside ``path`` that takes its place if nothing goes wrong, and else is removed.

    It has the suffix of ``path``, by which some writers choose a format.

    Args:
        path: the file; its folder is made.
        size: megabytes that the file takes, told where the disk is full.
        advice: what to do then.

    Raises:
        VidinitError: the disk does not take it; what was there before is still there.
    """
    place = Path(path)
    part = place.with_name(f".{place.stem}.new{place.suffix}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, place)
    except OSError as error:
        takes = "" if size is None else f": it takes {size:.1f} MB"
        raise VidinitError(
            f"cannot write {place} ({error.strerror or error}){takes}", advice
        ) from error
    finally:
        part.unlink(missing_ok=True)
