"""A row that hangs or kills its process costs a deadline and an event, and nothing else."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from data.misbehaving import (
    DEADLINE,
    SLACK,
    die,
    evaluation,
    expected,
    paths,
    sleep,
    sleep_with_the_lock,
    training,
)
from data.ten_clips import all_same, opening, same, unreadable, views

from vidinit.data.index import check
from vidinit.data.loading.quarantine import Quarantine
from vidinit.data.rows import Row, Rows
from vidinit.errors import DataError

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="rows misbehave in forks"),
    pytest.mark.usefixtures("own_cache", "pids"),
]


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_training_goes_on_without_rows_that_hang_or_crash(
    rows: Rows, workers: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # Both in one batch, and in an order in which the one that crashes comes first or second.
    order = [index for batch in expected(rows) for index in batch["index"].tolist()]
    hangs, crashes = order[4:6] if workers == 3 else order[5:3:-1]
    opening(
        monkeypatch,
        {rows.rows[hangs].path: sleep, rows.rows[crashes].path: die(signal.SIGSEGV)},
    )
    quarantine = Quarantine()
    start = time.monotonic()
    found = list(training(rows, workers=workers, quarantine=quarantine))
    assert DEADLINE <= time.monotonic() - start < DEADLINE + SLACK
    assert all_same(found, expected(rows, hangs, crashes))
    assert sum(int(batch["skipped"].sum()) for batch in found) >= 2
    assert quarantine.reasons == {
        hangs: "no answer within 1 s",
        crashes: "the decoder crashed (SIGSEGV)",
    }
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(lines) == 2 and rows.rows[crashes].path in "".join(lines)
    # What is known is not opened again in another epoch: each time would be another event.
    again = list(training(rows, workers=workers, quarantine=quarantine, epoch=1))
    assert all_same(again, expected(rows, hangs, crashes, epoch=1))
    assert len(quarantine.events) == 2


def test_evaluation_reports_rows_that_hang_or_crash(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [views(rows, clips=2)[i] for i in range(10)]
    opening(monkeypatch, {rows.rows[3].path: die(signal.SIGSEGV), rows.rows[9].path: sleep})
    quarantine = Quarantine()
    start = time.monotonic()
    found = list(evaluation(rows, quarantine=quarantine))
    assert time.monotonic() - start < DEADLINE + SLACK
    assert [error for batch in found for error in batch["error"]] == [
        *[None] * 3,
        "the decoder crashed (SIGSEGV)",
        *[None] * 5,
        "no answer within 1 s",
    ]
    for i, item in enumerate(whole):
        seen = found[i // 5]["views"][i % 5]
        assert same({"views": seen}, {"views": item["views"] * (i not in (3, 9))})
    assert paths(quarantine) == [rows.rows[3].path, rows.rows[9].path]
    assert list(quarantine.events[0]) == ["path", "reason", "when"]


def test_a_decoder_that_holds_the_interpreter_does_not_hold_up_the_batch_before(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening(monkeypatch, {rows.rows[4].path: sleep_with_the_lock})
    quarantine = Quarantine()
    batches = iter(evaluation(rows, batch_size=2, workers=1, quarantine=quarantine))
    assert next(batches)["index"].tolist() == [0, 1]
    time.sleep(0.3)  # by now the worker hangs, and its second batch was not fetched
    start = time.monotonic()
    assert next(batches)["index"].tolist() == [2, 3]
    assert not quarantine.reasons, "it did not have to wait until the worker was killed"
    assert [batch["index"].tolist() for batch in batches] == [[4, 5], [6, 7], [8, 9]]
    assert time.monotonic() - start < DEADLINE + SLACK
    assert quarantine.reasons == {4: "no answer within 1 s"}


@pytest.mark.parametrize(
    ("act", "reason", "lasting"),
    [
        (lambda: os._exit(3), "the decoder ended its process (exit code 3)", True),
        (die(signal.SIGABRT), "the decoder crashed (SIGABRT)", True),
        (
            die(signal.SIGKILL),
            "the decoder was killed (SIGKILL), perhaps for want of memory",
            False,
        ),
    ],
)
def test_later_runs_leave_a_file_out_that_ended_its_process(
    rows: Rows,
    act: Callable[[], None],
    reason: str,
    lasting: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noted = []
    monkeypatch.setattr(
        "vidinit.data.loading.quarantine.file_index.quarantine", lambda *args: noted.append(args)
    )
    path = rows.rows[9].path
    opening(monkeypatch, {path: act})
    quarantine = Quarantine()
    last = list(evaluation(rows, quarantine=quarantine))[-1]
    assert last["error"] == [None] * 4 + [reason]
    assert noted == ([(path, reason)] if lasting else [])


def test_a_check_knows_what_hung(
    rows: Rows, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    path = str(write_video(tmp_path / "sound.mp4", 5))
    calls = []
    quarantine = Quarantine(on_event=lambda: calls.append(len(quarantine.events)))
    quarantine.add(0, path, "no answer within 1 s")
    assert calls == [1]
    some = Rows((Row(path), *rows.rows[:2]))
    health = check(some, max_bad=1.0, workers=1)
    assert health.bad == ((path, "no answer within 1 s"),)
    quarantine.on_event = None
    assert pickle.loads(pickle.dumps(quarantine)) == quarantine


def test_a_file_out_of_reach_does_not_hold_up_its_quarantine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vidinit.data.loading.quarantine.file_index.quarantine", lambda *_: sleep())
    monkeypatch.setattr("vidinit.data.loading.quarantine._NOTE_SECONDS", 0.1)
    quarantine = Quarantine()
    quarantine.add(3, "/net/gone.mp4", "no answer within 1 s")
    assert quarantine.reasons == {3: "no answer within 1 s"}


def test_two_workers_stuck_at_one_row_are_one_event(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second row stands in for the first, so that two batches want it at a time.
    whole = rows.of(rows.rows[:2])
    path = whole.rows[0].path
    opening(monkeypatch, {path: unreadable(path), whole.rows[1].path: sleep})
    quarantine = Quarantine()
    start = time.monotonic()
    with pytest.raises(DataError, match="2 files in a row cannot be read"):
        list(training(whole, batch_size=1, quarantine=quarantine))
    assert time.monotonic() - start < DEADLINE + SLACK
    assert paths(quarantine) == [whole.rows[1].path]
