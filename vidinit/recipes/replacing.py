"""A folder whose earlier contents stay until new ones are complete."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..engine.run_folder import RunFolder


def is_there(folder: str | Path) -> bool:
    """Whether a folder holds something."""
    return Path(folder).is_dir() and any(Path(folder).iterdir())


@contextmanager
def replaced(
    folder: str | Path, make: Callable[[], RunFolder], *, moves: bool = True
) -> Iterator[RunFolder]:
    """A new folder in the place of an earlier one, which is put back if anything goes wrong.

    Args:
        folder: where.
        make: makes and opens it, once the earlier one is out of the way.
        moves: whether this process is the one that moves and deletes.
    """
    new = Path(folder)
    old = new.with_name(f".{new.name}.old")
    moves = moves and is_there(new)
    if moves:
        shutil.rmtree(old, ignore_errors=True)
        new.rename(old)
    try:
        yield make()
    except BaseException:
        if moves:
            shutil.rmtree(new, ignore_errors=True)
            old.rename(new)
        raise
    if moves:
        shutil.rmtree(old, ignore_errors=True)
