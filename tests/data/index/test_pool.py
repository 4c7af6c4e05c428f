"""The pool of processes that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vidinit.data.index import pool as module
from vidinit.data.index.pool import Outcome, run_in_pool
from vidinit.errors import VidinitError


@pytest.fixture(autouse=True)
def _functions(monkeypatch: pytest.MonkeyPatch) -> None:
    # A worker finds what its parent finds.
    monkeypatch.syspath_prepend(Path(__file__).parent)


def run(*items: Any, workers: int = 2, deadline: float = 20.0) -> list[Outcome]:
    does = "pool_functions:does"
    return list(run_in_pool(does, items, workers=workers, deadline=deadline))


def by_name(outcomes: list[Outcome]) -> dict[str, Outcome]:
    return {outcome.item[0]: outcome for outcome in outcomes}


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers_alive() -> list[int]:
    """Processes of this one's pools."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            ours = parent == os.getpid() and b"pool_worker" in (folder / "cmdline").read_bytes()
            if ours and is_alive(int(folder.name)):
                found.append(int(folder.name))
    return found


def test_every_item_comes_back_once_with_its_value() -> None:
    outcomes = run(*[["double", i] for i in range(50)], workers=2)
    assert sorted(outcome.value for outcome in outcomes) == [2 * i for i in range(50)]
    assert all(outcome.value == 2 * outcome.item[1] for outcome in outcomes)
    assert not any(outcome.killed or outcome.reason for outcome in outcomes)
    assert not workers_alive()


def test_no_item_is_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_Worker", None)
    assert run() == []


def test_two_that_hang_and_two_that_crash_cost_one_deadline() -> None:
    """At the same time, among others that go on, with one worker each."""
    good = [["double", i] for i in range(12)]
    bad = [["hang"], ["crash", 11], ["hang"], ["crash", 6]]
    began = time.perf_counter()
    # A deadline that no crash and no start of a process comes near, on a busy machine either.
    outcomes = run(*good[:4], *bad, *good[4:], workers=4, deadline=4)
    seconds = time.perf_counter() - began
    assert len(outcomes) == 16
    reasons = sorted(str(outcome.reason) for outcome in outcomes if outcome.killed)
    assert reasons == [
        "no answer within 4 s",
        "no answer within 4 s",
        "the decoder crashed (SIGABRT)",
        "the decoder crashed (SIGSEGV)",
    ]
    assert sorted(o.value for o in outcomes if not o.killed) == [2 * i for i in range(12)]
    # Both hang side by side: one after the other they would take two deadlines.
    assert 4 < seconds < 8
    assert not workers_alive()


def test_a_single_worker_is_replaced_each_time() -> None:
    found = run(
        *(["unreadable"], ["hang"], ["double", 1], ["crash", 11], ["leave", 3], ["double", 2]),
        workers=1,
        deadline=2,
    )
    assert [outcome.reason for outcome in found] == [
        "it is broken",
        "no answer within 2 s",
        None,
        "the decoder crashed (SIGSEGV)",
        "the decoder ended its process (exit code 3)",
        None,
    ]
    assert [outcome.value for outcome in found] == [None, None, 2, None, None, 4]
    assert [outcome.killed for outcome in found] == [False, True, False, True, True, False]


@pytest.mark.parametrize(
    ("item", "name"), [("fault", "ZeroDivisionError"), ("no_json", "TypeError")]
)
def test_a_fault_of_the_function_is_no_bad_file(item: str, name: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        run(["double", 1], [item])
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(f"{name}: ") and f'["{item}"]' in first
    assert "Traceback" in rest[0] and "pool_worker.py" in str(caught.value)
    assert not workers_alive()


def test_a_function_that_is_not_there_is_a_fault_too() -> None:
    with pytest.raises(RuntimeError, match="no_such_function"):
        list(run_in_pool("pool_functions:no_such_function", [1], workers=1, deadline=5))


def test_items_and_answers_of_a_megabyte() -> None:
    text = "ü" * 1_000_000
    (found,) = run(["double", text], workers=1)
    assert found.value == text * 2


def test_what_a_decoder_prints_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    found = by_name(run(["chatter"], ["double", 4], workers=1))
    assert found["chatter"].value == "read ''"
    assert found["double"].value == 8
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_worker_that_is_killed_while_idle_costs_nothing() -> None:
    items: list[Any] = [["process"], ["process"], ["double", 1], ["process"]]

    def waits() -> Iterator[Any]:
        yield items[0]
        yield items[1]
        # The next item is asked for by the only worker, which has answered both.
        (pid,) = workers_alive()
        os.kill(pid, signal.SIGKILL)
        while is_alive(pid):
            time.sleep(0.01)
        yield from items[2:]

    outcomes = list(run_in_pool("pool_functions:does", waits(), workers=1, deadline=20))
    assert [outcome.reason for outcome in outcomes] == [None] * 4
    pids = [outcome.value for outcome in outcomes if outcome.item == ["process"]]
    assert len(pids) == 3 and pids[0] == pids[1] != pids[2]


def test_a_few_items_start_one_process_many_start_all() -> None:
    few = run(*[["process"]] * 2, workers=8)
    assert len({outcome.value for outcome in few}) == 1
    seen: set[int] = set()
    end = time.monotonic() + 30

    def until_there_are_three() -> Iterator[Any]:
        while len(seen) < 3 and time.monotonic() < end:
            yield ["process", 0.01]

    pool = run_in_pool("pool_functions:does", until_there_are_three(), workers=3, deadline=20)
    for outcome in pool:
        seen.add(outcome.value)
        assert len(workers_alive()) <= 3
    assert len(seen) == 3


def test_a_worn_process_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_ITEMS", 3)
    pids = [outcome.value for outcome in run(*[["process"]] * 4, workers=1)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 1]


def test_nothing_outlives_the_pool(tmp_path: Path) -> None:
    """Neither its workers, when it is left early, nor what a worker that is killed has started."""
    note = tmp_path / "pid"
    (found,) = run(["child_and_hang", str(note)], deadline=3)
    assert found.killed and not is_alive(int(note.read_text()))
    pool = run_in_pool(
        "pool_functions:does", [["double", 1], ["hang"], ["hang"]], workers=2, deadline=60
    )
    assert next(pool).value == 2
    assert workers_alive()
    began = time.perf_counter()
    pool.close()
    assert not workers_alive() and time.perf_counter() - began < 2


def test_workers_are_clean() -> None:
    """The parent's path (and not the working directory), no core files, one thread, no Ctrl-C."""
    (found,) = run(["environment"])
    assert found.value == {
        "path": sys.path,
        "core": 0,
        "threads": "1",
        "session": True,
        "main": False,
    }


def test_a_caller_that_takes_its_time_is_not_held_against_the_workers() -> None:
    outcomes = []
    pool = run_in_pool(
        "pool_functions:does", [["double", i] for i in range(3)], workers=2, deadline=1
    )
    for outcome in pool:
        outcomes.append(outcome)
        time.sleep(1.5)
    assert [outcome.reason for outcome in outcomes] == [None] * 3


def test_processes_that_cannot_start_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CODE", "import sys; sys.exit(1)")
    with pytest.raises(VidinitError, match="end before they have begun"):
        run(["double", 1])
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(VidinitError, match="no process can be started"):
        run(["double", 1])


@pytest.mark.slow
def test_a_worker_whose_parent_is_gone_ends_itself(tmp_path: Path) -> None:
    """The kernel's alarm, which needs no interpreter."""
    code = (
        "import sys, os; sys.path.insert(0, sys.argv[1])\n"
        "from vidinit.data.killable import set_alarm\n"
        "set_alarm(1)\n"
        "import pool_functions; pool_functions.hang()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], timeout=30)
    assert done.returncode == -signal.SIGALRM
