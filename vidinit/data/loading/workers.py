"""Processes that make batches and may hang or die over any row: the run goes on without the row.

torch's DataLoader cannot be used for this. Its batches stay with the worker until they are fetched
from it, so one that hangs in native code with the interpreter lock held stops whoever asks for a
batch it finished before, without end and whatever the timeout; its SIGCHLD handler raises wherever
the program is; and as its workers share a queue, all of them have to go when one does. Here each
worker has its own channels and marks in shared memory the row it is at. One that is dead, or at
the same row for too long, is replaced alone, and what it had to do is done again.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import multiprocessing
import pickle
import signal
import socket
import time
import traceback
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import torch

from ...errors import VidinitError
from ..killable import alarm_seconds, exit_reason, leave_no_core, set_alarm, timeout_reason
from ..rows import Rows
from . import shared_memory
from .quarantine import Quarantine, ReadGuard

# Batches that a worker has in hand: the one it makes, and the next.
_AHEAD = 2

# Seconds between two checks of what the workers are at.
_POLL_SECONDS = 0.1

# Seconds a worker may be at no row, on top of the deadline: it starts, or puts a batch together.
_BETWEEN_ROWS = 300.0

# Workers in a row, over one for each place, that may be lost without a batch in between.
_MAX_LOST = 16

# Seconds to wait for the end of a process that was killed.
_JOIN_SECONDS = 1.0

# Signals that are no row's doing: somebody ends all processes, or it is the alarm of `WorkerGuard`.
_FOREIGN_SIGNALS = [
    getattr(signal, name, None) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGALRM")
]

# The workers whose channels this process holds. A fork gets copies of all of them and must close
# these, or the end of a worker is never seen: its channel would still be open somewhere.
_OPEN_WORKERS: weakref.WeakSet[_Worker] = weakref.WeakSet()


class Workers:
    """Makes the batches of a plan in other processes, and yields them in their order.

    Args:
        plan: the batches.
        count: processes, at least 1.
        deadline: seconds for one row, after which its process is killed. Time in which nobody
            checks counts up to half of the deadline only: the whole program may have been stopped.
        quarantine: rows not to be read; takes those that hang or kill their process.
        context: ``fork``, ``spawn`` or ``forkserver``; None for the platform's own.
    """

    def __init__(
        self,
        plan: BatchPlan,
        *,
        count: int,
        deadline: float,
        quarantine: Quarantine,
        context: str | None = None,
    ) -> None:
        self.plan, self.count, self.deadline = plan, count, deadline
        self.quarantine = quarantine
        self.context = multiprocessing.get_context(context)
        self.workers: list[_Worker] = []
        self.queued = list(range(len(plan)))  # a heap of the batches that no worker has
        self.ready: dict[int, dict[str, Any] | Failure] = {}
        self.next_number = 0  # of the batch that is yielded next
        self.lost = 0
        self.checked_at = time.monotonic()

    def batches(self) -> Iterator[dict[str, Any]]:
        """All batches.

        Raises:
            VidinitError: workers are lost again and again without a batch in between.
            Exception: what the data set raised; the traceback in the worker is its cause.
        """
        try:
            while self.next_number < len(self.plan):
                self._advance(0.0)
                while self.next_number not in self.ready:
                    self._advance(min(_POLL_SECONDS, self.deadline / 4))
                batch = self.ready.pop(self.next_number)
                if isinstance(batch, Failure):
                    raise batch.error from RuntimeError(batch.traceback)
                self.next_number += 1
                self._assign()
                yield batch
        finally:
            for worker in self.workers:
                worker.kill()
            for worker in self.workers:
                worker.process.join(_JOIN_SECONDS)

    def _advance(self, timeout: float) -> None:
        """Assign batches, receive those that come within ``timeout`` seconds, replace workers."""
        self._assign()
        channels: dict[Any, _Worker] = {worker.results: worker for worker in self.workers}
        for channel in wait(list(channels), timeout):
            worker = channels[channel]
            answer = shared_memory.receive(worker.results)
            if answer is None:
                self._handle_exit(worker)
            else:
                number, self.ready[answer[0]] = answer
                worker.jobs.remove(number)
                self.lost = 0
        now = time.monotonic()
        passed, self.checked_at = min(now - self.checked_at, self.deadline / 2), now
        for worker in list(self.workers):
            if worker.is_stuck(passed, self.deadline):
                self._handle_hang(worker)

    def _assign(self) -> None:
        """Assign batches to workers, starting these as they are needed."""
        # Batches wait for those before them, so there must be an end to how far ahead they are.
        while self.queued and self.queued[0] < self.next_number + _AHEAD * self.count:
            worker = min(self.workers, key=lambda worker: len(worker.jobs), default=None)
            if worker is None or (worker.jobs and len(self.workers) < self.count):
                reasons = dict(self.quarantine.reasons)
                worker = _Worker(self.context, self.plan, reasons, self.deadline)
                self.workers.append(worker)
            if len(worker.jobs) == _AHEAD:
                return
            worker.jobs.append(self.queued[0])
            worker.send(heapq.heappop(self.queued))

    def _handle_exit(self, worker: _Worker) -> None:
        """Replace a worker that died, and leave out the row that it died over."""
        self._remove(worker)
        code, row = worker.process.exitcode, worker.position()[0]
        reason = exit_reason(code, self.deadline)
        if row >= 0 and (code is None or -code not in _FOREIGN_SIGNALS):
            # Where memory runs out, chance has a part in who is killed.
            self._quarantine_row(row, reason, lasting=code != -signal.SIGKILL)
        self._count_loss(reason)

    def _handle_hang(self, worker: _Worker) -> None:
        """Replace a worker that is stuck, and leave out the row that it is stuck at."""
        row, _ = position = worker.last_position
        self._remove(worker)
        # It may have come on in the meantime: then it has lost its place, but no row is to blame.
        if row >= 0 and worker.position() == position:
            self._quarantine_row(row, timeout_reason(self.deadline), lasting=True)
        self._count_loss(timeout_reason(self.deadline))

    def _remove(self, worker: _Worker) -> None:
        worker.kill()
        worker.process.join(_JOIN_SECONDS)
        self.workers.remove(worker)
        for number in worker.jobs:
            heapq.heappush(self.queued, number)

    def _quarantine_row(self, row: int, reason: str, *, lasting: bool) -> None:
        if row in self.quarantine.reasons:  # two workers were at it
            return
        path = self.plan.dataset.rows.rows[row].path
        self.quarantine.add(row, path, reason, lasting=lasting)
        for worker in self.workers:
            worker.send({row: reason})

    def _count_loss(self, reason: str) -> None:
        self.lost += 1
        if self.lost >= _MAX_LOST + self.count:
            raise VidinitError(
                f"{self.lost} decoding processes in a row were lost without a batch in between, "
                f"the last one because of this: {reason}",
                "see that the data and enough memory are within reach, or set data.workers=0",
            )


class _Worker:
    """A process, the channels to and from it, and what it has in hand."""

    def __init__(
        self, context: Any, plan: BatchPlan, reasons: dict[int, str], deadline: float
    ) -> None:
        self.jobs: list[int] = []
        self.last_position, self.seconds_there = (-1, 0), 0.0
        # Shared memory rather than messages: a worker that hangs sends none.
        self.shared = context.RawArray("q", [-1, 0])
        self.results, results = socket.socketpair()
        orders, self.orders = context.Pipe(duplex=False)
        _OPEN_WORKERS.add(self)
        self.process = context.Process(
            target=_run, args=(plan, orders, results, self.shared, reasons, deadline), daemon=True
        )
        with _no_collection():
            self.process.start()
        orders.close()
        results.close()

    def send(self, message: int | dict[int, str]) -> None:
        """Send the number of a batch to make, or reasons why rows are not to be read."""
        with contextlib.suppress(ConnectionError):  # it is gone, as its other channel will say
            self.orders.send(message)

    def position(self) -> tuple[int, int]:
        """The row it is at, -1 for none, and how many rows it began."""
        return self.shared[0], self.shared[1]

    def is_stuck(self, passed: float, deadline: float) -> bool:
        """True where it is at one row for too long, ``passed`` seconds after the last check."""
        position = self.position()
        stays = position == self.last_position and self.jobs
        self.seconds_there = self.seconds_there + passed if stays else 0.0
        self.last_position = position
        limit = deadline if position[0] >= 0 else deadline + _BETWEEN_ROWS
        return self.seconds_there >= limit

    def close(self) -> None:
        self.orders.close()
        self.results.close()

    def kill(self) -> None:
        self.process.kill()
        self.close()


def _run(
    plan: BatchPlan,
    orders: Connection,
    results: socket.socket,
    shared: Any,
    reasons: dict[int, str],
    deadline: float,
) -> None:
    """The process of a worker."""
    # In a fork all that is there is the parent's, garbage as well: a decoder that is taken apart
    # without its threads waits for them for ever.
    gc.freeze()
    gc.enable()
    for worker in list(_OPEN_WORKERS):
        worker.close()
    work(plan, WorkerGuard(orders, shared, reasons, deadline), results)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """While entered, no garbage is collected, here or in a fork that begins now.

    In a fork the collector would free copies of the parent's objects, and a decoder among them
    waits for threads that the fork does not have.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class RowDataset(Protocol):
    """A data set that is read row by row under a guard."""

    @property
    def rows(self) -> Rows:
        """The rows, whose paths are named where one cannot be read."""

    def load(self, key: Any, guard: ReadGuard) -> dict[str, Any]:
        """The item of a key."""

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch of items."""


@dataclass(frozen=True)
class BatchPlan:
    """The batches of a data set by number: batch n holds the ``size`` keys from ``n * size`` on."""

    dataset: RowDataset
    keys: Sequence[Any]
    size: int

    def __len__(self) -> int:
        return -(-len(self.keys) // self.size)

    def make(self, number: int, guard: ReadGuard) -> dict[str, Any]:
        """Batch ``number``."""
        keys = self.keys[number * self.size : (number + 1) * self.size]
        return self.dataset.collate([self.dataset.load(key, guard) for key in keys])


@dataclass(frozen=True)
class Failure:
    """An error in place of a batch that cannot be made, and where it came from."""

    error: Exception
    traceback: str


class WorkerGuard(ReadGuard):
    """The guard of a worker: notes where it is, and learns of rows that others were lost over.

    Args:
        orders: brings numbers of batches to make, and reasons by row.
        shared: memory shared with the parent, in which the worker writes the row that it is at, -1
            for none, and how many it began.
        reasons: why rows are not to be read, by their index; taken over.
        deadline: seconds after which the parent kills a worker that is still at the same row.
    """

    reasons: dict[int, str]

    def __init__(
        self, orders: Connection, shared: Any, reasons: dict[int, str], deadline: float
    ) -> None:
        super().__init__(reasons)
        self.orders, self.shared = orders, shared
        self.alarm = alarm_seconds(deadline)
        self.jobs: deque[int] = deque()

    def next_job(self) -> int:
        """The next batch to make.

        Raises:
            EOFError: there is nobody to make it for.
        """
        while not self.jobs:
            self._receive()
        return self.jobs.popleft()

    @contextmanager
    def reading(self, index: int, path: str) -> Iterator[None]:
        """While entered, the row is being read; see `ReadGuard`."""
        while self.orders.poll():
            self._receive()
        # The count first: the parent must never see a new row with the count of the last one.
        self.shared[1] += 1
        self.shared[0] = index
        # The kernel's alarm ends a process that hangs where the parent is gone.
        set_alarm(self.alarm)
        try:
            with super().reading(index, path):
                yield
        finally:
            set_alarm(0)
            self.shared[0] = -1

    def _receive(self) -> None:
        message = self.orders.recv()
        if isinstance(message, int):
            self.jobs.append(message)
        else:
            self.reasons.update(message)


def work(plan: BatchPlan, guard: WorkerGuard, results: socket.socket) -> None:
    """Make batches and send them, until nobody wants them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its workers
    for name in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(name, signal.SIG_DFL)
    leave_no_core()
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            number = guard.next_job()
            shared_memory.send(results, number, _make(plan, number, guard))


def _make(plan: BatchPlan, number: int, guard: ReadGuard) -> dict[str, Any] | Failure:
    try:
        return plan.make(number, guard)
    except Exception as error:
        text = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return Failure(RuntimeError(f"{type(error).__name__}: {error}"), text)
        return Failure(error, text)
