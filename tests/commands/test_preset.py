"""`vidinit preset`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner
from vidinit.commands import app

from vidinit.config.build import build
from vidinit.config.presets import list_presets
from vidinit.pipelines.finetune.settings import FinetuneConfig


def preset(*words: str):
    return CliRunner().invoke(app, ["preset", *words])


def test_list_shows_what_and_how_good():
    result = preset("list")
    assert result.exit_code == 0 and result.stderr == ""
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["preset", "what", "published"]
    assert [row.split()[0] for row in rows] == list_presets(), "one line each"
    (row,) = [row for row in rows if row.startswith("finetune/sts-r3d50_k400 ")]
    assert "STS-SlowOnly-R50, 8 x 8, on Kinetics-400" in row and "75.7 top-1" in row
    found = preset("list", "*_ssv2").stdout.splitlines()
    assert [row.split()[0] for row in found[1:]] == list_presets("*_ssv2") and len(found) > 5


def test_list_as_json():
    rows = json.loads(preset("list", "distill/*", "--json").stdout)
    assert [row["name"] for row in rows] == list_presets("distill/*")
    assert set(rows[0]) == {
        *("name", "title", "source", "needs", "first", "command", "score", "expect", "notes"),
    }
    assert all(row["command"].startswith("vidinit distill ") for row in rows)


def test_show_round_trips_and_says_where_from(tmp_path):
    words = ["sts-r3d50_k400", "train.epochs=100", "data.workers=3"]
    plain, told = preset("show", *words), preset("show", *words, "--origin")
    assert plain.exit_code == told.exit_code == 0
    assert yaml.safe_load(plain.stdout) == yaml.safe_load(told.stdout)
    lines = {
        line.split(":")[0].strip(): line.partition("  # ")[2] for line in told.stdout.split("\n")
    }
    assert lines["epochs"] == lines["workers"] == "the command line"
    assert lines["seed"] == "default"
    assert lines["momentum"].startswith("preset finetune/sts-r3d50_k400:")
    wanted = build(FinetuneConfig, preset="sts-r3d50_k400", overrides=words[1:])
    for shown in (plain, told):
        (tmp_path / "my.yaml").write_text(shown.stdout)
        assert build(FinetuneConfig, file=tmp_path / "my.yaml") == wanted
    assert preset("check", str(tmp_path / "my.yaml")).stdout.endswith("for `vidinit finetune`\n")


def test_show_as_json():
    shown = json.loads(preset("show", "r3d-18_kinetics", "train.lr=0.5", "--json").stdout)
    assert shown["name"] == "distill/r3d-18_kinetics"
    assert shown["config"]["command"] == "distill" and shown["config"]["train"]["lr"] == 0.5
    assert shown["origins"]["train.lr"] == "the command line"
    assert shown["origins"]["distill.picks"].startswith("preset distill/r3d-18_kinetics:")


def test_copy_edit_check(tmp_path):
    file = tmp_path / "my.yaml"
    result = preset("copy", "distill/r3d-18_kinetics", str(file))
    assert result.exit_code == 0 and f"`vidinit distill ... --config {file}`" in result.stdout
    assert file.read_text().startswith("# DistInit: ")
    assert preset("check", str(file)).stdout == f"{file}: valid for `vidinit distill`\n"
    again = preset("copy", "r3d-18_kinetics", str(file))
    assert again.exit_code == 2 and "--force" in again.stderr
    assert preset("copy", "r3d-18_kinetics", str(file), "--force").exit_code == 0
    file.write_text(file.read_text().replace("epochs:", "epocs:").replace("sgd", "sdg"))
    result = preset("check", str(file))
    lines = file.read_text().splitlines()
    (error,) = result.stderr.splitlines()
    assert result.exit_code == 2 and result.stdout == ""
    line = next(n for n, text in enumerate(lines, 1) if text.startswith("  epocs"))
    assert f"unknown key 'train.epocs' in {file}:{line} (did you mean 'train.epochs'" in error
    assert f"train.optimizer in {file}:{line + 1}: " in error and "did you mean 'sgd'" in error


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("list", "nothing*"), "no presets match 'nothing*'"),
        (("show", "sts-r3d50_k40"), "did you mean 'finetune/sts-r3d50_k400'"),
        (("show", "s3d-tf_efficientnet_lite0_demo"), "several presets are called"),
        (("show", "sts-r3d50_k400", "train.epocs=3"), "did you mean 'train.epochs'"),
        (("show", "sts-r3d50_k400", "train.epochs"), "is no override"),
        (("copy", "nothing", "x.yaml"), "unknown preset 'nothing'"),
        (("copy", "sts-r3d50_k400", "."), "is a folder"),
        (("check", "none.yaml"), "no such configuration file: none.yaml"),
        (("chek", "none.yaml"), "No such command 'chek'"),
    ],
)
def test_one_line_and_exit_code_2(words, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = preset(*words)
    (error,) = result.stderr.splitlines()
    assert result.exit_code == 2 and result.stdout == ""
    assert error.startswith("error: ") and part in error
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where():
    result = preset("show", "nothing", "--debug")
    assert "Traceback" in result.stderr and result.stderr.splitlines()[-1].startswith("error: ")


def test_nothing_heavy_is_loaded():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom vidinit.commands import app\n"
        "for words in (['list'], ['show', 'sts-r3d50_k400', '--origin']):\n"
        "    assert CliRunner().invoke(app, ['preset', *words]).exit_code == 0\n"
        "print(sorted({'torch', 'timm', 'accelerate', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


@pytest.mark.parametrize("command", ["", "list", "show", "copy", "check"])
def test_help_fits_and_shows_examples(command):
    words = [command] if command else []
    result = CliRunner().invoke(
        app, ["preset", *words, "--help"], env={"COLUMNS": "100", "TERM": "dumb"}
    )
    assert result.exit_code == 0 and max(map(len, result.stdout.splitlines())) <= 100
    if command:
        assert f"$ vidinit preset {command}" in result.stdout
