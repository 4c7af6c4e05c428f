"""Runs on files that hang or crash a decoder: they end well and account for it."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import MODEL, SMALL

import vidinit
from vidinit.data.index import check
from vidinit.data.loading import datasets
from vidinit.data.rows import Row, Rows
from vidinit.engine import fit

DEADLINE = 1.5


@pytest.fixture
def hostile(motion_set, tmp_path, monkeypatch) -> Path:
    """A copy of the motion set: in train/ and val/ one file hangs its reader, one crashes it."""
    root = tmp_path / "videos"
    shutil.copytree(motion_set, root)
    opened = datasets.open_row

    def open_row(row: Row, **settings):
        if Path(row.path).name == "1.mp4" and "left" in row.path:
            time.sleep(600)
        if Path(row.path).name == "1.mp4" and "right" in row.path:
            faulthandler.disable()  # pytest's would print where the process was
            os.kill(os.getpid(), signal.SIGSEGV)
        return opened(row, **settings)

    monkeypatch.setattr(datasets, "open_row", open_row)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


def settings(workers: int) -> list[str]:
    return [*SMALL, f"data.workers={workers}", f"data.deadline={DEADLINE}"]


@contextlib.contextmanager
def stopped_after_an_epoch(monkeypatch) -> Iterator[None]:
    """Inside, runs are asked to stop at the end of their first epoch."""
    leave = fit._Loop._stop_if_asked

    def leave_after_an_epoch(loop, stop, *, saved):
        if loop.progress.epoch == 1 and saved:
            stop.number = 15
        leave(loop, stop, saved=saved)

    with monkeypatch.context() as patch:
        patch.setattr(fit._Loop, "_stop_if_asked", leave_after_an_epoch)
        yield


def test_training_and_evaluation_go_on_without_files_that_hang_or_crash(hostile, tmp_path):
    began = time.monotonic()
    result = vidinit.finetune(
        MODEL, data=hostile, out=tmp_path / "run", overrides=settings(1), epochs=2
    )
    spent = time.monotonic() - began
    assert spent < 2 * DEADLINE + 40, "each file costs one deadline, once"
    assert result["steps"] == 6 and result["videos"] == 12
    health = json.loads((tmp_path / "run" / "data_health.json").read_text())
    names = sorted(str(Path(e["path"]).relative_to(hostile)) for e in health["events"])
    expected = [f"{part}/{name}/1.mp4" for part in ("train", "val") for name in ("left", "right")]
    assert names == expected
    for event in health["events"]:
        word = "no answer within 1.5 s" if "left" in event["path"] else "SIGSEGV"
        assert word in event["reason"]
    assert len(health["substituted"]) == 2
    assert result["skipped"] >= 4, "two files in two epochs, and wherever they were to stand in"

    # A later check leaves them out: what hung once is not tried again.
    rows = Rows(tuple(Row(str(hostile / name), 0) for name in expected), ("a",))
    again = vidinit.evaluate(
        tmp_path / "run", data=hostile, out=tmp_path / "eval", overrides=settings(1)
    )
    assert sorted(again["missing"]) == [row.path for row in rows.rows[2:]]
    assert again["videos"] == 4
    assert json.loads((tmp_path / "eval" / "data_health.json").read_text())["events"] == []
    with pytest.raises(vidinit.VidinitError, match="none of 4 files"):
        check(rows)


def test_evaluation_meets_them_first(hostile, trained, tmp_path):
    result = vidinit.evaluate(trained, data=hostile, out=tmp_path / "eval", overrides=settings(1))
    assert [str(Path(p).relative_to(hostile)) for p in result["missing"]] == [
        "val/left/1.mp4",
        "val/right/1.mp4",
    ]
    assert result["videos"] == 4
    events = json.loads((tmp_path / "eval" / "data_health.json").read_text())["events"]
    assert len(events) == 2


@pytest.mark.slow
def test_a_resumed_run_keeps_its_rows(hostile, tmp_path, monkeypatch):
    """What was quarantined half way stays a row, replaced as before: the order is the same."""
    from safetensors.torch import load_file

    def weights(out: Path):
        return load_file(out / "model" / "model.safetensors")

    options = [*settings(1), "eval.every=0", "train.select=last"]
    vidinit.finetune(MODEL, data=hostile, out=tmp_path / "whole", overrides=options, epochs=2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    stopped = pytest.raises(vidinit.VidinitError, match="stopped by a signal")
    with stopped_after_an_epoch(monkeypatch), stopped:
        vidinit.finetune(MODEL, data=hostile, out=tmp_path / "halves", overrides=options, epochs=2)
    assert len(json.loads((tmp_path / "halves" / "data_health.json").read_text())["events"]) == 2
    result = vidinit.finetune(
        MODEL, data=hostile, out=tmp_path / "halves", overrides=options, epochs=2, resume=True
    )
    assert result["videos"] == 12
    health = json.loads((tmp_path / "halves" / "data_health.json").read_text())
    assert len(health["events"]) == 2 and health["bad"] == []
    whole, halves = weights(tmp_path / "whole"), weights(tmp_path / "halves")
    assert all((whole[key] == halves[key]).all() for key in whole)


def test_a_resumed_co_training_tells_its_sources_apart(motion_set, tmp_path, monkeypatch):
    for name in "ab":
        shutil.copytree(motion_set, tmp_path / name)
        (tmp_path / name / "train" / "left" / "bad.mp4").write_bytes(b"no video")
    options = {
        "sources": {name: tmp_path / name for name in "ab"},
        "out": tmp_path / "run",
        "overrides": [*SMALL, "eval.every=0"],
        "max_bad": 0.2,
        "epochs": 2,
    }
    with stopped_after_an_epoch(monkeypatch), pytest.raises(vidinit.VidinitError):
        vidinit.cotrain(MODEL, **options)
    before = json.loads((tmp_path / "run" / "data_health.json").read_text())
    assert (before["files"], before["good"], len(before["bad"])) == (38, 36, 2)
    vidinit.cotrain(MODEL, resume=True, **options)
    after = json.loads((tmp_path / "run" / "data_health.json").read_text())
    assert [after[key] for key in ("files", "good", "bad")] == [38, 36, before["bad"]]
