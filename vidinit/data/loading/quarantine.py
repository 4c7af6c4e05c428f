"""Rows that hang or crash the process that reads them: noted once, and never read again.

`workers` notices such a row and replaces the process; here is the list of them, and the guard that
every read goes through.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ...errors import escaped
from .. import index as file_index
from ..readers import VideoReadError
from ..rows import Row

# Seconds that noting a file may take: asking a dead network drive for its size never ends.
_NOTE_SECONDS = 5.0


@dataclass
class Quarantine:
    """Rows of one data set that are not to be read again; it outlives loaders and epochs.

    Attributes:
        reasons: why, in a few words, by the index of the row.
        events: ``{path, reason, when}`` of each row that was added, in order, ``when`` in UTC.
        on_event: called after a row was added.
        kept: rows that `keep` told of.
    """

    reasons: dict[int, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    on_event: Callable[[], None] | None = None
    kept: set[int] = field(default_factory=set)

    def keep(self, index: int, row: Row, kept: str) -> None:
        """Say once on stderr how much is shown of a row that was found to be damaged just now.

        Args:
            index: of the row.
            row: as it was before.
            kept: as in `Probe.kept`; empty for a sound file.
        """
        known = row.probe is not None and row.probe.fault
        if kept and not known and index not in self.kept:
            self.kept.add(index)
            print(escaped(f"note: {row.path}: {kept}"), file=sys.stderr, flush=True)

    def add(self, index: int, path: str, reason: str, *, lasting: bool = True) -> None:
        """Leave a row out from now on, say so on stderr, and tell later runs.

        Args:
            index: of the row.
            path: its file.
            reason: what it did to its reader, in a few words.
            lasting: later runs leave the file out, too; not where chance may have chosen it.
        """
        self.reasons[index] = reason
        when = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.events.append({"path": path, "reason": reason, "when": when})
        note = escaped(f"note: {path} is left out from here on: {reason}")
        print(note, file=sys.stderr, flush=True)
        if lasting:
            noting = threading.Thread(
                target=file_index.quarantine, args=(path, reason), daemon=True
            )
            noting.start()
            noting.join(_NOTE_SECONDS)
        if self.on_event is not None:
            self.on_event()


class ReadGuard:
    """Allows or refuses to read a row: a data set reads one only inside of `reading`.

    Args:
        reasons: why rows are not to be read, by their index.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        self.reasons = reasons

    @contextmanager
    def reading(self, index: int, path: str) -> Iterator[None]:
        """While entered, the row is being read.

        Raises:
            VideoReadError: the row is in quarantine, or it does not fit into memory.
        """
        if index in self.reasons:
            raise VideoReadError(path, self.reasons[index])
        try:
            yield
        except MemoryError as error:
            raise VideoReadError(path, "it does not fit into memory") from error
