"""Output folders: what may be written, and what `--overwrite` may delete."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support import MODEL, SMALL
from typer.testing import CliRunner
from vidinit.commands import app

from vidinit import files
from vidinit.engine.run_folder import RunFolder
from vidinit.errors import UsageError
from vidinit.files import FolderLock, check_out, folder_locks


def test_a_run_marks_what_it_writes_before_it_writes(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", config={"command": "finetune"})
    run.write_json("anything.json", {})
    place = run.claim("later")
    assert not place.exists(), "a kill between the mark and the writing leaves nothing unnamed"
    marked = json.loads((run.root / files.MARK).read_text())["wrote"]
    assert {"config.yaml", "anything.json", "later", "checkpoints"} <= set(marked)
    place.mkdir()
    assert files.check_out(run.root, overwrite=True) == run.root


def test_what_others_put_there_is_never_deleted(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", config={"command": "finetune"})
    (run.root / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"would delete .*notes\.txt, which vidinit did not write"):
        files.check_out(run.root, overwrite=True)
    # A name that some command writes is not enough: this run did not write it.
    (run.root / "notes.txt").rename(run.root / "predictions.npz")
    with pytest.raises(UsageError, match=r"would delete .*predictions\.npz"):
        files.check_out(run.root, overwrite=True)


def test_what_others_put_into_a_run_of_a_set_is_never_deleted(tmp_path: Path) -> None:
    one = RunFolder.open(RunFolder.open(tmp_path / "set").claim("split-1"))
    one.write("result.json", "{}")
    one.model.mkdir()
    files.check_out(tmp_path / "set", overwrite=True)
    (one.root / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"would delete .*set/split-1/notes\.txt, which vidinit"):
        files.check_out(tmp_path / "set", overwrite=True)


def test_other_processes_mark_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, writes=False)
    run.write_json("a.json", {})
    assert run.claim("b") == tmp_path / "b" and not list(tmp_path.iterdir())


def test_folders_without_a_mark_are_known_by_what_0_1_wrote(tmp_path: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl", "result.json"):
        (tmp_path / name).write_text("")
    for name in ("events", "wandb", "model"):
        (tmp_path / name).mkdir()
    files.check_out(tmp_path, overwrite=True)
    files.mark(tmp_path, "split.json")  # a newer version goes on in it
    files.check_out(tmp_path, overwrite=True)
    (tmp_path / files.MARK).write_text("no json")
    files.check_out(tmp_path, overwrite=True)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        files.check_out(tmp_path, overwrite=True)


def test_a_run_with_trackers_can_be_overwritten(motion_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    line = ["finetune", MODEL, *SMALL, "--data", str(motion_set), "--out", str(out)]
    line += ["--epochs", "1", "eval.every=0"]
    first = CliRunner().invoke(app, line)
    assert first.exit_code == 0, first.output
    files.mark(out, "events", "wandb")  # as a tracker does when it starts
    for name in ("events", "wandb"):
        (out / name).mkdir()
    again = CliRunner().invoke(app, [*line, "--overwrite"])
    assert again.exit_code == 0, again.output
    assert not (out / "events").exists()


def test_a_folder_has_one_writer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys, time; from pathlib import Path; from vidinit.files import FolderLock\n"
        "FolderLock.take(Path(sys.argv[1])); print('has it', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "has it\n"
    with pytest.raises(UsageError) as caught:
        FolderLock.take(tmp_path)
    assert f"is in use: process {other.pid} on {socket.gethostname()}" in caught.value.message
    for flags in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(UsageError, match=f"process {other.pid}"):
            check_out(tmp_path, **flags)
    other.kill()
    other.wait()
    with folder_locks():
        lock = FolderLock.take(tmp_path)
        assert f"process {other.pid} on " in capsys.readouterr().err
        assert lock.in_place() and FolderLock.take(tmp_path) is lock, "of this process already"
        check_out(tmp_path, overwrite=True)
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == [] and tmp_path.resolve() not in FolderLock.held


def test_a_lock_that_nobody_can_read_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(b"\xff\x00[" * 1000)
    with folder_locks():
        assert FolderLock.take(tmp_path).in_place()


def test_a_folder_that_is_another_now(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with folder_locks():
        lock = FolderLock.take(folder)
        folder.rename(tmp_path / "away")
        assert not lock.in_place()
        folder.mkdir()
        (folder / ".lock").write_text("")
        assert not lock.in_place() and FolderLock.take(folder) is not lock
        assert FolderLock.take(folder).in_place()
