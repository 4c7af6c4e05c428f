"""Checkpoints: whole or not there, in rotation, on a full disk, killed at every moment."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from toy import make, weights

from vidinit.config import TrainConfig
from vidinit.engine import checkpoint_folders as folders
from vidinit.engine import resume
from vidinit.engine.resume import Progress
from vidinit.errors import UsageError, VidinitError

TESTS = Path(__file__).parents[1]


def names(checkpoints: Path) -> list[str]:
    return sorted(p.name for p in checkpoints.iterdir())


def train_to(checkpoints: Path, steps: int, *, width: int = 8) -> list[torch.Tensor]:
    """A checkpoint after each step; the weights before the first and after each."""
    accelerator, step = make(width)
    seen = [weights(accelerator)]
    for k in range(1, steps + 1):
        step()
        seen.append(weights(accelerator))
        resume.save(accelerator, checkpoints, Progress(step=k, step_in_epoch=k))
    return seen


def restored(checkpoints: Path, *, width: int = 8) -> tuple[Progress | None, torch.Tensor]:
    accelerator, _ = make(width, seed=99)
    return resume.restore(accelerator, checkpoints), weights(accelerator)


def test_a_restored_run_takes_the_same_steps(tmp_path):
    accelerator, step = make()
    step()
    progress = Progress(step=1, step_in_epoch=1, own_skipped=2, own_bad=["a"])
    folder = resume.save(accelerator, tmp_path, progress)
    assert folder == tmp_path / "step_00000001" and progress.skipped == 2
    for _ in range(3):
        step()
    other, other_step = make(seed=99)
    assert resume.restore(other, tmp_path) == Progress(
        step=1, step_in_epoch=1, skipped=2, bad=["a"]
    )
    for _ in range(3):
        other_step()
    assert torch.equal(weights(other), weights(accelerator)), "weights, Adam and random numbers"
    assert restored(tmp_path / "none")[0] is None


def truncate(folder: Path) -> None:
    with (folder / "optimizer.bin").open("r+b") as file:
        file.truncate(100)


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, "optimizer.bin has 100 of "),
    "one bit": (flip_a_bit, "model.safetensors is not what was written"),
    "file lost": (
        lambda folder: (folder / "progress.json").unlink(),
        "progress.json: No such file or directory",
    ),
    "no manifest": (
        lambda folder: (folder / "manifest.json").unlink(),
        "manifest.json: No such file or directory",
    ),
    "bad manifest": (
        lambda folder: (folder / "manifest.json").write_text("[1"),
        "manifest.json is damaged",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_one_before_a_damaged_checkpoint_is_taken_and_said(kind, tmp_path, capsys):
    seen = train_to(tmp_path, 2)
    damage, reason = DAMAGES[kind]
    damage(tmp_path / "step_00000002")
    progress, found = restored(tmp_path)
    assert progress is not None and progress.step == 1 and torch.equal(found, seen[1])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"checkpoint step_00000002 is damaged ({reason}")
    damage(tmp_path / "step_00000001")
    with pytest.raises(UsageError, match=r"all checkpoints in .* are damaged; delete that folder"):
        restored(tmp_path)


def test_a_damaged_one_does_not_push_out_a_whole_one(tmp_path):
    train_to(tmp_path, 2)
    flip_a_bit(tmp_path / "step_00000002")
    accelerator, step = make()
    progress = resume.restore(accelerator, tmp_path)
    assert progress is not None and progress.step == 1
    (tmp_path / "step_00000002").rename(tmp_path / "step_00000009")  # saved by minutes, say
    step()
    progress.step = 2
    resume.save(accelerator, tmp_path, progress, keep=1)
    assert names(tmp_path) == ["last", "step_00000002"]


def test_the_newest_and_the_best_are_kept(tmp_path):
    accelerator, step = make()
    progress = Progress()
    for value in (0.5, 0.9, 0.7, 0.9, 0.8):
        step()
        progress.step += 1
        progress.epoch += 1
        progress.note_metric(value)
        resume.save(accelerator, tmp_path, progress, keep=2)
    assert names(tmp_path) == ["best", "last", *(f"step_{k:08d}" for k in (2, 4, 5))]
    assert folders.pointed(tmp_path, "last") == tmp_path / "step_00000005"
    assert folders.pointed(tmp_path, "best") == tmp_path / "step_00000002"
    assert (progress.best, progress.best_step, progress.stale) == (0.9, 2, 3)
    shutil.rmtree(tmp_path / "step_00000002")
    resume.save(accelerator, tmp_path, progress, keep=1)
    assert names(tmp_path) == ["last", "step_00000005"], "no name without a checkpoint"


def test_names_are_text_where_there_are_no_symlinks(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    train_to(tmp_path, 2)
    assert (tmp_path / "last").read_text() == "step_00000002\n"
    assert folders.pointed(tmp_path, "last") == tmp_path / "step_00000002"
    assert folders.pointed(tmp_path, "best") is None


def test_a_run_copied_without_its_links_goes_on(tmp_path):
    train_to(tmp_path / "run", 2)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")  # follows the links
    assert (tmp_path / "copy" / "last").is_dir() and not (tmp_path / "copy" / "last").is_symlink()
    train_to(tmp_path / "copy", 3)
    assert folders.pointed(tmp_path / "copy", "last") == tmp_path / "copy" / "step_00000003"


def test_another_number_of_processes_only_between_epochs(tmp_path, capsys):
    accelerator, _ = make()
    resume.save(accelerator, tmp_path, Progress(epoch=1, step=3, world=2))
    progress, _found = restored(tmp_path)
    assert progress is not None and (progress.epoch, progress.world) == (1, 1)
    told = "step_00000003 was written by 2 processes, this run has 1"
    assert told in capsys.readouterr().err
    resume.save(accelerator, tmp_path, Progress(epoch=1, step=4, step_in_epoch=1, world=2))
    with pytest.raises(UsageError, match=r"middle of an epoch by 2 processes.*--processes 2"):
        restored(tmp_path)


def test_when_a_checkpoint_is_due(monkeypatch):
    accelerator, _ = make()
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = resume.Clock(accelerator)

    def saved_at(config: TrainConfig) -> list[int]:
        now[0] = 0.0
        clock.restart()
        found = []
        for step in range(1, 10):
            now[0] += 20
            if resume.due(Progress(step=step), config, clock):
                found.append(step)
                clock.restart()
        return found

    assert saved_at(TrainConfig()) == []
    assert saved_at(TrainConfig(save_steps=4)) == [4, 8]
    assert saved_at(TrainConfig(save_minutes=1)) == [3, 6, 9]
    assert saved_at(TrainConfig(save_steps=4, save_minutes=1)) == [3, 4, 7, 8]


@contextlib.contextmanager
def small_disk(place: Path, megabytes: float) -> Iterator[None]:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 1e6)}", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextlib.contextmanager
def small_files(megabytes: float) -> Iterator[None]:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(megabytes * 1e6), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WIDE = 700  # weights of 2 MB, and Adam's state of 4 MB


def failed_save(checkpoints: Path) -> str:
    accelerator, step = make(WIDE)
    progress = resume.restore(accelerator, checkpoints)
    assert progress is not None and progress.step == 1
    step()
    progress.step = 2
    with pytest.raises(VidinitError) as caught:
        resume.save(accelerator, checkpoints, progress)
    assert caught.value.exit_code == 1
    assert names(checkpoints) == ["last", "step_00000001"], "nothing is left of the new one"
    assert folders.damage(checkpoints / "step_00000001", contents=True) is None
    assert folders.pointed(checkpoints, "last") == checkpoints / "step_00000001"
    return str(caught.value)


@pytest.mark.parametrize("limit", [1, 3])  # megabytes: the model fails, or Adam's state
def test_files_that_may_not_grow_lose_nothing(limit, tmp_path):
    train_to(tmp_path, 1, width=WIDE)
    with small_files(limit):
        told = failed_save(tmp_path)
    assert "cannot write the checkpoint" in told and "it takes about 5.9 MB, " in told
    assert "step_00000001 is kept; make room" in told and "--resume" in told
    train_to(tmp_path, 2, width=WIDE)
    assert folders.pointed(tmp_path, "last") == tmp_path / "step_00000002"


def test_a_full_disk_loses_nothing(tmp_path):
    with small_disk(tmp_path, 10):
        train_to(tmp_path, 1, width=WIDE)
        told = failed_save(tmp_path)
        assert "it takes about 5.9 MB, 0.0 MB are free" not in told, "free space after clearing"
        assert "it takes about 5.9 MB, 4.1 MB are free" in told
        with pytest.raises(VidinitError, match="cannot write"):
            train_to(tmp_path, 2, width=WIDE)


def test_a_first_checkpoint_that_cannot_be_written(tmp_path):
    accelerator, _ = make()
    (tmp_path / "file").write_text("")
    with pytest.raises(VidinitError, match=r"Not a directory\).*there is none before it"):
        resume.save(accelerator, tmp_path / "file" / "checkpoints", Progress(step=1))


@pytest.mark.parametrize("again", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_killed_while_saving(again, tmp_path):
    """At any operation on the file system: the old state or the new one, nothing between."""
    steps = 3 if again else 2
    seen = train_to(tmp_path / "source", steps)
    accelerator, step = make()
    for _ in range(steps + 1):
        step()
    possible = {k: [seen[k]] for k in range(1, steps + 1)}
    possible.setdefault(3, []).append(weights(accelerator))
    (tmp_path / "results").mkdir()
    script = [sys.executable, str(TESTS / "kill_script.py"), str(tmp_path / "source")]
    script += [str(tmp_path / "results")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}
    done = subprocess.run(script, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    places = sorted((tmp_path / "results").iterdir())
    assert len(places) > 30
    new = [False]
    for place in places:
        progress, found = restored(place)
        assert progress is not None
        states = possible[progress.step]
        assert any(torch.equal(found, state) for state in states), place.name
        new.append(progress.step == 3 and torch.equal(found, states[-1]))
        wrong = [folders.damage(p, contents=True) for p in folders.step_folders(place)]
        assert wrong[:2] == [None, None], "never less whole ones than are kept"
        last = folders.pointed(place, "last")
        assert last is not None and folders.damage(last, contents=True) is None
    assert new == sorted(new) and new[-1], "the old state up to some operation, then the new one"


PAIR = """
import sys, time
from pathlib import Path
import torch
import toy
from vidinit.config import TrainConfig
from vidinit.engine import resume
from vidinit.errors import VidinitError

accelerator, step = toy.make()
place, rank = Path(sys.argv[1]), accelerator.process_index
step()
progress = resume.Progress(step=1, world=2, own_skipped=rank + 1, own_bad=["both", f"of {rank}"])
resume.save(accelerator, place, progress)
assert progress.skipped == 3 and progress.bad == ["both", "of 0", "of 1"], progress

clock = resume.Clock(accelerator)
time.sleep(0.2 * rank)  # their watches differ, their answers do not
answers = [None, None]
late = [resume.due(progress, TrainConfig(save_minutes=m / 600), clock) for m in range(1, 12)]
torch.distributed.all_gather_object(answers, late)
assert answers[0] == answers[1], answers

whole = accelerator.save_state
def fail(folder):
    whole(folder)
    if rank == 1:
        raise OSError(28, "No space left on device")
accelerator.save_state = fail
progress.step = 2
try:
    resume.save(accelerator, place, progress)
except VidinitError as error:
    assert "step_00000002 (No space left on device)" in str(error), error
else:
    raise AssertionError("saved")
accelerator.wait_for_everyone()
assert sorted(p.name for p in place.iterdir()) == ["last", "step_00000001"]
assert resume.restore(accelerator, place).step == 1
"""


@pytest.mark.slow
def test_two_processes_save_or_fail_together(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    (tmp_path / "pair.py").write_text(PAIR)
    done = subprocess.run(
        [sys.executable, *launcher, str(tmp_path / "pair.py"), str(tmp_path / "checkpoints")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_progress_json_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        resume.read_progress(tmp_path)
    (tmp_path / "progress.json").write_text(json.dumps({"step": 1, "pets": 3}))
    with pytest.raises(UsageError, match="unexpected keyword argument 'pets'") as caught:
        resume.read_progress(tmp_path)
    assert f"delete the folder {tmp_path.name}" in str(caught.value.hint)
    (place := tmp_path / "step_00000004").mkdir()
    (place / "progress.json").write_text(json.dumps({"step": 4, "epoch": 1, "best": 0.5}))
    assert resume.read_progress(place).epoch == 1
    for wrong in ({"step": 3}, {"epoch": 1.0}, {"best": True}, {"bad": [1]}, {"finished": 0}):
        content = {"step": 4, "epoch": 1, **wrong}
        (place / "progress.json").write_text(json.dumps(content))
        with pytest.raises(UsageError, match=rf"progress.json \({next(iter(wrong))}: "):
            resume.read_progress(place)


def test_the_command_that_goes_on(tmp_path):
    place = Path("runs/my run")
    assert resume.resume_command("distill", place, 1) == (
        "vidinit distill --config 'runs/my run/config.yaml' --out 'runs/my run' --resume"
    )
    assert resume.resume_command("cotrain", Path("r"), 2).endswith("--processes 2 --resume")
