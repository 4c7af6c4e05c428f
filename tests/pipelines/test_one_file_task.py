"""A new training with its command: `brightness.py`, and one line in the registry."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pytest
import typer
from support import MODEL, SMALL, logged
from typer.testing import CliRunner
from vidinit.commands import app as application

import vidinit
from vidinit.errors import UsageError
from vidinit.pipelines import registry
from vidinit.pipelines.registry import BUILD, Command

HERE = "pipelines.brightness"
LINE = {
    "brightness": Command(
        BUILD,
        f"{HERE}:brightness",
        f"{HERE}:BrightnessConfig",
        f"{HERE}:execute",
        trains=True,
        steps=True,
    )
}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The command line as it is where the registry has the line."""
    module = __import__("sys").modules["vidinit.commands.app"]
    with mock.patch.dict(registry.COMMANDS, LINE):
        fresh = typer.Typer(cls=module.Group, no_args_is_help=True)
        monkeypatch.setattr(module, "app", fresh)
        module.register()
        yield fresh


def invoke(app: typer.Typer, *words: object) -> object:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_it_is_a_command_like_others(app: typer.Typer) -> None:
    assert "brightness" in invoke(app, "--help").stdout
    text = " ".join(invoke(app, "brightness", "--help").stdout.split())
    assert "Teach a video model how bright its clips are." in text
    for part in ("--videos", "--exponent", "--dry-run", "--json", "of the brightness", "train.lr"):
        assert part.lower() in text.lower()
    assert "brightness" not in invoke(application, "--help").stdout


def test_it_trains_resumes_and_leaves_a_model(
    app: typer.Typer, motion_set: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    line = ["brightness", MODEL, *SMALL, "--videos", motion_set / "train", "--out", out]
    line += ["--epochs", "4", "--lr", "0.001", "train.optimizer=adamw", "train.log_every=1"]
    line += ["brightness.exponent=2", "--json"]
    done = invoke(app, *line)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["videos"] == 12 and result["out"] == str(out)
    losses = [row["loss"] for row in logged(out) if "loss" in row]
    assert losses[-1] < losses[0] / 2, "it learns"
    assert vidinit.load(out).classes == ["brightness"]
    assert vidinit.load(out).lineage[-1]["step"] == "brightness"
    assert "exponent: 2.0" in (out / "config.yaml").read_text()
    assert "brightness.exponent" in (out / "report.html").read_text()
    again = invoke(app, *line, "--resume")
    assert again.exit_code == 0 and "is finished" in again.stderr
    full = invoke(app, *line)
    assert full.exit_code == 2 and "pass --resume to go on in it" in full.stderr, full.stderr
    shown = invoke(app, *[word for word in line if word != "--json"], "--overwrite")
    assert shown.exit_code == 0 and f"model: {out}/model" in shown.stdout, shown.output


def test_its_errors_are_those_of_the_house(app: typer.Typer, tmp_path: Path) -> None:
    for words, part in (
        (["brightness.exponent=-1"], "brightness.exponent"),
        (["brightness.exponen=1"], "did you mean 'brightness.exponent'"),
        (["train.probes=[linear]"], "train.probes are for vidinit finetune"),
    ):
        done = invoke(app, "brightness", MODEL, "--videos", tmp_path, *words)
        assert done.exit_code == 2 and part in done.stderr, done.output
    with pytest.raises(UsageError, match="is for `vidinit brightness`"):
        (tmp_path / "other.yaml").write_text("command: brightness\nmodel: r3d50\n")
        vidinit.finetune(config=tmp_path / "other.yaml")


def test_it_runs_dry_and_in_two_processes(
    app: typer.Typer, motion_set: Path, tmp_path: Path
) -> None:
    line = ["brightness", MODEL, *SMALL, "--videos", motion_set / "train", "--json"]
    dry = invoke(app, *line, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert json.loads(dry.stdout)["steps_per_epoch"] == 3
