"""Output folders: what may be written, and what `--overwrite` may delete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import MODEL, SMALL
from typer.testing import CliRunner
from vidinit.commands import app

from vidinit import files
from vidinit.engine.run_folder import RunFolder
from vidinit.errors import UsageError


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
