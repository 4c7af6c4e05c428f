"""Runs on classes with many clips and with few, and on clips that are validated on, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import SMALL, json_of, logged, run_cli
from torch.nn import CrossEntropyLoss

import vidinit
from vidinit.engine import checkpoint_folders as folders
from vidinit.engine.fit import _Loop
from vidinit.errors import DataError, UsageError
from vidinit.pipelines.finetune.task import ClassifyTask

MODEL = "s3d-test_resnet"  # small
# Statistics of norms stay, so a clip's loss does not depend on which others are in its batch.
HEAD = [*SMALL, "train.freeze=trunk", "train.log_every=1", "train.momentum=0", "train.lr=0.1"]
TIMES = {"clips_per_second", "data_wait"}


@pytest.fixture(scope="module")
def skewed(motion_set: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A list of 14 clips of one class, of which `motion_set` validates on 3, and 1 of another."""
    first, *others = sorted((motion_set / "train" / "right").iterdir())
    many = [*(motion_set / "train" / "left").iterdir(), *(motion_set / "val" / "left").iterdir()]
    rows = [f"{file},left" for file in sorted([*many, *others])]
    file = tmp_path_factory.mktemp("skewed") / "train.csv"
    file.write_text("\n".join(["path,label", *rows, f"{first},right"]))
    return [file, motion_set / "val"]


def train(skewed: list[Path], out: Path, *more: str, **options: Any) -> dict[str, Any]:
    data, val = skewed
    usual: dict[str, Any] = {"data": data, "val": val, "out": out, "epochs": 2}
    return vidinit.finetune(MODEL, overrides=[*HEAD, *more], **{**usual, **options})


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in logged(run) if "loss" in row]


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[list[list[int]]]:
    """A run inside dies before a step; its steps' labels up to there."""
    labels: list[list[int]] = []
    step = _Loop._step

    def mortal(self: Any, group: list[dict[str, Any]], display: Any) -> Any:
        labels.append([label for batch in group for label in batch["label"].tolist()])
        if len(labels) == at:
            raise RuntimeError("killed")
        return step(self, group, display)

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="killed"):
        patched.setattr(_Loop, "_step", mortal)
        yield labels


def test_a_run_on_what_it_validates_on(motion_set, tmp_path, capsys):
    """The usual check of a set-up: it learns a few clips by heart."""
    data = motion_set / "val"
    result = train([data, data.parent / "train" / ".." / "val"], tmp_path / "run", epochs=1)
    assert (result["videos"], result["overlap"]) == (6, 6)
    (note,) = result["notes"]
    assert note.startswith(f"{data}: all 6 validation clips are trained on, too")
    assert f"note: {note}\n" in capsys.readouterr().err
    assert "all 6 validation clips are trained on" in (tmp_path / "run/report.html").read_text()
    assert result["class_clips"] == {"rarest": 3, "most_frequent": 3}


@pytest.mark.slow
def test_skew_and_overlap_are_said_and_balance_resumes_to_the_bit(
    skewed, tmp_path, monkeypatch, capsys
):
    settings = ["data.balance=classes", "train.accumulate=2", "train.save_steps=1"]
    settings += ["data.batch_size=2", "data.mixup=0.2", "train.momentum=0.9"]
    whole = train(skewed, tmp_path / "whole", *settings)
    said = capsys.readouterr().err
    assert (whole["videos"], whole["overlap"], whole["steps"]) == (15, 3, 2 * 3)
    assert whole["class_clips"] == {"rarest": 1, "most_frequent": 14}
    overlap, skew = whole["notes"]
    assert overlap.startswith(f"{skewed[0]}: 3 of 6 validation clips are trained on, too")
    assert skew == (
        f"{skewed[0]}: rarest class 'right' 1 clip, most frequent 'left' 14; data.balance=classes "
        "draws them equally often"
    )
    assert said.count(f"note: {skew}\n") == 1
    with dying(monkeypatch, 5) as calls:
        train(skewed, tmp_path / "broken", *settings)
    # 3 steps of 4 clips an epoch: 6 of each of two classes.
    assert sorted(label for group in calls[:3] for label in group) == [0] * 6 + [1] * 6
    train(skewed, tmp_path / "broken", *settings, resume=True)
    rows = [[r for r in logged(tmp_path / n) if not TIMES & set(r)] for n in ("whole", "broken")]
    assert rows[0] == rows[1] and len(rows[0]) > 6
    for name in ("model/model.safetensors", "last"):
        found = [tmp_path / run / name for run in ("whole", "broken")]
        if name == "last":
            roots = [tmp_path / run / "checkpoints" for run in ("whole", "broken")]
            found = [folders.pointed(root, "last") / "model.safetensors" for root in roots]
        one, two = map(load_file, found)
        assert all(torch.equal(value, two[key]) for key, value in one.items())


@pytest.mark.slow
def test_the_loss_of_a_step_is_that_of_torch(skewed, tmp_path, monkeypatch):
    """Weights of the classes, in a step of 3 batches: that of all their clips at once."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    forward = ClassifyTask.forward

    def noting(self, batch):
        with torch.no_grad():
            seen.append((self.model(batch["clip"]), batch["label"]))
        return forward(self, batch)

    monkeypatch.setattr(ClassifyTask, "forward", noting)
    train(skewed, tmp_path / "run", "train.class_weights=auto", "train.accumulate=3", epochs=3)
    weight = torch.tensor([15 / (2 * 14), 15 / (2 * 1)])
    want = []
    for step in range(3):
        logits, label = (
            torch.cat(part) for part in zip(*seen[3 * step : 3 * step + 3], strict=True)
        )
        want.append(float(CrossEntropyLoss(weight=weight)(logits, label)))
    assert losses(tmp_path / "run") == pytest.approx(want, rel=1e-6)


def test_a_file_of_weights_and_what_the_run_remembers(skewed, tmp_path, monkeypatch, capsys):
    file, out = tmp_path / "w.yaml", tmp_path / "run"
    file.write_text("left: 0.1\nright: 2\n")
    given = f"train.class_weights={file}"
    with dying(monkeypatch, 2):
        train(skewed, out, given, "train.save_steps=1")
    said = capsys.readouterr().err
    assert "train.csv: class weights from 0.1 ('left') to 2 ('right')\n" in said
    assert json.loads((out / "class_weights.json").read_text()) == {
        "class": {"left": 0.1, "right": 2.0}
    }
    with pytest.raises(UsageError, match=r"started with train.class_weights=.*w.yaml, now it is n"):
        train(skewed, out, "train.save_steps=1", resume=True)
    file.write_text("left: 0.1\nright: 3\n")
    with pytest.raises(UsageError, match=r"started with other class weights: those of .*.json; gi"):
        train(skewed, out, given, "train.save_steps=1", resume=True)
    file.write_text("left: 0.1\n")
    with pytest.raises(DataError, match="no weight for 1 of 2 classes: 'right'"):
        train(skewed, tmp_path / "other", given)
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ["train.class_weights=auto"],
        ["train.class_weights=auto", "train.label_smoothing=0.1", "train.accumulate=2"],
        ["train.class_weights={file}", "train.accumulate=2"],
        ["data.balance=classes"],
        ["data.balance=classes", "train.accumulate=2", "data.repeats=2"],
        ["train.class_weights=auto", "--probe", "linear", "--probe", "linear:lr=0.5"],
    ],
    ids=lambda words: "-".join(word.split("=")[-1] for word in words),
)
def test_two_processes_train_as_one(more, skewed, tmp_path):
    file = tmp_path / "w.csv"
    file.write_text("left,0\nright,1\n")  # most batches have no clip that counts
    data, val = skewed
    words = [word.format(file=file) for word in more]
    line = ["finetune", MODEL, *HEAD, *words, "--data", data, "--val", val, "--epochs", "2"]
    if "--probe" in words:
        line.remove("train.freeze=trunk")
    weights = []
    for world in (1, 2):
        out = tmp_path / str(world)
        size = f"data.batch_size={4 // world}"
        json_of(run_cli(*line, size, "--out", out, "--processes", world, "--json"))
        weights.append(load_file(out / "model" / "model.safetensors"))
    told = [losses(tmp_path / str(world)) for world in (1, 2)]
    assert len(told[0]) > 1 and told[1] == pytest.approx(told[0], rel=1e-5)
    for key, value in weights[0].items():
        assert torch.allclose(value, weights[1][key], atol=1e-6, rtol=1e-5), key
