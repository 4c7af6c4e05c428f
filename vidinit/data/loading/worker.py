"""What a process of `workers` does: make batches, and say which row it is at."""

from __future__ import annotations

import contextlib
import pickle
import signal
import socket
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

import torch

from ..index.pool_worker import alarm_of, leave_no_core, set_alarm
from ..rows import Rows
from . import handover
from .watchdog import Guard


class Source(Protocol):
    """A data set that is read row by row under a guard."""

    @property
    def rows(self) -> Rows:
        """Its rows."""

    def load(self, key: Any, guard: Guard) -> dict[str, Any]:
        """The item of a key."""

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch of items."""


@dataclass(frozen=True)
class Plan:
    """Which batches there are: batch n holds the ``size`` keys from ``n * size`` on."""

    dataset: Source
    keys: Sequence[Any]
    size: int

    def __len__(self) -> int:
        return -(-len(self.keys) // self.size)

    def make(self, number: int, guard: Guard) -> dict[str, Any]:
        """Batch ``number``."""
        keys = self.keys[number * self.size : (number + 1) * self.size]
        return self.dataset.collate([self.dataset.load(key, guard) for key in keys])


@dataclass(frozen=True)
class Failure:
    """What stands in place of a batch that cannot be made: an error, and where it came from."""

    error: Exception
    traceback: str


class RowGuard(Guard):
    """The guard of a worker: says where it is, and hears of rows that others were lost over.

    Args:
        news: brings numbers of batches to make, and reasons by row.
        place: shared memory: the row this worker is at, -1 for none, and how many it began.
        reasons: why rows are not to be read, by their index; taken over.
        deadline: seconds after which the parent kills a worker that is still at the same row.
    """

    def __init__(
        self, news: Connection, place: Any, reasons: dict[int, str], deadline: float
    ) -> None:
        super().__init__(reasons)
        self.news, self.place, self.known = news, place, reasons
        self.alarm = alarm_of(deadline)
        self.jobs: deque[int] = deque()

    def next_job(self) -> int:
        """The next batch to make.

        Raises:
            EOFError: there is nobody to make it for.
        """
        while not self.jobs:
            self._hear()
        return self.jobs.popleft()

    @contextmanager
    def reading(self, index: int, path: str) -> Iterator[None]:
        """While entered, the row is being read; see `Guard`."""
        while self.news.poll():
            self._hear()
        self.place[1] += 1
        self.place[0] = index
        # The kernel's alarm ends a process that hangs where the parent is gone.
        set_alarm(self.alarm)
        try:
            with super().reading(index, path):
                yield
        finally:
            set_alarm(0)
            self.place[0] = -1

    def _hear(self) -> None:
        message = self.news.recv()
        if isinstance(message, int):
            self.jobs.append(message)
        else:
            self.known.update(message)


def work(plan: Plan, guard: RowGuard, answers: socket.socket) -> None:
    """Make batches and send them, until nobody wants them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its workers
    for name in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(name, signal.SIG_DFL)
    leave_no_core()
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            number = guard.next_job()
            handover.send(answers, number, _made(plan, number, guard))


def _made(plan: Plan, number: int, guard: Guard) -> dict[str, Any] | Failure:
    try:
        return plan.make(number, guard)
    except Exception as error:
        text = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return Failure(RuntimeError(f"{type(error).__name__}: {error}"), text)
        return Failure(error, text)
