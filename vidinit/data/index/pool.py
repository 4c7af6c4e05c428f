"""Work on files in processes that can be killed: a decoder may hang or crash, the pool may not.

A decoder that hangs holds the interpreter lock in native code, so neither a thread nor a signal
handler gets a word in; only the end of its process helps. Workers are plain Python processes that
read items as JSON lines and answer in JSON lines, so nothing of the parent (a GPU, threads, open
readers) is inherited and nothing needs a ``__main__`` guard. A thread of the parent talks to each
of them, so no pipe that nobody reads can hold the parent up.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import VidinitError
from ..killable import exit_reason, timeout_reason

# A worker imports numpy and PyAV before it is up: 0.2 s, on a busy machine much more.
_START_UP = 120.0
# Processes in a row that may end without having read an item.
_MAX_FAILED_STARTS = 4
# A process is replaced after so many items, because decoders leak a little with each bad file.
_MAX_ITEMS = 1000
# A process that waits for a dead network drive outlives its killing: it is left behind.
_JOIN_SECONDS = 5.0

# A worker gets its parent's path; its own would begin with the working directory, in which a user
# may keep a `random.py`.
_CODE = (
    "import sys; function, deadline, *sys.path = sys.argv[1:]\n"
    f"from {__package__}.pool_worker import work; work(function, float(deadline))"
)
# Numerical libraries start a thread per core when they are imported.
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


@dataclass(frozen=True)
class Outcome:
    """The result of one item.

    Attributes:
        item: as it was given.
        value: what the function returned; None when it failed.
        reason: why it failed, in a few words, or None.
        killed: it took its process with it (it hung or crashed).
    """

    item: Any
    value: Any = None
    reason: str | None = None
    killed: bool = False


def run_in_pool(
    function: str, items: Iterable[Any], *, workers: int, deadline: float
) -> Generator[Outcome, None, None]:
    """Call a function on every item in other processes; outcomes come as they are ready.

    The first process starts alone, and their number doubles each time that all of them are at
    work and items are waiting: a few files cost one start, many soon have all ``workers``.

    Args:
        function: ``package.module:name``, from one JSON value to another; it may raise
            `VideoReadError`, whose reason becomes the outcome's.
        items: JSON values, taken as they are needed.
        workers: processes at a time, at least 1.
        deadline: seconds for one item, after which its process is killed.

    Raises:
        RuntimeError: the function raised something else. That is a fault of the function, not of
            the item, so it ends the work; the message names the item and ends in the traceback.
        VidinitError: processes cannot be started.
    """
    pool = _Pool(function, items, max(workers, 1), deadline)
    try:
        yield from pool.run()
    finally:
        pool.close()


def by_deadline(
    sized: Iterable[tuple[int, Any]], size: int, deadline: float
) -> list[tuple[float, list[Any]]]:
    """Items in groups of one deadline in seconds, which grows with their files.

    Every deadline is a pool of its own, so they double: there are few of them.

    Args:
        sized: bytes of the file of each item, and the item.
        size: bytes up to which the deadline is as it is.
        deadline: seconds.
    """
    groups: dict[float, list[Any]] = defaultdict(list)
    for found, item in sized:
        groups[deadline * 2 ** math.ceil(math.log2(max(found / size, 1)))].append(item)
    return sorted(groups.items())


class _Pool:
    """The workers, the items that are queued for them, and the answers that have come."""

    def __init__(self, function: str, items: Iterable[Any], limit: int, deadline: float) -> None:
        self.function, self.limit, self.deadline = function, limit, deadline
        self.items = iter(items)
        self.queued: list[Any] = []  # the next item, and those whose worker was gone
        self.workers: list[_Worker] = []
        self.answers: queue.SimpleQueue[tuple[_Worker, bytes | None]] = queue.SimpleQueue()
        self.failed_starts = 0

    def run(self) -> Iterator[Outcome]:
        while any(worker.busy for worker in self.workers) or self.has_items():
            self.assign()
            self.grow()
            due = min(worker.due for worker in self.workers if worker.due is not None)
            try:
                # No wait may be longer than the platform's longest.
                pause = min(max(due - time.monotonic(), 0.0), 3600.0)
                outcomes = [self.outcome_of(*self.answers.get(timeout=pause))]
            except queue.Empty:
                outcomes = []
            outcomes += [self.time_out(worker) for worker in self.workers[:] if worker.overdue()]
            yield from (outcome for outcome in outcomes if outcome is not None)

    def has_items(self) -> bool:
        if not self.queued:
            self.queued.extend(itertools.islice(self.items, 1))
        return bool(self.queued)

    def grow(self) -> None:
        """Twice as many workers, where all of them are busy and there is more to do."""
        full = len(self.workers) >= self.limit
        if full or not all(worker.busy for worker in self.workers) or not self.has_items():
            return
        for _ in range(min(max(len(self.workers), 1), self.limit - len(self.workers))):
            try:
                self.workers.append(_Worker(self.function, self.deadline, self.answers))
            except OSError as error:  # the machine has no more processes or memory to give
                if not self.workers:
                    raise VidinitError(f"no process can be started for decoding: {error}") from None
                self.limit = len(self.workers)
                return

    def assign(self) -> None:
        for worker in [worker for worker in self.workers if worker.idle]:
            if not self.has_items():
                return
            gone = worker.process.poll() is not None
            if gone or worker.sent >= _MAX_ITEMS:
                self.drop(worker)
                if gone:
                    self.count_failed_start()
            else:
                worker.send(self.queued.pop())

    def outcome_of(self, worker: _Worker, line: bytes | None) -> Outcome | None:
        """The outcome that an answer of a worker stands for, if it stands for one."""
        if worker not in self.workers:
            return None  # it was given up before, and this is its end
        busy, item = worker.busy, worker.item
        if not line:
            self.drop(worker)
            if busy and line is not None:
                reason = exit_reason(worker.process.returncode, self.deadline)
                return Outcome(item, reason=reason, killed=True)
            if busy:
                self.queued.append(item)  # it was gone before it had read the item
            self.count_failed_start()
            return None
        answer = json.loads(line)
        if "fault" in answer:
            where = f" (on {json.dumps(item)[:200]})" if busy else ""
            raise RuntimeError(f"{answer['fault']}{where}\n{answer['traceback']}")
        worker.set_free()
        if not busy:
            return None  # it is up
        self.failed_starts = 0
        return Outcome(item, answer.get("value"), answer.get("reason"))

    def time_out(self, worker: _Worker) -> Outcome | None:
        self.drop(worker)
        if worker.busy:
            return Outcome(worker.item, reason=timeout_reason(self.deadline), killed=True)
        self.count_failed_start()
        return None

    def count_failed_start(self) -> None:
        self.failed_starts += 1
        if self.failed_starts == _MAX_FAILED_STARTS:
            raise VidinitError(
                "processes for decoding end before they have begun",
                f"see what `{sys.executable} -c 'import {__package__}.pool_worker'` says",
            )

    def drop(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.kill()

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.thread.join(_JOIN_SECONDS)


class _Worker:
    """One process, the item it holds, and the thread that talks to it."""

    def __init__(
        self,
        function: str,
        deadline: float,
        answers: queue.SimpleQueue[tuple[_Worker, bytes | None]],
    ) -> None:
        self.deadline, self.answers = deadline, answers
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CODE, function, str(deadline), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ONE_THREAD},
            start_new_session=True,  # Ctrl-C is the parent's, which ends its workers itself
        )
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.item: Any = None
        self.busy = self.idle = self.answered = False
        self.sent = 0
        self.due: float | None = time.monotonic() + _START_UP
        self.thread = threading.Thread(target=self.exchange, daemon=True)
        self.thread.start()

    def send(self, item: Any) -> None:
        self.idle, self.busy, self.item = False, True, item
        self.sent += 1
        self.due = time.monotonic() + self.deadline
        self.inbox.put((item,))

    def set_free(self) -> None:
        """Mark it as free, once its answer is taken."""
        self.idle, self.busy, self.item = True, False, None
        self.answered, self.due = False, None

    def overdue(self) -> bool:
        """True where its time is up, but for time in which its answer waited to be taken."""
        return self.due is not None and not self.answered and time.monotonic() >= self.due

    def exchange(self) -> None:
        """In a thread: pass items on and answers back.

        Pipes are read and written here alone, so a process that reads nothing, or answers in the
        middle of a line and hangs, holds up this thread and not the parent.

        An empty answer says that the process is gone, None that it had not read the item.
        """
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        line: bytes | None = stdout.readline()
        while line is not None and line.endswith(b"\n"):
            self.answered = True
            self.answers.put((self, line))
            message = self.inbox.get()
            if message is None:
                break
            try:
                stdin.write(json.dumps(message[0]).encode() + b"\n")
                stdin.flush()
                line = stdout.readline()
            except OSError:
                line = None
        else:
            self.answered = True
            self.answers.put((self, line and b""))
        for pipe in (stdin, stdout):
            with contextlib.suppress(OSError):
                pipe.close()

    def kill(self) -> None:
        self.inbox.put(None)
        if self.process.poll() is None:
            # SIGKILL, because a decoder that hangs hears nothing else, and to the whole session,
            # because it may have started processes itself.
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_JOIN_SECONDS)
