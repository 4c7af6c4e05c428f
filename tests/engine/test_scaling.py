"""Groups of processes, however they are launched: the same run as with ``--processes``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from launching import ACCELERATE, TORCHRUN, finish, free_port, launch, losses, metrics, start
from support import SMALL
from toy import make

import vidinit
from vidinit import processes
from vidinit.errors import UsageError
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.pipelines.shared.run_records import open_run

# Losses that move and do not blow up small differences, which batches of two clips do to norms.
MODEL = "tsm-resnet10t"
STEPS = [
    *SMALL,
    *("data.batch_size=2", "train.log_every=1", "train.lr=0.01"),
    *("train.schedule=constant", "train.clip_grad=1", "train.freeze=['*bn?.*']"),
]


def line(data: Path, out: Path, *more: str, epochs: int = 2) -> list[str]:
    where = ["--data", str(data), "--out", str(out), "--epochs", str(epochs), "--json"]
    return ["finetune", MODEL, *STEPS, *where, *more]


@pytest.fixture(scope="module")
def alone(motion_set, tmp_path_factory, request) -> Any:
    """The run of ``--processes 2`` that the others are compared with; made once."""
    out = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        vidinit.finetune(
            MODEL, data=motion_set, out=out, overrides=STEPS, epochs=2, processes=2, device="cpu"
        )
    return out


def assert_same(out: Path, reference: Path) -> None:
    assert metrics(out) == metrics(reference)
    weights = [run / "model" / "model.safetensors" for run in (out, reference)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "flags"),
    [
        (TORCHRUN, ["--standalone", "--nproc_per_node", "2"]),
        (
            ACCELERATE,
            [
                *("--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
                *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
            ],
        ),
    ],
    ids=["torchrun", "accelerate"],
)
def test_other_launchers_make_the_same_run(launcher, flags, motion_set, alone, tmp_path):
    out = tmp_path / "run"
    code, told, err = launch(launcher, flags, line(motion_set, out))
    assert code == 0, err
    assert json.loads(told)["steps"] == 6, "one result, on stdout alone"
    assert err.count("2 processes") == 1, "one process speaks"
    assert_same(out, alone)


@pytest.mark.slow
def test_two_nodes_are_one_with_two_processes(motion_set, alone, tmp_path):
    out, port = tmp_path / "run", free_port()
    nodes = ["--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d"]
    nodes += ["--rdzv_endpoint", f"localhost:{port}", "--rdzv_id", "test"]
    both = [start(TORCHRUN, nodes, line(motion_set, out)) for _ in range(2)]
    ended = [finish(node) for node in both]
    assert [code for code, _, _ in ended] == [0, 0], ended
    told = [out for _, out, _ in ended if out]
    assert len(told) == 1 and json.loads(told[0])["steps"] == 6
    assert_same(out, alone)


@pytest.mark.parametrize(
    ("rank", "local", "first", "waits"),
    [("0", "0", True, 0), ("0", "0", False, 1), ("1", "1", True, 2), ("8", "0", True, 1)],
)
def test_who_may_not_be_the_first_to_fail_waits(rank, local, first, waits, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    processes.wait_for_first_error(to_main=first)
    assert not slept, "alone"
    for name, value in (("WORLD_SIZE", "16"), ("RANK", rank), ("LOCAL_RANK", local)):
        monkeypatch.setenv(name, value)
    processes.wait_for_first_error(to_main=first)
    assert [seconds / processes._GRACE for seconds in slept] == [waits] * bool(waits)


def test_nodes_without_a_shared_disk_are_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "vidinit.pipelines.shared.run_records.gather_all", lambda accelerator, value: [value, False]
    )
    config = FinetuneConfig(model=MODEL, out=str(tmp_path / "run"))
    accelerator, _ = make()
    with pytest.raises(UsageError, match="process 1 does not see"):
        open_run(config, "finetune", accelerator, resume=False, overwrite=False)


@pytest.mark.slow
def test_a_process_that_fails_alone_says_why():
    line = [sys.executable, "-m", "vidinit", "finetune", "r3d51", "--data", "."]
    group = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
    ended = subprocess.run(line, env={**os.environ, **group}, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ") and "r3d51" in ended.stderr


@pytest.mark.slow
def test_an_error_is_one_line(motion_set, tmp_path):
    flags = ["--standalone", "--nproc_per_node", "2"]
    wrong = line(motion_set, tmp_path / "run", "train.freeze=['nothing*']")
    code, told, err = launch(TORCHRUN, flags, wrong)
    assert code != 0 and not told
    errors = [text for text in err.splitlines() if text.startswith("error:")]
    assert len(errors) == 1 and "matches no parameter" in errors[0]


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_and_says_how_to_go_on(motion_set, tmp_path):
    out = tmp_path / "run"
    flags = ["--standalone", "--nproc_per_node", "2"]
    run = start(TORCHRUN, flags, line(motion_set, out, epochs=50))
    file, until = out / "metrics.jsonl", time.monotonic() + 120
    while not (file.is_file() and file.read_text().count("\n") > 2):
        assert run.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGTERM)
    code, _, err = finish(run)
    assert code != 0
    errors = [text for text in err.splitlines() if text.startswith("error:")]
    assert len(errors) == 1 and "the same command with --resume" in errors[0]
    assert list((out / "checkpoints").glob("step_*"))


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["train.checkpointing=true", "train.compile=true"])
def test_recomputed_and_compiled_steps_have_the_same_losses(setting, motion_set, alone, tmp_path):
    if setting == "train.compile=true" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("torch.compile needs a C++ compiler for CPUs")
    out = tmp_path / "run"
    flags = ["--standalone", "--nproc_per_node", "2"]
    steps = line(motion_set, out, setting, "eval.every=0", epochs=1)
    code, _, err = launch(TORCHRUN, flags, steps)
    assert code == 0, err
    assert losses(out) == pytest.approx(losses(alone)[:3], abs=1e-5)
