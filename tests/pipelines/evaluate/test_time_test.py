"""`eval` of models on frozen trunks says whether the data needs time; of others it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.checkpoint import save_model
from vidinit.errors import UsageError
from vidinit.text import save_embeddings

HERE = ["data.workers=0", "data.batch_size=4"]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of single frames, averaged: c2d."""
    torch.manual_seed(0)
    model = vidinit.create_model("c2d-test_vit", num_classes=2, frames=4)
    model.spec = replace(model.spec, size=32, stride=2)
    torch.nn.init.normal_(model.head.weight)
    model.classes = ["left", "right"]
    return save_model(model, tmp_path_factory.mktemp("models") / "frames")


def test_single_frames_do_not_see_order(frames, motion_set, tmp_path):
    told = vidinit.evaluate(frames, data=motion_set, out=tmp_path / "a", overrides=HERE)
    time = told["time"]
    assert time["videos"] == 6 and "temporal" not in told
    assert time["ordered"]["top1"] == time["shuffled"]["top1"] == time["mean_pool"]["top1"]
    assert time["ordered"]["top1"] == told["top1"]
    assert time["ordered"]["interval"] == pytest.approx(told["top1_interval"], abs=2e-6)
    assert time["verdict"].endswith("it is the mean of the features itself")
    page = (tmp_path / "a" / "report.html").read_text()
    assert "Does it need time?" in page and "Other orders" not in page
    words = ["eval", frames, "--data", motion_set, "--out", tmp_path / "b", *HERE]
    done = CliRunner().invoke(app, [*map(str, words), "--temporal-test", "shuffle"])
    assert done.exit_code == 0, done.stderr
    assert "does it need time?\n  mean of the features" in done.stdout
    assert "more pass" not in done.stderr, "the shuffled frames were asked for anyway"
    none = vidinit.evaluate(
        frames, data=motion_set, out=tmp_path / "c", overrides=[*HERE, "eval.time_test=false"]
    )
    assert "time" not in none
    assert none == {**{k: v for k, v in told.items() if k != "time"}, "out": none["out"]}


def test_clips_of_one_frame_have_no_order(frames, motion_set, tmp_path, capsys):
    for name, more in (("one", []), ("whole", ["data.sampling=all"])):
        settings = [*HERE, "data.frames=1", *more]
        told = vidinit.evaluate(frames, data=motion_set, out=tmp_path / name, overrides=settings)
        assert ("time" in told) == (name == "whole")
        assert ("not asked: clips of one frame" in capsys.readouterr().err) == (name == "one")


def test_a_trunk_that_was_trained_is_not_asked(trained, motion_set, tmp_path, capsys):
    told = vidinit.evaluate(trained, data=motion_set, out=tmp_path / "a", overrides=HERE)
    assert "time" not in told and "does it need time" not in capsys.readouterr().err


@pytest.mark.slow
def test_with_texts_the_tower_alone_is_the_baseline(motion_set, tmp_path):
    torch.manual_seed(0)
    small = {"gamma": 2, "dim": 64, "temporal_dim": 16, "pools": 1}
    model = vidinit.create_model("dist-test_vit", frames=4, projection=12, **small)
    model.spec = replace(model.spec, size=32, stride=2)
    model.set_text(torch.randn(2, 12), ["left", "right"])
    save_model(model, tmp_path / "dist")
    told = vidinit.evaluate(tmp_path / "dist", data=motion_set, out=tmp_path / "a", overrides=HERE)
    texts = save_embeddings(tmp_path / "t.safetensors", model.head.embeddings, ["left", "right"])
    alone = vidinit.evaluate(
        tmp_path / "dist", data=motion_set, zero_shot=True, text=texts, ensemble=1.0,
        out=tmp_path / "b", overrides=HERE,
    )  # fmt: skip
    assert told["time"]["mean_pool"]["top1"] == alone["top1"] == alone["time"]["mean_pool"]["top1"]
    assert told["time"]["ordered"]["top1"] == told["top1"]


@pytest.mark.slow
def test_a_damaged_baseline_is_an_error_and_none_is_fine(frames, motion_set, tmp_path):
    run = tmp_path / "run"
    vidinit.finetune(
        frames, data=motion_set, probe="attentive:heads=1", out=run, epochs=1, overrides=HERE
    )
    file = run / "model" / "mean_pool.safetensors"
    told = vidinit.evaluate(run, data=motion_set, out=tmp_path / "a", overrides=HERE)
    assert told["time"]["mean_pool"]["change"] == pytest.approx(
        told["time"]["mean_pool"]["top1"] - told["top1"], abs=2e-6
    )
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UsageError, match=r"cannot read .*mean_pool\.safetensors"):
        vidinit.evaluate(run, data=motion_set, out=tmp_path / "b", overrides=HERE)
    file.unlink()
    told = vidinit.evaluate(run, data=motion_set, out=tmp_path / "c", overrides=HERE)
    assert told["time"]["mean_pool"] is None
