"""After a distillation: its heads are left behind, and its pictures are drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipelines.distill.distill_support import run, tiny_teacher
from safetensors import safe_open
from support import MODEL, SMALL
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.checkpoint import save_model
from vidinit.config import DataConfig
from vidinit.errors import DataError, UsageError
from vidinit.pipelines.distill import report
from vidinit.pipelines.distill.report import distill_report
from vidinit.pipelines.shared.modality import set_modality

FAST = ["data.workers=0"]


@pytest.fixture(scope="module")
def runs(motion_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``distilled``, a run with two teachers; model folders of an inflation and a tuning."""
    root = tmp_path_factory.mktemp("runs")
    teachers = [tiny_teacher(root / "t.pth"), tiny_teacher(root / "u.pth", 1) + ",name=other"]
    run(motion_set, root / "distilled", *teachers)
    model = vidinit.load(root / "distilled")
    history = model.lineage
    model.lineage = [{"step": "convert"}]
    save_model(model, root / "start")
    model.reset_head(3)
    model.classes = ["left", "none", "right"]
    model.lineage = [*history, {"step": "finetune"}]
    save_model(model, root / "tuned")
    model.lineage = [{"step": "convert"}, {"step": "finetune"}]
    save_model(model, root / "tuned-start")
    return root


@pytest.mark.slow
def test_finetune_leaves_the_heads_of_teachers_behind(runs, motion_set, tmp_path, capfd):
    assert vidinit.load(runs / "distilled").num_classes == 9
    vidinit.finetune(
        runs / "distilled", data=motion_set / "val", out=tmp_path / "f", overrides=SMALL, epochs=1
    )
    said = [line for line in capfd.readouterr().err.splitlines() if "new head" in line]
    told = "new head for 2 classes; its head for the 9 classes of its teacher is left behind"
    assert len(said) == 1 and said[0].endswith(f"distilled: {told}")
    model = vidinit.load(tmp_path / "f")
    assert model.classes == ["left", "right"]
    assert [step["step"] for step in model.lineage] == ["distill", "finetune"]
    with safe_open(tmp_path / "f" / "model" / "model.safetensors", "pt") as weights:
        assert [key for key in weights.keys() if "heads" in key] == []  # noqa: SIM118
        assert weights.get_slice("head.weight").get_shape()[0] == 2


def test_the_pictures_from_the_command_line(runs, motion_set, tmp_path):
    broken = tmp_path / "set"
    shutil.copytree(motion_set / "val", broken)
    (broken / "left" / "0.mp4").write_bytes(b"no video")
    line = f"distill --report {runs / 'distilled'} --data {broken} --against {runs / 'start'}"
    line += f" --against plain={MODEL} --out {tmp_path / 'r'} data.workers=0 --json"
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 0, done.stderr
    value = json.loads(done.stdout)
    assert [row["name"] for row in value["models"]] == ["distilled", "inflated", "plain"]
    assert value == json.loads((tmp_path / "r" / "result.json").read_text())
    assert (value["measure"], value["videos"]) == ("neighbor", 5)
    assert value["missing"] == [str(broken / "left" / "0.mp4")]
    assert value["missing"][0] in done.stderr
    # The same weights, and others: the same numbers, and others.
    first, second, plain = value["models"]
    assert first["accuracy"] == second["accuracy"] and first["kernels"] == second["kernels"]
    assert plain["kernels"] != first["kernels"]
    page = (tmp_path / "r" / "report.html").read_text()
    for title in ("Filters over time", "Features by class", "Gain of each class"):
        assert f"<h2>{title}</h2>" in page
    again = CliRunner().invoke(app, line.split())
    assert again.exit_code == 2 and "not empty" in again.stderr


@pytest.mark.slow
def test_accuracies_of_heads_are_those_of_eval(runs, motion_set, tmp_path):
    given = {"data": motion_set, "overrides": FAST}
    out = distill_report(runs / "tuned", out=tmp_path / "r", **given)
    scored = vidinit.evaluate(runs / "tuned", out=tmp_path / "e", **given)
    assert out["models"][0]["accuracy"] == scored["top1"]
    mean = np.mean([row["distilled"] for row in out["classes"]])
    assert mean == pytest.approx(scored["mean_class_accuracy"], abs=1e-6)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What pages were made of: models and clips."""
    seen: list[Any] = []
    make = report.distinit_page

    def noted(models: Any, clips: Any, **options: Any) -> str:
        seen.append((models, clips))
        return make(models, clips, **options)

    monkeypatch.setattr(report, "distinit_page", noted)
    return seen


def test_tuned_runs_are_compared_by_their_heads_and_features_are_those_of_predict(
    runs, motion_set, tmp_path, page
):
    out = distill_report(
        runs / "tuned",
        data=motion_set,
        against=runs / "tuned-start",
        out=tmp_path / "r",
        overrides=FAST,
    )
    assert [row["name"] for row in out["models"]] == ["distilled", "inflated"]
    assert (out["measure"], out["videos"]) == ("head", 6), "the validation part"
    found = vidinit.predict(
        runs / "tuned", motion_set / "val", features=tmp_path / "f.npz", overrides=FAST
    )
    right = [one.classes[0][0] == one.path.parent.name for one in found]
    assert out["models"][0]["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)
    ((_, clips),) = page
    assert clips.labels.tolist() == [0] * 3 + [1] * 3
    written = np.load(tmp_path / "f.npz")
    assert clips.outputs["distilled"].features == pytest.approx(
        written["features"], rel=1e-4, abs=1e-5
    )


def test_runs_are_not_scored_on_what_they_were_trained_on(runs, motion_set, tmp_path):
    rows = [[str(f.resolve()), None, None] for f in sorted((motion_set / "val").glob("*/*.mp4"))]
    places = []
    for name, val in (("a", rows[:4]), ("b", rows[2:]), ("c", [])):
        shutil.copytree(runs / "tuned", tmp_path / name / "model")
        held = {"data": [str((motion_set / "val").resolve())], "val": val}
        (tmp_path / name / "split.json").write_text(json.dumps(held))
        places.append(tmp_path / name)
    first, second, third = places
    given = {"data": motion_set / "val", "overrides": FAST}
    out = distill_report(first, against=[f"b={second}"], out=tmp_path / "r", **given)
    assert out["videos"] == 2, "what both held out"
    with pytest.raises(DataError, match="no clip that all of these runs held out"):
        distill_report(first, against=[f"c={third}"], out=tmp_path / "s", **given)
    assert not (tmp_path / "s").exists()


def test_without_data_there_are_filters(runs, tmp_path):
    line = f"distill --report {runs / 'distilled'} --out {tmp_path / 'r'}"
    for more in ("", " --overwrite"):
        done = CliRunner().invoke(app, (line + more).split())
        assert done.exit_code == 0, done.stderr
        assert done.stdout == f"page: {tmp_path / 'r'}/report.html\n"
        assert "without --data" in done.stderr
    assert "Filters over time" in (tmp_path / "r" / "report.html").read_text()
    assert list(json.loads((tmp_path / "r" / "result.json").read_text())) == ["out", "models"]


def test_random_weights_see_what_the_distilled_model_sees(runs, tmp_path, page):
    model = vidinit.load(runs / "distilled")
    set_modality(model, DataConfig(modality="flow", flow="dis"))
    save_model(model, tmp_path / "flow")
    distill_report(tmp_path / "flow", against=[MODEL], out=tmp_path / "r")
    ((models, _),) = page
    assert models["scratch"].in_channels == 2
    assert models["scratch"].spec == models["distilled"].spec == model.spec


WRONG = {
    "not distilled": ("--report RUNS/start", "start was not distilled"),
    "no run": ("--report RUNS/nothing", "no such model folder"),
    "an unknown zoo name": ("--report RUNS/tuned --against r3d-81", "did you mean"),
    "two of one name": ("--report RUNS/tuned --against RUNS/distilled", "two models are called"),
    "no folder of a name": ("--report RUNS/tuned --against a=", "NAME=FOLDER"),
    "no name of a folder": ("--report RUNS/tuned --against =RUNS/start", "NAME=FOLDER"),
    "no data": ("--report RUNS/tuned --data RUNS/videos", "videos does not exist"),
    "training": ("--report RUNS/tuned --teacher imagenet", "--teacher is for training"),
    "a dry run": ("--report RUNS/tuned --dry-run", "--dry-run is for training"),
    "processes": ("--report RUNS/tuned --processes 2", "--processes is for training"),
    "an automatic batch": ("--report RUNS/tuned --batch-size auto", "auto is for training"),
    "a key of training": ("--report RUNS/tuned train.lr=1", "train"),
    "data to distill": ("--data RUNS", "videos to learn from are --videos"),
    "models to distill": ("--against RUNS/start", "--against is for --report"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_are_one_line(case, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line, part = WRONG[case]
    done = CliRunner().invoke(app, ["distill", *line.replace("RUNS", str(runs)).split()])
    assert done.exit_code == 2, done.output
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: ") and part in error
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_several_labels_and_too_few_clips(runs, motion_set, tmp_path):
    left = motion_set / "val" / "left"
    (tmp_path / "multi.csv").write_text(f"path,labels\n{left / '0.mp4'},a|b\n{left / '1.mp4'},b\n")
    with pytest.raises(UsageError, match="several labels"):
        distill_report(runs / "tuned", data=tmp_path / "multi.csv", out=tmp_path / "r")
    (tmp_path / "one.txt").write_text(f"{left / '0.mp4'} left\n")
    with pytest.raises(DataError, match="1 of the 1 videos"):
        distill_report(
            runs / "tuned", data=tmp_path / "one.txt", out=tmp_path / "r", overrides=FAST
        )
    assert not (tmp_path / "r").exists()
