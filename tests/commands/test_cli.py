"""The command line as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from support import MODEL, SMALL, imported_by, json_of, run_cli
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit


def test_help_and_names_load_nothing_heavy():
    code = (
        "import vidinit.commands, vidinit.checkpoint, vidinit.config.build, vidinit.pipelines.run\n"
        "from vidinit.zoo.names import list_models"
    )
    heavy = "torch", "timm", "torchvision", "accelerate", "transformers", "matplotlib"
    assert imported_by(code, *heavy) == []


def test_version_and_module_entry():
    assert CliRunner().invoke(app, ["--version"]).stdout == f"vidinit {vidinit.__version__}\n"
    done = run_cli("--version")
    assert done.stdout == f"vidinit {vidinit.__version__}\n"


def test_convert_json_and_table(tmp_path):
    out = tmp_path / "model"
    line = ["convert", "tf_efficientnet_lite0", "--to", "sts", "--size", "64", "--out", str(out)]
    result = CliRunner().invoke(app, [*line, "--json"])
    value = json.loads(result.stdout)
    assert value["exact"] is True and value["max_difference"] < 1e-4
    keys = {"source", "target", "exact", "max_difference", "params", "gmacs"}
    assert keys | {"copied", "inflated", "initialized"} <= set(value)
    assert {p.name for p in out.iterdir()} == {
        ".vidinit",
        "model.safetensors",
        "model.yaml",
        "report.html",
    }
    # Broken between words where it is narrow: names and numbers stay whole.
    result = CliRunner().invoke(app, [*line, "--overwrite"], env={"COLUMNS": "48"})
    assert result.exit_code == 0, result.stderr
    for part in ("blocks.3", "tensors", "3x5x5", "still clip: exact", "multiply-adds"):
        assert part in result.stdout
    cells = [row.split("│") for row in result.stdout.splitlines() if row.startswith("│")]
    stages = {row[1].strip() for row in cells} - {""}
    assert stages == {"stem", *(f"blocks.{i}" for i in range(7)), "head"}
    assert {row[4].strip() for row in cells} - {""} <= {"copied", "inflated", "initialized"}


def test_default_out_counts_up(motion_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n in (1, 2):
        line = ["convert", "mobilenetv2_050", "--no-pretrained", "--to", "s3d", "--size", "32"]
        result = CliRunner().invoke(app, line)
        assert result.exit_code == 0, result.stderr
        assert (Path("runs") / f"convert-s3d-{n}" / "model.yaml").is_file()


def test_finetune_eval_predict_from_one_folder(motion_set, tmp_path):
    run, line = tmp_path / "run", ["finetune", MODEL, *SMALL, "--data", str(motion_set)]
    result = CliRunner().invoke(app, [*line, "--out", str(run), "--epochs", "1", "--json"])
    assert result.exit_code == 0, result.stderr
    value = json.loads(result.stdout)
    expected = {"out": str(run), "steps": 3, "best": value["best"], "videos": 12, "skipped": 0}
    expected |= {"overlap": 0, "class_clips": {"rarest": 6, "most_frequent": 6}, "notes": []}
    assert all(value[key] == wanted for key, wanted in expected.items())
    more = {"epochs", "seconds", "clips_per_second", "data_wait", "scores", "health"}
    assert set(value) - set(expected) == more
    names = {p.name for p in run.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "data_health.json", "checkpoints"} <= names
    assert {"model", "report.html"} <= names
    scored = CliRunner().invoke(
        app,
        ["eval", str(run), "--data", str(motion_set), "--out", str(tmp_path / "e"), "--json"],
    )
    value = json.loads(scored.stdout)
    assert value["videos"] == 6 and value["views"] == 1 and value["missing"] == []
    assert value["top5"] == 1.0
    model = vidinit.load(run)
    file = motion_set / "val" / "left" / "0.mp4"
    best = model.predict(file, topk=1)
    table = (tmp_path / "e" / "predictions.csv").read_text().splitlines()
    assert f"{file},left,{best[0][0]},{best[0][1]:.6f}" in table
    shown = CliRunner().invoke(
        app, ["eval", str(run), "--val", str(motion_set / "val"), "--out", str(tmp_path / "f")]
    )
    assert "top-1" in shown.stdout and "6 videos" in shown.stdout


def test_multi_view_is_ten_clips_by_three_crops(trained, motion_set, tmp_path):
    line = f"eval {trained} --data {motion_set} --multi-view --json --out {tmp_path / 'e'}"
    result = CliRunner().invoke(app, line.split())
    assert json.loads(result.stdout)["views"] == 30, result.stderr


def test_cotrain_and_its_heads(motion_set, picture_set, tmp_path):
    run = tmp_path / "run"
    line = ["cotrain", MODEL, "--source", f"motion={motion_set},flip=false"]
    line += ["--images", f"color={picture_set}", *SMALL, "--epochs", "2", "--out", str(run)]
    value = json.loads(CliRunner().invoke(app, [*line, "--json"]).stdout)
    # 12 clips in batches of 4; 18 images (after the split) in batches of 4 clips x 4 frames.
    steps = {name: plan["steps_per_epoch"] for name, plan in value["sources"].items()}
    assert steps == {"motion": 3, "color": 1}
    assert value["steps"] == 8
    model = vidinit.load(run, head="color")
    assert model.classes == ["blue", "green", "red"]
    line = f"eval {run} --val {picture_set} --head color --out {tmp_path / 'e'}"
    result = CliRunner().invoke(app, [*line.split(), "--json"])
    assert json.loads(result.stdout)["videos"] == 24, result.stderr


@pytest.mark.slow
def test_distill_then_finetune(motion_set, tmp_path):
    out = tmp_path / "d"
    line = ["distill", "--teacher", "imagenet-lite", "--videos", str(motion_set)]
    result = CliRunner().invoke(
        app, [*line, "--student", MODEL, *SMALL, "--epochs", "1", "--out", str(out), "--json"]
    )
    value = json.loads(result.stdout)
    assert (value["steps"], value["videos"], value["best"]) == (4, 18, None)
    model = vidinit.load(out)
    assert model.num_classes == 1000 and model.classes[281] == "tabby"
    assert model.lineage[-1]["teachers"] == ["imagenet-lite"]


@pytest.mark.slow
def test_a_teacher_with_local_weights(motion_set, tmp_path):
    weights = tmp_path / "teacher.pth"
    torch.save(timm.create_model("mobilenetv2_050", num_classes=7).state_dict(), weights)
    line = ["distill", "--teacher", f"mobilenetv2_050={weights}", "--videos", str(motion_set)]
    result = CliRunner().invoke(
        app, [*line, "--student", MODEL, *SMALL, "--epochs", "1", "--out", str(tmp_path / "d")]
    )
    assert result.exit_code == 0, result.stderr
    assert "3 steps on 12 videos" in result.stdout, "those of train/"
    assert vidinit.load(tmp_path / "d").num_classes == 7


def test_profile_table_and_json(tmp_path):
    line = ["profile", "c2d-mobilenetv2_050", "r2plus1d-18", "--size", "32", "--seconds", "0.01"]
    line += ["--frames", "2", "--batch-sizes", "1,2"]
    out = tmp_path / "p"
    rows = json.loads(CliRunner().invoke(app, [*line, "--json", "--out", str(out)]).stdout)
    assert json.loads((out / "profile.json").read_text()) == rows
    models = ("c2d-mobilenetv2_050", "r2plus1d-18")
    wanted = [(name, 2, batch) for name in models for batch in (1, 2)]
    assert [(row["model"], row["frames"], row["batch_size"]) for row in rows] == wanted
    assert rows[-1]["params"] == 31_505_325
    counted = [*line[:-4], "--count-only"]
    result = CliRunner().invoke(app, counted, env={"COLUMNS": "120"})
    assert "GMACs" in result.stdout and "31.505" in result.stdout
    assert "papers" in result.stdout, "what is counted is said"
    wrong = CliRunner().invoke(app, ["profile", "r3d-18", "--frames", "8,many"])
    assert wrong.exit_code == 2 and "--frames 8,many: not whole numbers" in wrong.stderr


@pytest.mark.slow
def test_a_list_file_is_split_and_scored_on_what_was_held_out(motion_set, tmp_path):
    lines = [
        f"{motion_set}/train/{name}/{i}.mp4 {name}" for name in ("left", "right") for i in range(6)
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    run = tmp_path / "run"
    flags = ["--data", tmp_path / "list.txt", "--epochs", "1", "--out", run, "--json"]
    value = json_of(run_cli("finetune", MODEL, *SMALL, *flags))
    assert value["videos"] == 10, "one of each class is held out"
    held = json.loads((run / "split.json").read_text())["val"]
    assert len(held) == 2
    scored = vidinit.evaluate(run, data=tmp_path / "list.txt", out=tmp_path / "e")
    assert scored["videos"] == 2, "only what the run held out"
