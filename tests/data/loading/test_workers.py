"""Processes that make batches: started, watched, replaced, and gone at the end."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from data.misbehaving import DEADLINE, die, evaluation, expected, once, paths, sleep, training
from data.ten_clips import all_same, opening, views

from vidinit.data.loading import workers as module
from vidinit.data.loading.datasets import ClipDataset
from vidinit.data.loading.loader import eval_loader
from vidinit.data.loading.quarantine import Quarantine
from vidinit.data.loading.workers import WorkerGuard
from vidinit.data.readers import VideoReadError
from vidinit.data.rows import Rows
from vidinit.errors import DataError, VidinitError

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="rows misbehave in forks"),
    pytest.mark.usefixtures("own_cache", "pids"),
]


def test_a_worker_hears_of_a_row_before_it_opens_it() -> None:
    news, tell = multiprocessing.Pipe(duplex=False)
    place = [-1, 0]
    guard = WorkerGuard(news, place, {}, DEADLINE)
    tell.send(4)
    tell.send({7: "it hung"})
    with pytest.raises(VideoReadError, match="it hung"), guard.reading(7, "x.mp4"):
        pytest.fail("it was opened")
    assert guard.next_job() == 4
    with guard.reading(8, "y.mp4"):
        assert place == [8, 2]
        assert signal.getitimer(signal.ITIMER_REAL)[0] > DEADLINE
    assert place == [-1, 2]
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    tell.close()
    with pytest.raises(EOFError):
        guard.next_job()


def test_the_end_of_a_process_group_is_no_fault_of_a_row(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pids: list[int]
) -> None:
    reference = expected(rows)
    acts = {
        rows.rows[5].path: once(tmp_path / "one", die(signal.SIGTERM)),
        rows.rows[6].path: die(signal.SIGINT),
    }
    opening(monkeypatch, acts)
    quarantine = Quarantine()
    assert all_same(list(training(rows, workers=1, quarantine=quarantine)), reference)
    assert quarantine == Quarantine()
    assert len(pids) == 2


def test_time_counts_for_one_row_only() -> None:
    worker = object.__new__(module._Worker)
    worker.jobs, worker.last_position, worker.seconds_there = [0], (-1, 0), 0.0
    worker.shared = [4, 1]
    assert [worker.is_stuck(0.4, 1.0) for _ in range(3)] == [False] * 3
    worker.shared[:] = [4, 2]  # the same row in another batch
    assert [worker.is_stuck(0.4, 1.0) for _ in range(4)] == [False, False, False, True]
    worker.shared[0] = -1
    assert [worker.is_stuck(0.4, 1.0) for _ in range(9)] == [False] * 9
    worker.jobs.clear()
    assert not worker.is_stuck(1e9, 1.0)


def test_time_in_which_the_program_was_stopped_does_not_count(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead[0])
    monkeypatch.setattr(module, "time", clock)
    opening(monkeypatch, {rows.rows[2].path: lambda: time.sleep(0.4)})
    quarantine = Quarantine()
    batches = iter(
        eval_loader(
            views(rows),
            batch_size=2,
            workers=1,
            deadline=4.0,
            quarantine=quarantine,
            context="fork",
        )
    )
    next(batches)
    time.sleep(0.1)
    ahead[0] = 1000.0
    assert len(list(batches)) == 4
    assert quarantine == Quarantine()


def test_a_worker_lost_between_rows_is_replaced(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pids: list[int]
) -> None:
    reference = expected(rows)
    act = once(tmp_path / "one", die(signal.SIGKILL))
    collate = ClipDataset.collate
    monkeypatch.setattr(ClipDataset, "collate", lambda _, items: (act(), collate(items))[1])
    quarantine = Quarantine()
    assert all_same(list(training(rows, workers=1, quarantine=quarantine)), reference)
    assert quarantine == Quarantine()
    assert len(pids) == 2


def test_losses_with_batches_in_between_do_not_add_up(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_LOST", 1)
    bad = [rows.rows[i].path for i in (3, 7)]
    opening(monkeypatch, dict.fromkeys(bad, die(signal.SIGSEGV)))
    quarantine = Quarantine()
    assert len(list(evaluation(rows, batch_size=1, workers=1, quarantine=quarantine))) == 10
    assert paths(quarantine) == bad


@pytest.mark.parametrize("stuck", [False, True])
def test_workers_that_are_lost_over_and_over_end_the_run(
    rows: Rows, stuck: bool, monkeypatch: pytest.MonkeyPatch, pids: list[int]
) -> None:
    monkeypatch.setattr(module, "_MAX_LOST", 2)
    if stuck:
        monkeypatch.setattr(module, "_BETWEEN_ROWS", -DEADLINE + 0.1)
    act = sleep if stuck else die(signal.SIGKILL)
    monkeypatch.setattr(ClipDataset, "collate", lambda *_: act())
    said = "no answer within 1 s" if stuck else "SIGKILL"
    with pytest.raises(VidinitError, match=rf"3 decoding processes in a row .*{said}"):
        list(training(rows, workers=1))
    assert len(pids) == 3


class _OddError(Exception):
    """Cannot be sent to another process."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (DataError("no such tar", "make it"), DataError, "no such tar; make it"),
        (_OddError("odd", "even"), RuntimeError, "_OddError: odd"),
    ],
)
def test_an_error_ends_the_run_when_its_batch_is_due(
    rows: Rows,
    error: Exception,
    kind: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise error

    opening(monkeypatch, {rows.rows[6].path: fail})
    batches = iter(evaluation(rows, batch_size=2))
    assert [next(batches)["index"].tolist() for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(kind) as caught:
        next(batches)
    assert str(caught.value) == message
    assert "in fail" in str(caught.value.__cause__)


def test_a_fork_leaves_the_garbage_of_its_parent_alone(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Decoder:
        """Ends badly where its threads are missing."""

        def __init__(self) -> None:
            self.itself, self.owner = self, os.getpid()

        def __del__(self) -> None:
            if os.getpid() != self.owner:
                (tmp_path / "harm").touch()

    opening(monkeypatch, {row.path: gc.collect for row in rows.rows})
    gc.disable()
    try:
        Decoder()
        assert len(list(training(rows))) == 3
        assert not gc.isenabled()
        assert gc.collect() > 0
    finally:
        gc.enable()
    assert not (tmp_path / "harm").exists()


def test_workers_end_with_a_loader_that_is_left(rows: Rows, pids: list[int]) -> None:
    for _ in training(rows, workers=3):
        break
    assert len(pids) == 3


def test_workers_end_with_a_parent_that_is_killed(rows: Rows, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("looks into /proc")
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            for _ in training(rows, workers=3, batch_size=1):
                children = [child.pid for child in multiprocessing.active_children()]
                os.write(write, " ".join(map(str, children)).encode())
                time.sleep(600)
        finally:
            os._exit(1)
    children = list(map(int, os.read(read, 1000).split()))
    assert len(children) == 3
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    deadline = time.monotonic() + 10

    def running(pid: int) -> bool:
        stat = Path(f"/proc/{pid}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"

    while any(map(running, children)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
