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
from ..index.pool import death, late
from ..index.pool_worker import alarm_of, leave_no_core, set_alarm
from ..rows import Rows
from . import shared_memory
from .watchdog import Guard, Quarantine

# Batches that a worker has in hand: the one it makes, and the next.
_AHEAD = 2


# Seconds between two looks at what the workers are at.
_LOOK = 0.1


# Seconds a worker may be at no row, on top of the deadline: it starts, or puts a batch together.
_BETWEEN = 300.0


# Workers in a row, over one for each place, that may be lost without a batch in between.
_MAX_LOST = 16


# Seconds to wait for the end of a process that was killed.
_FAREWELL = 1.0


# Signals that are no row's doing: all processes are told to end, or it is the alarm of `RowGuard`.
_ALIEN = [getattr(signal, name, None) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGALRM")]


# The ends of channels this process holds: a fork must close its copies, or no end is ever seen.
_HELD: weakref.WeakSet[_Worker] = weakref.WeakSet()


class Workers:
    """Makes the batches of a plan in other processes, and gives them in their order.

    Args:
        plan: the batches.
        count: processes, at least 1.
        deadline: seconds for one row, after which its process is killed. Time in which nobody
            looks counts up to half of the deadline only: the whole program may have been stopped.
        quarantine: rows not to be read; takes those that hang or kill their process.
        context: ``fork``, ``spawn`` or ``forkserver``; None for the platform's own.
    """

    def __init__(
        self,
        plan: Plan,
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
        self.waiting = list(range(len(plan)))  # a heap of the batches that nobody has in hand
        self.ready: dict[int, dict[str, Any] | Failure] = {}
        self.due = 0
        self.lost = 0
        self.looked = time.monotonic()

    def batches(self) -> Iterator[dict[str, Any]]:
        """All batches.

        Raises:
            VidinitError: workers are lost again and again without a batch in between.
            Exception: what the data set raised; the traceback in the worker is its cause.
        """
        try:
            while self.due < len(self.plan):
                self._advance(0.0)
                while self.due not in self.ready:
                    self._advance(min(_LOOK, self.deadline / 4))
                batch = self.ready.pop(self.due)
                if isinstance(batch, Failure):
                    raise batch.error from RuntimeError(batch.traceback)
                self.due += 1
                self._give()
                yield batch
        finally:
            for worker in self.workers:
                worker.kill()
            for worker in self.workers:
                worker.process.join(_FAREWELL)

    def _advance(self, timeout: float) -> None:
        """Hand out what can be, take what comes within ``timeout`` seconds, see to the rest."""
        self._give()
        channels: dict[Any, _Worker] = {worker.answers: worker for worker in self.workers}
        for channel in wait(list(channels), timeout):
            worker = channels[channel]
            answer = shared_memory.receive(worker.answers)
            if answer is None:
                self._bury(worker)
            else:
                number, self.ready[answer[0]] = answer
                worker.jobs.remove(number)
                self.lost = 0
        now = time.monotonic()
        passed, self.looked = min(now - self.looked, self.deadline / 2), now
        for worker in list(self.workers):
            if worker.stuck(passed, self.deadline):
                self._give_up(worker)

    def _give(self) -> None:
        """Give batches to workers, starting these as they are needed."""
        # Batches wait for those before them, so there must be an end to how far ahead they are.
        while self.waiting and self.waiting[0] < self.due + _AHEAD * self.count:
            worker = min(self.workers, key=lambda worker: len(worker.jobs), default=None)
            if worker is None or (worker.jobs and len(self.workers) < self.count):
                reasons = dict(self.quarantine.reasons)
                worker = _Worker(self.context, self.plan, reasons, self.deadline)
                self.workers.append(worker)
            if len(worker.jobs) == _AHEAD:
                return
            worker.jobs.append(self.waiting[0])
            worker.tell(heapq.heappop(self.waiting))

    def _bury(self, worker: _Worker) -> None:
        """See to a worker that died."""
        self._remove(worker)
        code, row = worker.process.exitcode, worker.mark()[0]
        reason = death(code, self.deadline)
        if row >= 0 and (code is None or -code not in _ALIEN):
            # Where memory runs out, chance has a part in who is killed.
            self._blame(row, reason, lasting=code != -signal.SIGKILL)
        self._count_loss(reason)

    def _give_up(self, worker: _Worker) -> None:
        """See to a worker that is stuck."""
        row, _ = judged = worker.seen
        self._remove(worker)
        # It may have come on in the meantime: then it has lost its place, but no row is to blame.
        if row >= 0 and worker.mark() == judged:
            self._blame(row, late(self.deadline), lasting=True)
        self._count_loss(late(self.deadline))

    def _remove(self, worker: _Worker) -> None:
        worker.kill()
        worker.process.join(_FAREWELL)
        self.workers.remove(worker)
        for number in worker.jobs:
            heapq.heappush(self.waiting, number)

    def _blame(self, row: int, reason: str, *, lasting: bool) -> None:
        if row in self.quarantine.reasons:  # two workers were at it
            return
        path = self.plan.dataset.rows.rows[row].path
        self.quarantine.add(row, path, reason, lasting=lasting)
        for worker in self.workers:
            worker.tell({row: reason})

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

    def __init__(self, context: Any, plan: Plan, reasons: dict[int, str], deadline: float) -> None:
        self.jobs: list[int] = []
        self.seen, self.waited = (-1, 0), 0.0
        self.place = context.RawArray("q", [-1, 0])
        self.answers, answers = socket.socketpair()
        news, self.news = context.Pipe(duplex=False)
        _HELD.add(self)
        self.process = context.Process(
            target=_run, args=(plan, news, answers, self.place, reasons, deadline), daemon=True
        )
        with _garbage_kept():
            self.process.start()
        news.close()
        answers.close()

    def tell(self, message: int | dict[int, str]) -> None:
        """Send the number of a batch to make, or reasons why rows are not to be read."""
        with contextlib.suppress(ConnectionError):  # it is gone, as its other channel will say
            self.news.send(message)

    def mark(self) -> tuple[int, int]:
        """The row it is at, -1 for none, and how many rows it began."""
        return self.place[0], self.place[1]

    def stuck(self, passed: float, deadline: float) -> bool:
        """Whether it is at one row for too long, ``passed`` seconds after the last look."""
        mark = self.mark()
        self.waited = self.waited + passed if mark == self.seen and self.jobs else 0.0
        self.seen = mark
        return self.waited >= (deadline if mark[0] >= 0 else deadline + _BETWEEN)

    def close(self) -> None:
        self.news.close()
        self.answers.close()

    def kill(self) -> None:
        self.process.kill()
        self.close()


def _run(
    plan: Plan,
    news: Connection,
    answers: socket.socket,
    place: Any,
    reasons: dict[int, str],
    deadline: float,
) -> None:
    # In a fork all that is there is the parent's, garbage as well: a decoder that is taken apart
    # without its threads waits for them for ever.
    gc.freeze()
    gc.enable()
    for worker in list(_HELD):
        worker.close()
    work(plan, RowGuard(news, place, reasons, deadline), answers)


@contextlib.contextmanager
def _garbage_kept() -> Iterator[None]:
    """While entered, no garbage is collected, here or in a fork."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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
            shared_memory.send(answers, number, _made(plan, number, guard))


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
