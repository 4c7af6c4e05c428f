"""The loop on real processes: kill and resume, signals, several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import MODEL, SMALL, json_of, run_cli

import vidinit
from vidinit.engine import resume
from vidinit.errors import UsageError

FLAGS = [*SMALL, "train.log_every=1", "train.lr=0.05", "train.select=last"]


def command(data: Path, out: Path, epochs: int, *more: str) -> list[str]:
    flags = ["--data", str(data), "--out", str(out), "--epochs", str(epochs), "--json"]
    return ["finetune", MODEL, *FLAGS, *flags, *more]


def start(line: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "vidinit", *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_lines(out: Path, count: int) -> None:
    for _ in range(600):
        file = out / "metrics.jsonl"
        if file.is_file() and len(file.read_text().splitlines()) >= count:
            return
        time.sleep(0.1)
    raise AssertionError("the run did not get that far")


def steps_of(out: Path) -> list[int]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row["step"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def unbroken(motion_set, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    json_of(run_cli(*command(motion_set, out, 8), OMP_NUM_THREADS="1"))
    return out


def same_weights(a: Path, b: Path) -> bool:
    first, second = (load_file(run / "model" / "model.safetensors") for run in (a, b))
    return all(torch.equal(first[key], second[key]) for key in first)


def test_kill_and_resume_goes_on_to_the_end(motion_set, tmp_path, unbroken):
    out = tmp_path / "run"
    process = start(command(motion_set, out, 8))
    wait_for_lines(out, 8)  # at least two epochs of three steps and an evaluation each
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = steps_of(out)[-1]
    assert 3 < done < 24, "killed in the middle"
    finished = run_cli(*command(motion_set, out, 8, "--resume"), OMP_NUM_THREADS="1")
    result = json_of(finished)
    assert "resuming from epoch" in finished.stderr and "epoch 0," not in finished.stderr
    assert result["steps"] == 24
    assert steps_of(out) == list(range(1, 25)), "no step twice, none missing"
    assert same_weights(out, unbroken)
    again = run_cli(*command(motion_set, out, 8, "--resume"))
    assert json_of(again) == result and "nothing to resume" in again.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_save_in_the_middle_of_an_epoch(number, code, motion_set, tmp_path, unbroken):
    out = tmp_path / "run"
    process = start(command(motion_set, out, 8))
    wait_for_lines(out, 5)
    process.send_signal(number)
    _stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert stderr.splitlines()[-1].startswith("error: stopped by a signal")
    assert "--resume" in stderr and "Traceback" not in stderr
    assert (
        json_of(run_cli(*command(motion_set, out, 8, "--resume"), OMP_NUM_THREADS="1"))["steps"]
        == 24
    )
    assert same_weights(out, unbroken)


def test_resume_of_nothing_starts_from_step_0(motion_set, tmp_path, capsys):
    out = tmp_path / "run"
    result = vidinit.finetune(
        MODEL, data=motion_set, out=out, overrides=SMALL, epochs=1, resume=True
    )
    assert result["steps"] == 3
    assert "no complete checkpoint yet: starting from step 0" in capsys.readouterr().err


def test_resume_with_another_configuration_is_refused(trained, motion_set):
    newest = resume.newest(trained / "checkpoints")
    text = (newest / "progress.json").read_text()
    (newest / "progress.json").write_text(text.replace('"finished": true', '"finished": false'))
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
        (newest / "progress.json").write_text(text)


def test_resume_in_a_folder_of_something_else_touches_nothing(motion_set, tmp_path):
    (tmp_path / "config.yaml").write_text("my: own\n")
    with pytest.raises(UsageError, match="is not the configuration of a finetune run"):
        vidinit.finetune(
            MODEL, data=motion_set, out=tmp_path, overrides=SMALL, epochs=1, resume=True
        )
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == "my: own\n"


def test_an_incomplete_checkpoint_is_not_used(tmp_path):
    (tmp_path / "step_00000003").mkdir()
    (tmp_path / "step_00000003" / "progress.json").write_text("{}")
    (tmp_path / "step_00000009").mkdir()
    (tmp_path / ".step_00000012.new").mkdir()
    assert resume.newest(tmp_path) == tmp_path / "step_00000003"
    assert resume.newest(tmp_path / "none") is None


def test_only_the_newest_two_checkpoints_are_kept(unbroken):
    names = sorted(p.name for p in (unbroken / "checkpoints").iterdir())
    assert names == ["step_00000021", "step_00000024"]


def test_two_processes_train_and_evaluate_as_one(motion_set, tmp_path):
    out = tmp_path / "run"
    flags = ["--processes", "2", "--batch-size", "2"]
    finished = run_cli(*command(motion_set, out, 2, *flags))
    assert json_of(finished)["steps"] == 6, "two processes of two clips are one of four"
    assert finished.stderr.count("epoch 1/2  top1") == 1, "one process speaks"
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
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
