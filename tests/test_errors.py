"""Errors that go from one process to another are the errors they were."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from support import MODEL

import vidinit
from vidinit.data.copies.make import UnpreparedError
from vidinit.data.index import UnreadableError
from vidinit.errors import DataError, Interrupted, UsageError, VidinitError


def unreadable(folder: Path) -> UnreadableError:
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.mp4").write_text("no video")
    with pytest.raises(UnreadableError) as caught:
        vidinit.check_data(folder, max_bad=0.5)
    return caught.value


def test_every_kind_can_be_pickled_and_copied(tmp_path: Path) -> None:
    failed = {"files": 1, "failed": [{"path": "a.mp4", "reason": "no frames"}]}
    for error in (
        VidinitError("it failed", "try again"),
        UsageError("no such key"),
        DataError("nothing there", "look elsewhere"),
        Interrupted("stopped", "--resume goes on", signal_number=15),
        UnpreparedError(failed),
        unreadable(tmp_path / "data"),
    ):
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(twin) is type(error) and str(twin) == str(error)
            assert twin.exit_code == error.exit_code
            assert getattr(twin, "report", None) == getattr(error, "report", None)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_unreadable_data_is_one_line_and_code_3_in_any_number_of_processes(
    processes: int, tmp_path: Path
) -> None:
    unreadable(tmp_path / "data")
    line = [sys.executable, "-m", "vidinit", "finetune", MODEL, "--data", "data", "--device", "cpu"]
    done = subprocess.run(
        [*line, "--processes", str(processes)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") and "data/a/1.mp4" in last and "died" not in done.stderr
