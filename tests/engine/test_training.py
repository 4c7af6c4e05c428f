"""The loop on real processes: what is resumed, several processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launching import losses
from support import MODEL, SMALL, json_of, logged, run_cli

import vidinit
from vidinit.engine import checkpoint_folders as folders
from vidinit.engine import resume
from vidinit.errors import UsageError

FLAGS = [*SMALL, "train.log_every=1", "train.lr=0.05", "train.select=last"]


def command(data: Path, out: Path, epochs: int, *more: str) -> list[str]:
    flags = ["--data", str(data), "--out", str(out), "--epochs", str(epochs), "--json"]
    return ["finetune", MODEL, *FLAGS, *flags, *more]


def test_resume_of_nothing_starts_from_step_0(motion_set, tmp_path, capsys):
    out = tmp_path / "run"
    result = vidinit.finetune(
        MODEL, data=motion_set, out=out, overrides=SMALL, epochs=1, resume=True
    )
    assert result["steps"] == 3
    assert "no complete checkpoint yet: starting from step 0" in capsys.readouterr().err


def test_resume_with_another_configuration_is_refused(trained, motion_set):
    last = folders.newest(trained / "checkpoints")
    aside = last.rename(last.with_name("aside"))  # now it ends in the middle
    try:
        with pytest.raises(UsageError, match=r"started with train.lr=0.01, now it is 0.5"):
            vidinit.finetune(
                MODEL,
                data=motion_set,
                out=trained,
                overrides=SMALL,
                epochs=2,
                lr=0.5,
                resume=True,
            )
    finally:
        aside.rename(last)


def test_resume_in_a_folder_of_something_else_touches_nothing(motion_set, tmp_path):
    (tmp_path / "config.yaml").write_text("my: own\n")
    with pytest.raises(UsageError, match="is not the configuration of a finetune run"):
        vidinit.finetune(
            MODEL, data=motion_set, out=tmp_path, overrides=SMALL, epochs=1, resume=True
        )
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == "my: own\n"


def test_a_resumed_run_counts_its_time_from_its_first_start(trained, motion_set, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run, symlinks=True)
    shutil.rmtree(folders.newest(run / "checkpoints"))
    before = resume.read_progress(folders.newest(run / "checkpoints")).spent
    result = vidinit.finetune(
        MODEL, data=motion_set, out=run, overrides=SMALL, epochs=2, resume=True
    )
    after = resume.read_progress(folders.newest(run / "checkpoints")).spent
    assert (before["clips"], after["clips"]) == (12, 24)
    assert result["clips_per_second"] == pytest.approx(24 / after["training"])
    here = after["training"] - before["training"]
    assert here > 0 and result["seconds"] > before["seconds"] + here


@pytest.mark.slow
def test_two_processes_train_and_evaluate_as_one(motion_set, tmp_path):
    out = tmp_path / "run"
    flags = ["--processes", "2", "--batch-size", "2"]
    finished = run_cli(*command(motion_set, out, 2, *flags))
    assert json_of(finished)["steps"] == 6, "two processes of two clips are one of four"
    assert finished.stderr.count("epoch 1/2  top1") == 1, "one process speaks"
    last = logged(out)[-1]
    scores = [
        json_of(
            run_cli(
                "eval", out, "--data", motion_set, "--json", "--processes", n,
                "--out", tmp_path / f"eval{n}", "--clips", "2", "data.workers=0",
            )
        )
        for n in ("1", "2")
    ]  # fmt: skip
    for value in scores:
        value.pop("out")
    assert scores[0] == scores[1]
    one_clip = vidinit.evaluate(out, data=motion_set, out=tmp_path / "one")
    assert last["top1"] == pytest.approx(one_clip["top1"]), "the saved model is what was scored"
    tables = [(tmp_path / f"eval{n}" / "predictions.csv").read_text() for n in ("1", "2")]
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) == 7


@pytest.mark.slow
def test_an_error_in_a_group_is_one_line_with_its_code(motion_set, tmp_path):
    line = ["eval", MODEL, "--data", motion_set, "--processes", "2", "--out", tmp_path / "e"]
    done = run_cli(*line, "data.size=16", "data.frames=1", "--head", "none", "--val", tmp_path)
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_torchrun_starts_the_command_too(motion_set, tmp_path):
    out = tmp_path / "run"
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "vidinit",
    ]
    line = [sys.executable, *launcher, *command(motion_set, out, 1), "--batch-size", "2"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 3


def step_losses(motion_set, out, *more, processes=1):
    overrides = [*SMALL, "train.freeze=trunk", "train.log_every=1", "eval.every=0", *more]
    vidinit.finetune(
        MODEL, data=motion_set, out=out, overrides=overrides, epochs=7, processes=processes
    )
    return losses(out)


def test_accumulated_batches_are_one_batch(motion_set, tmp_path):
    """With norms that keep their statistics; random crops and order are the same by their keys."""
    whole = step_losses(motion_set, tmp_path / "whole", "data.batch_size=4")
    parts = step_losses(motion_set, tmp_path / "parts", "data.batch_size=2", "train.accumulate=2")
    assert len(whole) == 21 and parts == pytest.approx(whole, abs=1e-5)


@pytest.mark.slow
def test_processes_share_one_batch(motion_set, tmp_path):
    whole = step_losses(motion_set, tmp_path / "whole", "data.batch_size=4")
    shared = step_losses(motion_set, tmp_path / "shared", "data.batch_size=2", processes=2)
    assert shared == pytest.approx(whole, abs=1e-5)
