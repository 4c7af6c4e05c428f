"""Model folders go to the hub with a card and come back; checkpoints of others come from it."""

from __future__ import annotations

import json
import shutil

import pytest
import timm
import torch
import yaml
from hub_server import Hub, Repo
from safetensors.torch import save
from support import MODEL, shake_norms
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.checkpoint import model_folder, save_model
from vidinit.errors import UsageError, VidinitError
from vidinit.exports.publish import publish
from vidinit.pipelines.shared.training import open_model
from vidinit.zoo.images import hub as hub_module


def run(*words: object):
    return CliRunner().invoke(app, [*map(str, words)])


def out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub_module.forget()


def test_a_run_goes_there_and_comes_back(hub: Hub, trained, motion_set, tmp_path, monkeypatch):
    done = run("export", trained, "--push-to-hub", "me/motion", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["hub"] == "hf-hub:me/motion" and told["url"] == f"{hub.url}/me/motion"
    assert told["private"] is True
    repo = hub.repos["me/motion"]
    assert repo.private and repo.commits == 1
    assert set(repo.files) == {"README.md", "model.yaml", "model.safetensors"} == set(told["files"])
    for text in (repo.files["README.md"].decode(), repo.files["model.yaml"].decode()):
        assert str(motion_set.parent) not in text and motion_set.name in text

    mine, theirs = vidinit.load(trained), vidinit.load("hf-hub:me/motion")
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(mine(clip), theirs(clip))
    assert theirs.classes == ["left", "right"] and theirs.spec == mine.spec
    predicted = run("predict", "hf-hub:me/motion", motion_set / "val", "--format", "jsonl")
    assert predicted.exit_code == 0 and predicted.stdout.count("\n") == 6, predicted.stderr

    out_of_reach(monkeypatch)  # what was fetched once is there without a network
    assert model_folder("hf-hub:me/motion").is_dir()
    gone = run("predict", "hf-hub:me/other", motion_set / "val")
    assert gone.exit_code == 1 and gone.stderr.count("\n") == 1
    assert "model.yaml of 'me/other' from the hub: it is out of reach" in gone.stderr
    push = run("export", trained, "--push-to-hub", "me/motion")
    assert push.exit_code == 1 and "could not push to 'me/motion': the hub is out" in push.stderr


def test_a_run_starts_from_weights_that_are_there(hub: Hub, trained, motion_set):
    assert run("export", trained, "--push-to-hub", "me/start").exit_code == 0
    model = open_model(MODEL, 2, ["left", "right"], init_from="hf-hub:me/start")
    start = vidinit.load(trained)
    assert torch.equal(model.head.weight, start.head.weight)


def test_a_repository_that_is_there_stays_as_open_as_it_was(hub: Hub, folder, tmp_path):
    hub.repos["me/open"] = Repo(private=False)
    extra = tmp_path / "weights.safetensors"
    told = vidinit.export(folder, out=extra, push_to_hub="hf-hub:me/open")
    assert told["private"] is False and told["tensors"] > 0
    assert hub.repos["me/open"].files["weights.safetensors"] == extra.read_bytes()
    assert publish(folder, "me/new", public=True)["private"] is False
    assert not hub.repos["me/new"].private


def test_a_card_of_ones_own_is_taken(hub: Hub, folder, tmp_path):
    mine = tmp_path / "model"
    shutil.copytree(folder, mine)
    (mine / "README.md").write_text("# Mine\n")
    publish(mine, "me/own")
    assert hub.repos["me/own"].files["README.md"] == b"# Mine\n"


def test_a_push_is_seen_at_once(hub: Hub, folder, tmp_path):
    publish(folder, "me/moving")
    assert vidinit.load("hf-hub:me/moving").classes[1] == "bow"
    model = vidinit.load(folder)
    model.classes = ["x", "y", "z"]
    publish(save_model(model, tmp_path / "again"), "me/moving")
    assert vidinit.load("hf-hub:me/moving").classes == ["x", "y", "z"]
    first = "hf-hub:me/moving@0123"
    with pytest.raises(VidinitError, match="could not get 'me/moving@0123' from the hub"):
        vidinit.load(first)


def test_who_may_not_write_is_told_to_log_in(hub: Hub, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(VidinitError, match=r"not push to 'me/x'; log in with `hf auth login`"):
        publish(folder, "me/x")
    assert hub.repos == {}


def test_a_tower_that_others_do_not_have_is_not_published(hub: Hub, folder, tmp_path):
    mine = tmp_path / "model"
    shutil.copytree(folder, mine)
    card = yaml.safe_load((mine / "model.yaml").read_text())
    card["tower"] = {"name": "vit", "weights": "/data/tower.pth", "sha256": "0"}
    (mine / "model.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(UsageError, match="--whole"):
        publish(mine, "me/x")
    assert hub.repos == {}


def test_what_is_no_model_folder(hub: Hub):
    hub.repos["me/notes"] = Repo(False, {"README.md": b"# Notes"}, 1)
    with pytest.raises(UsageError, match="hf-hub:me/notes is no model folder"):
        vidinit.load("hf-hub:me/notes")
    with pytest.raises(VidinitError, match="get 'me/nothing' from the hub; check the name"):
        vidinit.load("hf-hub:me/nothing")
    for ref in ("hf-hub:me", "hf-hub:", "hf-hub:me/a b"):
        with pytest.raises(UsageError, match="write hf-hub:USER/NAME"):
            vidinit.load(ref)


def test_an_image_network_of_timm_is_a_source(hub: Hub):
    model = timm.create_model("mobilenetv2_035", num_classes=4)
    config = {"architecture": "mobilenetv2_035", "num_classes": 4}
    config["pretrained_cfg"] = {"num_classes": 4}
    files = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save(model.state_dict()),
    }
    hub.repos["me/image"] = Repo(False, files, 1)
    report = vidinit.convert("hf-hub:me/image", "s3d", size=32, frames=2)
    assert report.exact and report.target == "s3d-mobilenetv2_035"
    assert report.model.num_classes == 4 and report.source == "hf-hub:me/image"


def test_a_video_checkpoint_is_a_source(hub: Hub, tmp_path):
    model = vidinit.create_model("x3d-xs", num_classes=3).eval()
    shake_norms(model)
    save_model(model, tmp_path / "model")
    vidinit.export(tmp_path / "model", layout="pytorchvideo", out=tmp_path / "x.pth")
    content = (tmp_path / "x.pth").read_bytes()
    hub.repos["you/x3d"] = Repo(False, {"pytorch_model.bin": content, "old/X3D.pyth": content}, 1)
    for ref in ("hf-hub:you/x3d", "hf-hub:you/x3d/old/X3D.pyth"):
        report = vidinit.convert(ref, "x3d-xs", out=tmp_path / "out", overwrite=True, size=32)
        assert report.layout == "pytorchvideo" and report.source == ref == report.weights
        assert vidinit.load(tmp_path / "out").lineage[0]["source"] == ref
        for key, value in model.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                assert torch.equal(report.model.state_dict()[key], value), key


def test_sources_that_are_none(hub: Hub, folder):
    publish(folder, "me/video")
    hub.repos["me/notes"] = Repo(False, {"README.md": b"# Notes"}, 1)
    with pytest.raises(UsageError, match="hf-hub:me/video is a video model already"):
        vidinit.convert("hf-hub:me/video", "s3d")
    for ref in ("hf-hub:me/notes", "hf-hub:me/notes/weights.pth"):
        with pytest.raises(UsageError, match="has no such weights; name the file"):
            vidinit.convert(ref, "s3d")
    asked = len(hub.asked)
    with pytest.raises(UsageError, match="did you mean 's3d-g'"):
        vidinit.convert("hf-hub:me/video", "s3d-gg")
    assert len(hub.asked) == asked
