"""Names of files, folders and classes that would drive a terminal are shown by every command."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import MODEL, moving_bar, write_video
from typer.testing import CliRunner, Result
from vidinit.commands import app

import vidinit
from vidinit import checkpoint

EVIL = "x\x1b]0;owned\x07\x1b[2Jy\n\u202egnp [red]z"
SHOWN = r"x\x1b]0;owned\x07\x1b[2Jy\n\u202egnp [red]z"
SECOND = "walk\udcff"
SETTINGS = ["data.workers=0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set and a model folder, of which nearly every name is hostile."""
    place = tmp_path_factory.mktemp("hostile")
    for number, name in enumerate((EVIL, SECOND)):
        for clip in range(2):
            video = moving_bar(4 - 8 * number, clip)
            write_video(place / "made.mp4", video)
            file = place / f"d{EVIL}" / name / f"{clip}{EVIL}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            os.replace(place / "made.mp4", file)
    (place / f"d{EVIL}" / EVIL / f"bad{EVIL}.mp4").write_bytes(b"no video")
    torch.manual_seed(0)
    model = vidinit.create_model(MODEL, num_classes=2, frames=4)
    model.spec = replace(model.spec, size=32, stride=1)
    model.classes = [EVIL, "walk"]
    checkpoint.save_model(model, place / f"m{EVIL}")
    return place


@pytest.fixture(autouse=True)
def _here(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str | Path) -> Result:
    """What a command writes; nothing in it may drive a terminal."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    text = done.stdout + done.stderr
    driving = {c for c in text if c != "\n" and (ord(c) < 32 or 126 < ord(c) < 160)}
    assert not driving and "\u202e" not in text, repr(text)
    assert "\nowned" not in text and "unexpected" not in text
    return done


def test_predictions(root: Path) -> None:
    data, model = root / f"d{EVIL}", root / f"m{EVIL}"
    table = run("predict", model, data, "--topk", "2", *SETTINGS)
    assert table.exit_code == 1 and table.stdout.count(SHOWN) == 2 * (2 * 3 + 1) + 2 * (2 * 2 + 1)
    assert f"cannot read {root}/d{SHOWN}/{SHOWN}/bad{SHOWN}.mp4: " in table.stderr
    rows = run("predict", model, data, "--format", "csv", "--topk", "1", *SETTINGS)
    assert len(rows.stdout.splitlines()) == 1 + 5
    lines = run("predict", model, data, "--format", "jsonl", "--topk", "2", *SETTINGS)
    found = [json.loads(line) for line in lines.stdout.splitlines()]
    assert {one["class"] for row in found for one in row["classes"]} == {EVIL, "walk"}
    assert all(Path(row["path"]).exists() for row in found), "JSON has the names as they are"


def test_a_check_of_data(root: Path) -> None:
    done = run("data", "check", root / f"d{EVIL}")
    assert done.exit_code == 1
    assert f"cannot be read: {root}/d{SHOWN}/{SHOWN}/bad{SHOWN}.mp4: " in done.stdout
    assert r"x\x1b]0;owned" in done.stdout.split("cannot be read")[0], "the class in the table"


def test_an_evaluation(root: Path) -> None:
    out = Path(f"e{EVIL}")
    done = run("eval", root / f"m{EVIL}", "--data", root / f"d{EVIL}", "--out", out,
               "data.max_bad=0.9", *SETTINGS)  # fmt: skip
    assert done.exit_code == 3 and r"'walk\udcff'" in done.stderr


@pytest.mark.slow
def test_a_trial_of_a_training(root: Path) -> None:
    data = root / f"d{EVIL}"
    done = run("finetune", MODEL, "--data", data, "--val", data, "--out", f"f{EVIL}", "--dry-run",
               "data.max_bad=0.9", "data.batch_size=2", "data.frames=4", "data.size=32",
               *SETTINGS)  # fmt: skip
    assert done.exit_code == 0, done.stderr


ERRORS = [
    (["predict", EVIL, "a.mp4"], 2, SHOWN),
    (["predict", f"a/{EVIL}", "a.mp4"], 2, f"a/{SHOWN}"),
    (["predict", "r3d50", EVIL], 1, f"cannot read {SHOWN}: "),
    (["list", "models", EVIL], 2, f"no models match '{SHOWN}'"),
    (["list", EVIL], 2, f"'{SHOWN}' is nothing to list"),
    (["eval", "r3d50", "--data", EVIL], 2, SHOWN),
    (["data", "check", EVIL], 2, SHOWN),
    (["data", "prepare", EVIL, "out"], 2, SHOWN),
    (["preset", "show", EVIL], 2, SHOWN),
    (["preset", "check", EVIL], 2, SHOWN),
    (["finetune", "r3d50", f"train.{EVIL}=3"], 2, SHOWN),
    (["finetune", "r3d50", "--config", EVIL], 2, SHOWN),
    (["convert", EVIL, "--to", "s3d"], 2, SHOWN),
    (["convert", "resnet18", "--to", EVIL], 2, SHOWN),
    (["convert", "resnet18", "--to", "s3d", "--weights", EVIL], 2, SHOWN),
    (["profile", EVIL], 2, SHOWN),
    (["export", EVIL, "--out", "x.onnx"], 2, SHOWN),
    (["distill", "--teacher", "imagenet", "--videos", EVIL], 2, SHOWN),
    (["cotrain", "r3d50", "--source", f"{EVIL}={EVIL}", "--source", "b=b"], 2, SHOWN),
]


@pytest.mark.parametrize(("words", "code", "shown"), ERRORS, ids=range(len(ERRORS)))
def test_errors(words: list[str], code: int, shown: str) -> None:
    done = run(*words)
    assert done.exit_code == code and done.stderr.count("error: ") == 1, done.stderr
    assert shown in done.stderr or shown.replace("\\n", " ") in done.stderr, done.stderr


def test_what_a_model_folder_says(root: Path, tmp_path: Path) -> None:
    place = tmp_path / f"n{EVIL}"
    place.mkdir()
    text = json.dumps({"format": 1, "kind": EVIL, EVIL: 3})
    (place / checkpoint.CARD).write_text(text)
    (place / checkpoint.WEIGHTS).write_bytes(b"")
    done = run("predict", place, "a.mp4")
    assert done.exit_code == 2 and f"unknown key {SHOWN}" in done.stderr
    assert f"{tmp_path}/n{SHOWN}/model.yaml: " in done.stderr
