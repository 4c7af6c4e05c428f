"""Evaluations: what they write, what is scored again without the model, what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predict_support import lively_run
from support import json_of, moving_bar, run_cli, write_video
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.config.build import build
from vidinit.data.flow.settings import Flow
from vidinit.errors import DataError, UsageError, VidinitError
from vidinit.pipelines.evaluate.run import _check_views
from vidinit.pipelines.evaluate.settings import EvaluateConfig
from vidinit.scoring.predictions import load
from vidinit.zoo.spec import ClipSpec

HERE = ["data.workers=0"]


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_run(trained, tmp_path_factory.mktemp("runs") / "lively")


@pytest.fixture(scope="module")
def scored(run: Path, motion_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of an evaluation with 4 x 3 views, and what it said."""
    out = tmp_path_factory.mktemp("evals") / "scored"
    told = vidinit.evaluate(
        run, data=motion_set, clips=4, crops=3, curve=True, out=out, overrides=HERE
    )
    return out, told


def without_place(told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key != "out"}


def test_what_an_evaluation_says_and_writes(scored, run):
    out, told = scored
    assert told == json.loads((out / "result.json").read_text())
    assert (told["views"], told["clips"], told["crops"], told["average"]) == (12, 4, 3, "softmax")
    assert (told["expected"], told["decoded"], told["videos"], told["missing"]) == (6, 6, 6, [])
    assert told["curve"][-1] == {
        "clips": 4,
        "crops": 3,
        "views": 12,
        **{key: told[key] for key in ("top1", "top5", "mean_class_accuracy")},
    }
    predictions = load(out)
    assert predictions.logits.shape == (72, 2) and predictions.model == str(run)
    assert predictions.classes == ["left", "right"]
    assert told["top1_per_view"] == round(predictions.view_accuracy(), 6)
    assert told["intervals"]["top1"] == told["top1_interval"], "one interval of one figure"
    assert told["classes"] == 2 and "Top-5" not in (out / "report.html").read_text()
    assert np.ptp(predictions.logits, axis=0).min() > 0.1, "the views are told apart"


def test_saved_predictions_are_scored_without_the_model(scored, tmp_path):
    out, told = scored
    again = vidinit.evaluate(predictions=out, curve=True, out=tmp_path / "again")
    assert without_place(again) == without_place(told)
    table = [(folder / "predictions.csv").read_text() for folder in (out, tmp_path / "again")]
    assert table[0] == table[1]
    assert (tmp_path / "again" / "report.html").is_file()
    other = vidinit.evaluate(predictions=out, average="logits", out=tmp_path / "logits")
    assert other["average"] == "logits" and "curve" not in other
    assert load(tmp_path / "logits").average == "logits"
    assert table[0] != (tmp_path / "logits" / "predictions.csv").read_text()
    # As it was recorded, where nothing is said.
    kept = vidinit.evaluate(predictions=tmp_path / "logits", out=tmp_path / "kept")
    assert without_place(kept) == without_place(other)


def test_settings_that_need_the_model(scored, tmp_path):
    out = scored[0]
    for wrong, name in (
        ({"clips": 2}, r"eval\.clips"),
        ({"data": tmp_path}, r"data\.train"),
        ({"temporal_test": "reverse"}, r"eval\.tests"),
        ({"processes": 2}, "--processes"),
    ):
        with pytest.raises(UsageError, match=name):
            vidinit.evaluate(predictions=out, out=tmp_path / "e", **wrong)
    with pytest.raises(UsageError, match="without a model"):
        vidinit.evaluate("r3d-18", predictions=out)
    with pytest.raises(UsageError, match="did you mean 'reverse'"):
        vidinit.evaluate("r3d-18", data=tmp_path, temporal_test="shuffle,revers")
    assert not (tmp_path / "e").exists()


def test_predictions_on_the_command_line(scored, tmp_path):
    line = ["eval", "--predictions", scored[0], "eval.average=logits", "--curve"]
    line += ["--against", scored[0], "--out", tmp_path / "e"]
    done = CliRunner().invoke(app, [*map(str, line), "--json"])
    told = json.loads(done.stdout)
    assert told["average"] == "logits" and told["out"] == str(tmp_path / "e"), done.stderr
    full = CliRunner().invoke(app, [*map(str, line)])
    assert full.exit_code == 2 and "--resume" not in full.stderr, "one evaluation does not resume"
    done = CliRunner().invoke(app, [*map(str, line), "--overwrite"])
    assert "logits averaged" in done.stdout and "  4 x 3: top-1" in done.stdout
    assert "against" in done.stdout and "p = 1" in done.stdout
    cut = tmp_path / "cut.npz"
    cut.write_bytes((scored[0] / "predictions.npz").read_bytes()[:900])
    done = CliRunner().invoke(app, ["eval", "--predictions", str(cut)])
    assert done.exit_code == 3 and "cut off" in done.stderr and "Traceback" not in done.stderr


def test_a_disk_that_is_full_leaves_the_earlier_evaluation(
    scored, run, motion_set, tmp_path, monkeypatch
):
    out = tmp_path / "e"
    shutil.copytree(scored[0], out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    really = os.replace

    def full(source, target):
        if Path(target).name == name:
            raise OSError(28, "No space left on device")
        really(source, target)

    monkeypatch.setattr(os, "replace", full)
    model = {"model": run, "data": motion_set, "overrides": HERE}
    for where, name in (
        (model, "data_health.json"),
        (model, "predictions.npz"),
        ({"predictions": out}, "result.json"),
        ({"predictions": out}, "report.html"),
    ):
        with pytest.raises(VidinitError, match=rf"cannot write .*{name} \(No space left on dev"):
            vidinit.evaluate(**where, out=out, overwrite=True)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        assert [path.name for path in tmp_path.iterdir()] == ["e"]
    name = ""
    vidinit.evaluate(predictions=out, out=out, overwrite=True, average="logits")
    assert load(out).average == "logits" and [p.name for p in tmp_path.iterdir()] == ["e"]


def test_two_runs_and_other_orders_of_the_frames(scored, run, motion_set, tmp_path):
    out = tmp_path / "e"
    told = vidinit.evaluate(
        run,
        data=motion_set,
        temporal_test="reverse,shuffle,freeze",
        against=scored[0],
        out=out,
        overrides=HERE,
    )
    assert set(told["temporal"]) == {"reverse", "shuffle", "freeze"}
    for values in told["temporal"].values():
        assert values["change"]["top1"] == pytest.approx(values["top1"] - told["top1"], abs=2e-6)
        assert 0 < values["p_value"] <= 1
    against = told["against"]
    assert (against["videos"], against["views"], against["only_here"]) == (6, "4x3", 0)
    assert against["metrics"]["top1"]["there"] == scored[1]["top1"]
    whole = json.loads((out / "analysis.json").read_text())
    assert {row["class"] for row in whole["against"]["classes"]} == {"left", "right"}
    assert [row["videos"] for row in whole["classes"]] == [3, 3]
    assert sum(map(sum, whole["confusion"])) == 6
    assert round(whole["calibration"]["ece"], 6) == told["ece"]
    wrong = {row["path"] for row in whole["mistakes"]}
    assert len(wrong) == 6 - round(6 * told["top1"])
    page = (out / "report.html").read_text()
    for title in ("Other orders of the frames", f"Against {run}", "Calibration"):
        assert title in page
    again = vidinit.evaluate(predictions=scored[0], against=out, out=tmp_path / "f")
    assert again["against"]["mcnemar"]["here"] == against["mcnemar"]["there"]


def test_a_class_that_is_looked_for(scored, tmp_path):
    out, told = scored
    two = told["two_class"]
    assert (two["positive"], two["because"]) == ("right", "the second of the two")
    assert (two["videos"], two["positives"], two["threshold"]) == (6, 3, 0.5)
    right = load(out).scores().probabilities[:, 1]
    found, has_class = right >= 0.5, np.array([0, 0, 0, 1, 1, 1], dtype=bool)
    assert two["recall"] == pytest.approx(found[has_class].mean(), abs=1e-6)
    pairs = right[has_class][:, None] - right[~has_class]
    assert two["auc"] == pytest.approx((pairs > 0).mean(), abs=1e-6)
    again = vidinit.evaluate(
        predictions=out, positive="left", out=tmp_path / "a", overrides=["eval.wanted_recall=1"]
    )["two_class"]
    assert again["positive"] == "left" and again["recall"] == 1.0
    assert again["threshold"] == pytest.approx(1 - right[~has_class].max(), abs=2e-6)
    page = (tmp_path / "a" / "report.html").read_text()
    for title in ("Finding left", "Precision and recall: left", "ROC curve: left"):
        assert f"<h2>{title}</h2>" in page
    assert page.index("of 6 videos are right") < page.index("<h2>")
    for wrong, words in (
        ({"positive": "lefd"}, "no class 'lefd'.*left"),
        ({"overrides": ["eval.wanted_recall=1", "eval.threshold=0.2"]}, "give one of them"),
    ):
        with pytest.raises(UsageError, match=words):
            vidinit.evaluate(predictions=out, out=tmp_path / "b", **wrong)
    assert not (tmp_path / "b").exists()


def test_what_cannot_be_compared_is_told_before_anything_is_scored(
    scored, run, motion_set, tmp_path, monkeypatch
):
    def never(*_, **__):
        raise AssertionError("a video was scored")

    monkeypatch.setattr("vidinit.pipelines.evaluate.run.logits_of_videos", never)
    other = tmp_path / "data" / "left"
    shutil.copytree(motion_set / "val" / "left", other)
    options = {"against": scored[0], "out": tmp_path / "e", "overrides": HERE}
    with pytest.raises(DataError, match="have no video in common"):
        vidinit.evaluate(run, val=tmp_path / "data", **options)
    with pytest.raises(UsageError, match=r"predictions\.npz does not exist"):
        vidinit.evaluate(run, data=motion_set, **{**options, "against": run})
    with pytest.raises(UsageError, match="--all-sources makes several"):
        vidinit.evaluate(run, all_sources=True, **options)
    assert not (tmp_path / "e").exists()


def test_data_with_other_classes_leaves_the_earlier_evaluation(scored, run, picture_set, tmp_path):
    out = tmp_path / "e"
    shutil.copytree(scored[0], out)
    with pytest.raises(DataError, match=r"class '(red|green|blue)'"):
        vidinit.evaluate(run, data=picture_set, out=out, overwrite=True, overrides=HERE)
    assert load(out).classes == ["left", "right"]


def test_a_class_without_videos(run, motion_set, tmp_path):
    (tmp_path / "data" / "right").mkdir(parents=True)
    shutil.copytree(motion_set / "val" / "left", tmp_path / "data" / "left")
    told = vidinit.evaluate(run, val=tmp_path / "data", out=tmp_path / "e", overrides=HERE)
    assert told["videos"] == 3 and told["mean_class_accuracy"] == told["top1"]
    assert load(tmp_path / "e").classes == ["left", "right"]


@pytest.mark.slow
def test_all_clips_of_a_video_and_the_video_as_one(run, tmp_path):
    for name, frames in (("left", 13), ("right", 7)):
        write_video(tmp_path / "data" / name / "0.mp4", moving_bar(2, 1, frames=frames))
    here = {"val": tmp_path / "data", "overrides": [*HERE, "data.batch_size=2"]}
    told = vidinit.evaluate(run, **here, views="dense", crops=3, out=tmp_path / "dense")
    assert (told["views"], told["clips"], told["crops"]) == ("dense", "dense", 3)
    dense = load(tmp_path / "dense")
    # Clips of four frames from 0, 4, 8 and, with the end, 9; and from 0 and 3.
    assert dense.views.tolist() == [4 * 3, 2 * 3] and dense.layout == "dense"
    step = vidinit.evaluate(
        run, **{**here, "overrides": [*HERE, "eval.step=1"]}, views="dense", out=tmp_path / "step"
    )
    assert load(tmp_path / "step").views.tolist() == [10, 4] and step["crops"] == 1
    # Batches of two clips or of eight: a clip has its frames in the same other order.
    shuffled = {"views": "dense", "temporal_test": "shuffle"}
    parts = vidinit.evaluate(run, **here, **shuffled, out=tmp_path / "parts")
    whole = vidinit.evaluate(
        run, **{**here, "overrides": HERE}, **shuffled, out=tmp_path / "whole-videos"
    )
    assert parts["temporal"] == whole["temporal"]
    logits = [load(tmp_path / name).logits for name in ("parts", "whole-videos")]
    assert np.allclose(*logits, atol=1e-3) and len(logits[0]) == 6
    lengths = vidinit.evaluate(run, **here, views="whole", out=tmp_path / "whole")
    assert (lengths["views"], lengths["videos"]) == ("whole", 2)
    again = vidinit.evaluate(predictions=tmp_path / "dense", curve=True, out=tmp_path / "again")
    assert again["views"] == "dense" and again["curve"][-1]["top1"] == told["top1"]
    with pytest.raises(UsageError, match="samples 'uniform' frames"):
        sampled = [*HERE, "data.sampling=uniform"]
        vidinit.evaluate(run, **{**here, "overrides": sampled}, views="dense", out=tmp_path / "u")
    for wrong in ({"views": "10"}, {"views": "4x3", "crops": 1}, {"views": "dense", "clips": 2}):
        with pytest.raises(UsageError, match="views"):
            vidinit.evaluate(run, **here, **wrong, out=tmp_path / "w")


@pytest.mark.slow
def test_any_number_of_processes_says_the_same(run, motion_set, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(motion_set / "val", data)
    shutil.copy(motion_set / "train" / "left" / "0.mp4", data / "left" / "more.mp4")
    (data / "right" / "bad.mp4").write_bytes(b"no video")  # eight videos: two, three left over
    line = ["eval", run, "--val", data, "--clips", "2", "--crops", "3", "--curve", "--json"]
    line += ["--temporal-test", "shuffle,freeze", "data.workers=0", "data.batch_size=18"]
    told, files = [], []
    for processes in ("1", "2", "3"):
        out = tmp_path / processes
        told.append(json_of(run_cli(*line, "--processes", processes, "--out", out)))
        assert told[-1].pop("out") == str(out)
        files.append(load(out))
        assert (out / "predictions.csv").read_text() == (tmp_path / "1/predictions.csv").read_text()
        assert (out / "analysis.json").read_text() == (tmp_path / "1/analysis.json").read_text()
    assert told[0] == told[1] == told[2]
    assert (told[0]["expected"], told[0]["decoded"], told[0]["videos"]) == (8, 7, 7)
    assert told[0]["missing"] == [str(data / "right" / "bad.mp4")]
    for other in files[1:]:
        assert np.array_equal(other.logits, files[0].logits), "to the bit"


def test_flow_has_no_other_order_of_frames():
    config = build(EvaluateConfig, overrides={"model": "m", "eval.tests": ["reverse"]})
    spec = ClipSpec(frames=4)
    _check_views(config, spec)
    with pytest.raises(UsageError, match="the flow of a reversed video is not its flow reversed"):
        _check_views(config, spec.of_flow(Flow()))
