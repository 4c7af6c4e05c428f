"""Video encoders of transformers through the commands: probed, scored, predicted with, refused."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from typer.testing import CliRunner
from video_encoders import saved
from vidinit.commands import app

import vidinit
from vidinit.errors import UsageError

HERE = ["data.workers=0", "data.batch_size=4"]
TEACHER = ("--teacher", "imagenet-lite")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("nets") / "jepa", "VJEPA2", "Model")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("nets") / "mae", "VideoMAE", classes=["left", "right"])


def test_a_probe_of_an_encoder(encoder, motion_set, tmp_path):
    out = tmp_path / "run"
    result = vidinit.finetune(
        encoder, data=motion_set, probe="attentive:blocks=2", out=out, overrides=HERE, epochs=1
    )
    assert result["probe"] == "attentive"
    time = result["time"]
    assert time["videos"] == 6 and time["verdict"]
    assert time["ordered"]["top1"] == pytest.approx(result["best"], abs=1e-6)
    assert json.loads((out / "result.json").read_text())["time"] == time
    assert "Does it need time?" in (out / "report.html").read_text()
    scored = vidinit.evaluate(out, data=motion_set, out=tmp_path / "eval", overrides=HERE)
    assert scored["time"] == time, "the same clips, the same draws, the same two heads"
    card = yaml.safe_load((out / "model" / "model.yaml").read_text())
    assert card["name"] == "hf-vjepa2" and "tower" not in card, "a folder may go: it is held whole"
    again = vidinit.load(out)
    assert again.classes == ["left", "right"] and again.pooler is not None


def test_a_classifier_is_scored_and_predicts(classifier, motion_set, tmp_path):
    told = vidinit.evaluate(classifier, data=motion_set, out=tmp_path / "eval", overrides=HERE)
    assert told["videos"] == 6 and told["time"]["mean_pool"] is None
    assert told["time"]["shuffled"]["change"] == pytest.approx(
        told["time"]["shuffled"]["top1"] - told["top1"], abs=2e-6
    )
    done = CliRunner().invoke(
        app, ["predict", str(classifier), str(motion_set / "val"), "--format", "jsonl"]
    )
    assert done.exit_code == 0, done.stderr
    assert {row["classes"][0]["class"] for row in map(json.loads, done.stdout.splitlines())} <= {
        "left",
        "right",
    }


@pytest.mark.parametrize("words, said", [
    (["finetune", "NET", "--data", "DATA"], "nothing of them is trained; train a probe on it"),
    (["eval", "BASE", "--data", "DATA"], "has no classifier; train a probe on it"),
    (["predict", "BASE", "DATA"], "has no classes to predict"),
    (["export", "NET", "--out", "x.onnx"], "cannot be exported"),
    (["export", "NET", "--out", "x.safetensors"], "cannot be exported"),
    (["convert", "NET", "--to", "c2d"], "is taken as it is by finetune --probe and eval"),
    (["convert", "hf:they/net", "--to", "c2d"], "is taken as it is by finetune --probe and eval"),
    (["distill", *TEACHER, "--student", "NET", "--videos", "DATA"], "nothing of them is trained"),
    (["finetune", "NET", "--probe", "linear", "--modality", "flow", "--data", "DATA"], "RGB only"),
    (["eval", "NET", "--data", "DATA", "data.frames=8"], "positions for 4 frames, not 8"),
])  # fmt: skip
def test_what_is_not_for_them_is_refused_in_one_line(
    words, said, encoder, classifier, motion_set, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    places = {"NET": str(classifier), "BASE": str(encoder), "DATA": str(motion_set)}
    done = CliRunner().invoke(app, [places.get(word, word) for word in words])
    assert done.exit_code == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and said in last
    assert not list(tmp_path.glob("*.onnx"))


def test_without_the_library_one_line_says_how_to_get_it(
    classifier, motion_set, tmp_path, monkeypatch
):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UsageError, match="need transformers, which is not installed"):
        vidinit.evaluate(classifier, data=motion_set, out=tmp_path / "eval")


@pytest.mark.slow
def test_a_probe_begins_from_a_copy_of_the_folder(encoder, motion_set, tmp_path):
    """The path is nothing that matters: a link, a space and a colon in it are fine."""
    place = tmp_path / "my nets: one"
    shutil.copytree(encoder, place)
    result = vidinit.finetune(
        place, data=motion_set, probe="linear", out=tmp_path / "run", epochs=1,
        overrides=[*HERE, "eval.time_test=false"],
    )  # fmt: skip
    assert "time" not in result and not list((tmp_path / "run").rglob("mean_pool*"))
