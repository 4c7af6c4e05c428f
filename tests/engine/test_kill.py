"""Training that is killed, stopped or runs out of disk, and goes on to the same bits."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from support import MODEL, SMALL
from zygote import Run, Zygote

from vidinit.engine import checkpoint_folders as folders

# Whatever could lose its state between two steps.
EXACT = [
    *SMALL,
    *("data.workers=2", "data.batch_size=2", "train.log_every=1", "train.save_steps=2"),
    *("train.ema=0.9", "train.accumulate=2", "train.dropout=0.2", "train.drop_path=0.1"),
    *("train.clip_grad=1", "train.warmup_epochs=0.5", "train.keep=3"),
]
MIXED = ["data.mixup=0.2", "data.cutmix=0.2", "train.label_smoothing=0.1"]
# Lines of metrics.jsonl with these may differ between two runs of one configuration, or be missing
# where a run was stopped behind the last step of an epoch.
TIMES = {"clips_per_second", "data_wait"}


@pytest.fixture(scope="module")
def zygote(tmp_path_factory) -> Iterator[Zygote]:
    made = Zygote(tmp_path_factory.mktemp("zygote"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def lines(motion_set, picture_set) -> dict[str, list[str]]:
    """The command line of each recipe, but for --out."""
    both = ["--data", str(motion_set)]
    sources = ["--source", f"motion={motion_set},share=0.5"]
    sources += ["--images", f"color={picture_set},accumulate=1"]
    teachers = ["--videos", str(motion_set), "--teacher", "imagenet-lite", "--student", MODEL]
    return {
        "finetune": ["finetune", MODEL, *EXACT, *MIXED, "--epochs", "4", *both],
        "distill": ["distill", *EXACT, "--epochs", "3", *teachers],
        "cotrain": ["cotrain", MODEL, *EXACT, "--epochs", "3", *sources],
    }


@pytest.fixture(scope="module")
def unbroken(zygote, lines, tmp_path_factory) -> Any:
    """From a recipe and further words to the folder of a run that was left alone; made once."""
    made: dict[tuple[str, ...], Path] = {}

    def get(recipe: str, *more: str) -> Path:
        key = (recipe, *more)
        if key not in made:
            out = tmp_path_factory.mktemp("unbroken") / recipe
            run = zygote.start(*lines[recipe], *more, "--out", out)
            assert run.wait() == 0, run.err
            made[key] = out
        return made[key]

    return get


def rows_of(out: Path) -> list[dict[str, Any]]:
    file = out / "metrics.jsonl"
    whole = file.read_text().split("\n")[:-1] if file.is_file() else []
    return [json.loads(line) for line in whole]


def steps_done(out: Path) -> int:
    return max((row["step"] for row in rows_of(out)), default=0)


def wait_for_step(out: Path, step: int, run: Run) -> None:
    """Until metrics.jsonl has that step."""
    until = time.monotonic() + 120
    while steps_done(out) < step:
        assert time.monotonic() < until, run.err
        assert "error:" not in run.err, run.err
        time.sleep(0.003)


def same(a: Any, b: Any) -> bool:
    """Bit for bit, through all containers."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool((a == b).all()) if hasattr(a, "all") else bool(a == b)


def assert_same_run(out: Path, reference: Path) -> None:
    """Weights, what a checkpoint holds, and metrics are those of the other run."""
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (out, reference)]
    assert weights[0] == weights[1], "the saved weights"
    ours, theirs = (folders.newest(run / "checkpoints") for run in (out, reference))
    assert ours is not None and theirs is not None and ours.name == theirs.name
    files = {p.relative_to(theirs) for p in theirs.rglob("*") if p.is_file()}
    assert {p.relative_to(ours) for p in ours.rglob("*") if p.is_file()} == files
    assert {"model.safetensors", "optimizer.bin", "random_states_0.pkl"} <= {p.name for p in files}
    for name in files - {Path(folders.MANIFEST)}:
        if name.suffix in (".bin", ".pkl"):
            states = [torch.load(place / name, weights_only=False) for place in (ours, theirs)]
            assert same(*states), name
        elif name.name == "progress.json":  # of which the seconds spent are nobody's
            told = [json.loads((place / name).read_text()) for place in (ours, theirs)]
            assert all(one.pop("spent") for one in told)
            assert told[0] == told[1]
        else:
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    rows = [[row for row in rows_of(r) if not TIMES & row.keys()] for r in (out, theirs.parents[1])]
    assert rows[0] == rows[1]


def kill_and_resume(zygote: Zygote, line: list[str], out: Path, at: list[int], seed: int) -> Run:
    """One run, killed with all its processes some time after each of these steps, then finished."""
    rng = random.Random(seed)
    resumed: list[str] = []
    for step in at:
        run = zygote.start(*line, "--out", out, *resumed)
        wait_for_step(out, step, run)
        time.sleep(rng.uniform(0, 0.15))
        main = psutil.Process(run.pid)
        for process in [main, *main.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):  # a worker may end by itself just now
                process.kill()
        assert run.wait() == -signal.SIGKILL, "it ended before it was killed"
        resumed = ["--resume"]
    run = zygote.start(*line, "--out", out, *resumed)
    assert run.wait() == 0, run.err
    return run


def some_steps(total: int, count: int, seed: int) -> list[int]:
    """Where to kill: in order, at random, and early enough to come before the end."""
    return sorted(random.Random(seed).choices(range(1, max(2, total - 2)), k=count))


@pytest.mark.parametrize(
    ("recipe", "kills"),
    [
        ("finetune", 2),
        *(
            pytest.param(name, 10, marks=pytest.mark.slow)
            for name in ("finetune", "distill", "cotrain")
        ),
    ],
)
def test_killed_runs_end_with_the_same_bits(recipe, kills, zygote, lines, unbroken, tmp_path):
    reference = unbroken(recipe)
    at = some_steps(steps_done(reference), kills, seed=kills)
    last = kill_and_resume(zygote, lines[recipe], tmp_path / "run", at, seed=kills)
    assert "resuming from" in last.err or at[-1] < 3
    assert_same_run(tmp_path / "run", reference)
    more = zygote.start(*lines[recipe], "--out", tmp_path / "run", "--resume")
    assert more.wait() == 0 and more.out == last.out
    assert "nothing to resume" in more.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("finetune", []),
        # Sources alternate, one of them accumulates: 50 steps in all.
        ("cotrain", ["--epochs", "25", "eval.every=25", "train.save_steps=10"]),
    ],
)
def test_two_killed_processes_end_with_the_same_bits(
    recipe, more, zygote, lines, unbroken, tmp_path
):
    more = ["--processes", "2", "data.workers=1", *more]
    reference = unbroken(recipe, *more)
    total = steps_done(reference)
    assert recipe == "finetune" or total == 50
    at = some_steps(total, 3, seed=5)
    kill_and_resume(zygote, [*lines[recipe], *more], tmp_path / "run", at, seed=5)
    assert_same_run(tmp_path / "run", reference)


@pytest.mark.slow
def test_a_killed_distillation_goes_on_with_its_cache(zygote, lines, tmp_path):
    def line(name: str) -> list[str]:
        more = ["--keep", "0.5", "--picks", "random:2", "distill.view=frame", "distill.size=32"]
        return [*lines["distill"], *more, "--cache", str(tmp_path / name)]

    reference = tmp_path / "reference"
    run = zygote.start(*line("cache-1"), "--out", reference)
    assert run.wait() == 0, run.err
    at = some_steps(steps_done(reference), 4, seed=3)
    kill_and_resume(zygote, line("cache-2"), tmp_path / "run", at, seed=3)
    assert_same_run(tmp_path / "run", reference)


def test_a_killed_run_leaves_no_decoding_workers(zygote, lines, tmp_path):
    run = zygote.start(*lines["finetune"], "--out", tmp_path / "run")
    wait_for_step(tmp_path / "run", 1, run)
    workers = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert len(workers) >= 2
    _gone, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        (signal.SIGHUP, 129),
    ],
)
@pytest.mark.parametrize("world", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_signals_save_within_a_step_and_say_how_to_go_on(
    number, code, world, zygote, lines, unbroken, tmp_path
):
    out = tmp_path / "run"
    more = ["--processes", "2", "data.workers=1"] if world == 2 else []
    reference = unbroken("finetune", *more)
    run = zygote.start(*lines["finetune"], *more, "--out", out)
    wait_for_step(out, 1, run)  # early: the run goes on while this process waits for its turn
    seen = steps_done(out)
    os.kill(run.pid, number)
    assert run.wait() == code, run.err
    newest = folders.newest(out / "checkpoints")
    assert newest is not None, run.err
    assert folders.step_of(newest) == steps_done(out)
    assert seen <= steps_done(out) <= seen + 2, "the step under way, and one that had just ended"
    told = run.err.splitlines()[-1]
    assert told.startswith("error: stopped by") and "Traceback" not in run.err
    typed = re.search(r"vidinit finetune .*--resume", told)
    assert typed is not None, told
    again = zygote.start(*shlex.split(typed[0])[1:])
    assert again.wait() == 0, again.err
    assert f"step {folders.step_of(newest)}" in again.err
    assert_same_run(out, reference)


@pytest.mark.slow
def test_a_full_disk_ends_in_one_line_and_loses_nothing(zygote, lines, unbroken, tmp_path):
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("another process's limits cannot be set here")
    out, line = tmp_path / "run", [*lines["finetune"], "train.select=last"]
    reference = unbroken("finetune", "train.select=last")
    run = zygote.start(*line, "--out", out)
    wait_for_step(out, 4, run)
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (500_000, 500_000))
    assert run.wait() == 1
    told = run.err.splitlines()[-1]
    assert told.startswith("error: cannot write the checkpoint") and "MB are free" in told
    assert not list((out / "checkpoints").glob(".*"))
    newest = folders.newest(out / "checkpoints")
    assert newest is not None and newest.name in told
    again = zygote.start(*line, "--out", out, "--resume")
    assert again.wait() == 0, again.err
    assert_same_run(out, reference)


def test_two_resumes_at_once_are_one(zygote, lines, unbroken, tmp_path):
    """The other one is told who has the folder, and changes nothing in it."""
    out, line = tmp_path / "run", lines["finetune"]
    reference = unbroken("finetune")
    run = zygote.start(*line, "--out", out)
    wait_for_step(out, 3, run)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    two = [zygote.start(*line, "--out", out, "--resume") for _ in range(2)]
    codes = [one.wait() for one in two]
    assert sorted(codes) == [0, 2], [one.err for one in two]
    winner, loser = sorted(two, key=lambda one: codes[two.index(one)])
    told = loser.err.splitlines()[-1]
    assert f"{out} is in use: process {winner.pid} on " in told
    assert f"process {run.pid} on " in winner.err and "is taken over" in winner.err
    assert_same_run(out, reference)
    held = zygote.start(*line, "--out", tmp_path / "other")
    wait_for_step(tmp_path / "other", 1, held)
    for flag in ("--resume", "--overwrite"):
        other = zygote.start(*line, "--out", tmp_path / "other", flag)
        assert other.wait() == 2 and f"is in use: process {held.pid}" in other.err
    os.kill(held.pid, signal.SIGKILL)
    held.wait()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_folder_that_is_gone_is_noticed_and_the_state_saved(
    how, zygote, lines, unbroken, tmp_path
):
    out, line = tmp_path / "run", lines["finetune"]
    reference = unbroken("finetune")
    run = zygote.start(*line, "--out", out)
    wait_for_step(out, 3, run)
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)  # a file may have come while the first one went
    if how == "replaced":
        out.mkdir(exist_ok=True)
        (out / "mine").write_text("another's")
    assert run.wait() == 1, run.err
    told = run.err.splitlines()[-1]
    assert f"the folder {out} was {how}" in told and f"is saved in {out}-saved-1" in told
    assert "Traceback" not in run.err
    if how == "replaced":
        assert [p.name for p in out.iterdir()] == ["mine"]
    typed = re.search(r"vidinit finetune .*--resume", told)
    assert typed is not None
    again = zygote.start(*shlex.split(typed[0])[1:])
    assert again.wait() == 0, again.err
    saved = tmp_path / "run-saved-1"
    weights = [(place / "model" / "model.safetensors").read_bytes() for place in (saved, reference)]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.parametrize("select", ["last", "best"])
def test_what_is_missing_of_a_finish_is_made(select, zygote, lines, unbroken, tmp_path):
    line = [*lines["finetune"], f"train.select={select}"]
    reference = unbroken("finetune", f"train.select={select}")
    out = tmp_path / "moved"
    shutil.copytree(reference, out, symlinks=True)
    weights = (out / "model/model.safetensors").read_bytes()
    for lacking in (["report.html"], ["model", "result.json"]):
        for name in lacking:
            place = out / name
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        run = zygote.start(*line, "--out", out, "--resume", "--json")
        assert run.wait() == 0, run.err
        assert f"{out} is finished but for {lacking[-1]}" in run.err or len(lacking) > 1
        assert (out / "report.html").is_file()
        assert (out / "model/model.safetensors").read_bytes() == weights
        cards = [yaml.safe_load((p / "model" / "model.yaml").read_text()) for p in (out, reference)]
        assert cards[0] == cards[1]
        results = [json.loads((place / "result.json").read_text()) for place in (out, reference)]
        for result in results:  # of the last checkpoint, which came a little before the end
            assert result.pop("seconds") > 0
        assert {**results[0], "out": ""} == {**results[1], "out": ""}
    done = zygote.start(*line, "--out", out, "--resume", "--json")
    assert done.wait() == 0 and json.loads(done.out)["out"] == str(out), (
        "the copy, not the original"
    )
    other = zygote.start(*line, "--out", out, "--resume", "train.lr=0.5")
    assert other.wait() == 2 and "was started with train.lr" in other.err


@pytest.mark.slow
def test_a_terminal_that_is_closed_saves_and_stops(lines, unbroken, tmp_path):
    """SIGHUP, and nothing can be written to stderr any more."""
    pty = pytest.importorskip("pty")
    out, line = tmp_path / "run", lines["finetune"]
    reference = unbroken("finetune")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "vidinit", *line, "--out", str(out)])
    until = time.monotonic() + 120
    while steps_done(out) < 2 and time.monotonic() < until:
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 10_000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    newest = folders.newest(out / "checkpoints")
    assert newest is not None and folders.step_of(newest) == steps_done(out)
    words = ["-m", "vidinit", *line, "--out", str(out), "--resume"]
    assert subprocess.run([sys.executable, *words], capture_output=True).returncode == 0
    assert_same_run(out, reference)


@pytest.mark.slow
def test_a_hundred_kills_at_file_events(zygote, lines, unbroken, tmp_path):
    """Whatever was being written, the run ends with the same bits, a result and a report."""
    line, reference, rng = lines["finetune"], unbroken("finetune"), random.Random(7)
    kills, number = 0, 0
    while kills < 100:
        number += 1
        out = tmp_path / f"run{number}"
        more: tuple[str, ...] = ()
        for _ in range(20):
            event = rng.randrange(1, 90)
            run = zygote.start(*line, "--out", out, *more, kill_at=event, below=out)
            code = run.wait()
            assert code in (0, -signal.SIGKILL), run.err
            more = ("--resume",) if (out / "config.yaml").is_file() else ("--overwrite",)
            if code == 0:
                break
            kills += 1
        last = zygote.start(*line, "--out", out, *more)
        assert last.wait() == 0, last.err
        assert_same_run(out, reference)
        result = json.loads((out / "result.json").read_text())
        assert result["steps"] == steps_done(reference)
        assert "</html>" in (out / "report.html").read_text()
        assert [p.name for p in out.rglob(".*")] == [".vidinit"]
        shutil.rmtree(out)
