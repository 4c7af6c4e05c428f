"""What a checkpoint brings back: everything or an error that names the file, and never code."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import MODEL, SMALL
from toy import make, weights
from typer.testing import CliRunner
from vidinit.commands.app import app

import vidinit
from vidinit.engine import checkpoint_folders as folders
from vidinit.engine import resume
from vidinit.engine.averages import MovingAverage
from vidinit.engine.restoring import _check_metadata, read_averages
from vidinit.engine.resume import Progress
from vidinit.errors import UsageError

RAN: list[str] = []


def run_code(what: str) -> str:
    """Stands for whatever an attacker would do."""
    RAN.append(what)
    return what


class Attack:
    """Pickles to a call of `run_code`."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return run_code, (self.what,)


_LOOKED_UP: list[tuple[str, str]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class" and _LOOKED_UP is not None:
        _LOOKED_UP.append((arguments[0], arguments[1]))


sys.addaudithook(_audit)


@pytest.fixture
def looked_up() -> Iterator[list[tuple[str, str]]]:
    """Classes and functions that Python's unpickler looks up while a test runs."""
    _LOOKED_UP.clear()
    RAN.clear()
    yield _LOOKED_UP


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    accelerator, step = make()
    average = MovingAverage(accelerator._models[0], 0.9)
    step()
    average.update()
    return resume.save(accelerator, tmp_path, Progress(step=1, step_in_epoch=1), average=average)


def restore(checkpoints: Path) -> Progress | None:
    accelerator, _ = make(seed=99)
    return resume.restore(accelerator, checkpoints, MovingAverage(accelerator._models[0], 0.9))


def reseal(checkpoint: Path) -> None:
    """An attacker, or a copy with a fault, has matching checksums: they protect from neither."""
    (checkpoint / folders.MANIFEST).unlink()
    folders.seal(checkpoint)
    assert folders.damage(checkpoint, contents=True) is None


FILES = ("optimizer.bin", "random_states_0.pkl")


def test_the_files_are_what_a_resume_reads(checkpoint: Path) -> None:
    names = {path.name for path in checkpoint.iterdir()}
    assert names == {
        *("model.safetensors", "averages.safetensors", "progress.json", "manifest.json"),
        *FILES,
    }


def test_a_resume_looks_no_class_up(checkpoint: Path, looked_up: list[tuple[str, str]]) -> None:
    pickle.loads(pickle.dumps(Attack("to see that the hook works")))
    assert looked_up and RAN
    looked_up.clear()
    assert restore(checkpoint.parent) is not None
    assert looked_up == []


@pytest.mark.parametrize("name", [*FILES, "custom_checkpoint_0.pkl"])
def test_code_in_a_checkpoint_is_not_run(
    name: str, checkpoint: Path, looked_up: list[tuple[str, str]]
) -> None:
    torch.save({"state": Attack(name)}, checkpoint / name)
    if name.startswith("custom"):
        (checkpoint / "averages.safetensors").unlink()
    reseal(checkpoint)
    with pytest.raises(UsageError) as caught:
        restore(checkpoint.parent)
    assert str(checkpoint / name) in caught.value.message
    assert "is not run" in caught.value.message and RAN == [] and looked_up == []
    assert "delete the folder step_00000001 to go on from the checkpoint before it" in str(
        caught.value.hint
    )


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def other_tensors(file: Path) -> None:
    from safetensors.torch import save_file

    found = {"a": torch.zeros(2)}
    save_file(found, file) if file.suffix == ".safetensors" else torch.save(found, file)


def removed(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [emptied, cut, other_tensors, removed])
@pytest.mark.parametrize("name", [*FILES, "model.safetensors", "averages.safetensors"])
def test_what_cannot_be_restored_is_named(
    name: str, damage: Callable[[Path], None], checkpoint: Path
) -> None:
    damage(checkpoint / name)
    reseal(checkpoint)
    with pytest.raises(UsageError) as caught:
        restore(checkpoint.parent)
    text = caught.value.message
    assert name in text or (damage is removed and "no averages" in text)
    assert len(text.splitlines()) == 1 and "\x1b" not in text


def test_random_numbers_go_on(checkpoint: Path) -> None:
    def draw() -> tuple[float, float, float]:
        import random

        return random.random(), float(np.random.rand()), float(torch.rand(()))

    restore(checkpoint.parent)
    first = draw()
    draw()
    restore(checkpoint.parent)
    assert draw() == first


def test_averages_and_no_averages_contradict(tmp_path: Path) -> None:
    accelerator, step = make()
    step()
    resume.save(accelerator, tmp_path, Progress(step=1))
    with pytest.raises(UsageError, match="the checkpoint has no averages"):
        restore(tmp_path)
    average = MovingAverage(accelerator._models[0], 0.9)
    resume.save(accelerator, tmp_path, Progress(step=2), average=average)
    with pytest.raises(UsageError, match=r"the run is without train\.ema"):
        resume.restore(make()[0], tmp_path)


def test_averages_of_0_1(checkpoint: Path) -> None:
    """They were a pickle of tensors."""
    new = read_averages(checkpoint)
    assert new is not None
    (checkpoint / "averages.safetensors").unlink()
    torch.save(new, checkpoint / "custom_checkpoint_0.pkl")
    old = read_averages(checkpoint)
    assert old is not None and all(torch.equal(old[key], new[key]) for key in new)
    reseal(checkpoint)
    assert restore(checkpoint.parent) is not None


def test_another_process_than_there_were_keeps_its_seed(checkpoint: Path) -> None:
    text = json.loads((checkpoint / "progress.json").read_text())
    text.update(world=2, step_in_epoch=0)
    (checkpoint / "progress.json").write_text(json.dumps(text))
    removed(checkpoint / "random_states_0.pkl")
    reseal(checkpoint)
    accelerator, _ = make(seed=99)
    before = weights(accelerator)
    progress = resume.restore(
        accelerator, checkpoint.parent, MovingAverage(accelerator._models[0], 0.9)
    )
    assert progress is not None and progress.world == 1
    assert not torch.equal(weights(accelerator), before)


def test_metadata_of_shards_holds_classes_of_torch_alone(tmp_path: Path) -> None:
    from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

    file = tmp_path / ".metadata"
    file.write_bytes(pickle.dumps(Metadata({"a": BytesStorageMetadata()})))
    _check_metadata(file)
    RAN.clear()
    for attack in (Attack("x"), Path("/")):
        file.write_bytes(pickle.dumps({"a": attack}))
        if isinstance(attack, Attack):
            with pytest.raises(pickle.UnpicklingError, match="run_code"):
                _check_metadata(file)
    file.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(pickle.UnpicklingError, match=r"(os|posix)\.system"):
        _check_metadata(file)
    assert RAN == [] and os.path.exists(file)


# Through the command line: named, or passed over for the checkpoint before it.

TENSORS = (
    "model.safetensors",
    "averages.safetensors",
    "optimizer.bin",
    "random_states_0.pkl",
)


def flipped(file: Path) -> None:
    found = bytearray(file.read_bytes())
    for place in range(8, len(found), max(len(found) // 40, 1)):
        found[place] ^= 0xFF
    file.write_bytes(bytes(found))


def grain(file: Path) -> None:
    file.write_bytes(bytes(range(256)) * 8)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def code(file: Path) -> None:
    torch.save({"state": Attack(file.name)}, file)


def text(content: str) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.write_text(content, encoding="utf-8")

    write.__name__ = content[:24] or "empty"
    return write


def changed(**values: object) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}), encoding="utf-8")

    write.__name__ = str(values)
    return write


CASES = [
    *(
        (name, damage)
        for name in TENSORS
        for damage in (emptied, cut, flipped, grain, other_tensors, removed, a_folder, code)
    ),
    *(
        ("progress.json", damage)
        for damage in (
            *(emptied, cut, removed, text("[]"), text("null"), text('{"step": 1}')),
            *(changed(step="three"), changed(step=-1), changed(epoch=1e300), changed(epoch=None)),
            *(changed(bad=3), changed(skipped=[]), changed(spent=5), changed(unknown=1)),
        )
    ),
    ("manifest.json", text("{}")),
    ("manifest.json", removed),
]
QUICK = {("optimizer.bin", "code"), ("progress.json", "{'step': 'three'}")}


@pytest.fixture(scope="module")
def half_done(motion_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run after two of three epochs, which has two checkpoints."""
    out = tmp_path_factory.mktemp("damaged") / "run"
    vidinit.finetune(MODEL, data=motion_set, out=out, overrides=OPTIONS, epochs=2)
    shutil.rmtree(out / "model")
    for name in ("result.json", "report.html"):
        (out / name).unlink()
    newest = folders.newest(out / "checkpoints")
    assert newest is not None
    at = newest / "progress.json"
    assert json.loads(at.read_text())["epoch"] == 2
    return out


OPTIONS = [*SMALL, "train.ema=0.5", "train.schedule=constant", "train.warmup_epochs=0"]


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        pytest.param(
            *case,
            marks=() if (case[0], case[1].__name__) in QUICK else pytest.mark.slow,
            id=f"{case[0]} {case[1].__name__}",
        )
        for case in CASES
    ],
)
def test_a_resume_of_a_damaged_checkpoint(
    name: str,
    damage: Callable[[Path], None],
    sealed: bool,
    half_done: Path,
    motion_set: Path,
    tmp_path: Path,
    looked_up: list[tuple[str, str]],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(half_done, run, symlinks=True)
    newest = folders.newest(run / "checkpoints")
    assert newest is not None
    older = [p for p in folders.step_folders(run / "checkpoints") if p != newest]
    before = {p: p.read_bytes() for f in older for p in f.rglob("*") if p.is_file()}
    damage(newest / name)
    if sealed and name != "manifest.json":
        (newest / "manifest.json").unlink()
        try:
            folders.seal(newest)
        except OSError:
            pytest.skip("such a folder cannot be sealed")
    words = ["finetune", MODEL, "--data", motion_set, "--out", run, "--resume", *OPTIONS]
    looked_up.clear()
    done = CliRunner().invoke(app, [*map(str, words), "--epochs", "2", "--json"])
    said = done.stderr
    assert "a fault of vidinit" not in said and "Traceback" not in said, said
    assert RAN == [] and looked_up == []
    if done.exit_code == 0:  # a checkpoint that can be used, or the one before it
        assert json.loads(done.stdout)["steps"] == 6
        return
    assert done.exit_code == 2, said
    error = said.splitlines()[-1]
    assert error.startswith("error: ") and (name in error or "averages" in error), error
    assert {p: p.read_bytes() for p in before} == before, "the older checkpoint is untouched"
